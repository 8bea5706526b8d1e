//! Every admission, as the client saw it.

use crate::clock::Nanos;

/// So many are kept by a thread: 480 MB.
const ADMISSIONS_MAX: usize = 20_000_000;
const BITS: usize = u64::BITS as usize;

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

/// Admissions in the order of their ends, and the keys that were asked for at all.
#[derive(Debug, Clone, Default)]
pub struct History {
    admissions: Vec<Admission>,
    forgotten: u64,
    /// One bit for each key: 125 KB for a million.
    asked: Vec<u64>,
}

impl History {
    /// A request about this key was sent.
    pub fn ask(&mut self, key: u32) {
        let (word, bit) = (key as usize / BITS, key as usize % BITS);
        if word >= self.asked.len() {
            self.asked.resize(word + 1, 0);
        }
        self.asked[word] |= 1 << bit;
    }

    /// Keeps one, unless there are too many.
    pub fn push(&mut self, admission: Admission) {
        self.ask(admission.key);
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
        self.asked.resize(self.asked.len().max(other.asked.len()), 0);
        for (word, more) in self.asked.iter_mut().zip(other.asked) {
            *word |= more;
        }
    }

    /// How many were too many to keep.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The keys that were asked for, in order.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        let bits = self.asked.len() * BITS;
        let keys = (0..bits).filter(|bit| self.asked[bit / BITS] >> (bit % BITS) & 1 == 1);
        keys.filter_map(|bit| u32::try_from(bit).ok())
    }

    /// By key, and within a key by their beginning.
    pub fn sorted(&mut self) -> &[Admission] {
        self.admissions
            .sort_unstable_by_key(|admission| (admission.key, admission.begin));
        &self.admissions
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
