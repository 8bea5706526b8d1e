//! Every admission, as the client saw it.

use crate::clock::Nanos;

/// So many are kept by a thread: 480 MB.
const ADMISSIONS_MAX: usize = 20_000_000;

/// One request that was let through. The server decided between the two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Of which key.
    pub key: u32,
    /// How much it was charged.
    pub hits: u32,
    /// Before it was sent.
    pub begin: Nanos,
    /// After the answer was read.
    pub end: Nanos,
}

/// Admissions in the order of their ends.
#[derive(Debug, Clone, Default)]
pub struct History {
    admissions: Vec<Admission>,
    forgotten: u64,
}

impl History {
    /// Keeps one, unless there are too many.
    pub fn push(&mut self, admission: Admission) {
        if self.admissions.len() < ADMISSIONS_MAX {
            self.admissions.push(admission);
        } else {
            self.forgotten += 1;
        }
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.admissions.extend(other.admissions);
        self.forgotten += other.forgotten;
    }

    /// How many were too many to keep.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// By key, and within a key by their beginning.
    pub fn sorted(mut self) -> Vec<Admission> {
        self.admissions
            .sort_unstable_by_key(|admission| (admission.key, admission.begin));
        self.admissions
    }
}

impl FromIterator<Admission> for History {
    fn from_iter<I: IntoIterator<Item = Admission>>(admissions: I) -> Self {
        let mut history = Self::default();
        admissions
            .into_iter()
            .for_each(|admission| history.push(admission));
        history
    }
}
