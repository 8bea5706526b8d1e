//! Strict limits after a loss of data: what was admitted before is not known any more, so for one window nothing is.

use smallvec::SmallVec;

use super::Remote;
use crate::limiter::{Micros, Mode, OnStoreError, Outcome};
use crate::store::Batch;

/// The charges of a request on strict limits whose part has lost its data less than a window ago.
#[derive(Debug)]
pub(super) struct Quarantine {
    /// Each charge's place in the batch, and how long it still lasts.
    charges: SmallVec<[(usize, Micros); 4]>,
    /// Whether one of them denies the request.
    pub denies: bool,
}

impl Quarantine {
    /// `None` if there are none: the usual.
    pub fn of(batch: &Batch, remote: &impl Remote) -> Option<Self> {
        if !batch.on_store_error.contains(&OnStoreError::Strict) {
            return None;
        }
        let mut it = Self {
            charges: SmallVec::new(),
            denies: false,
        };
        for (at, charge) in batch.charges.iter().enumerate() {
            if batch.on_store_error(at) != OnStoreError::Strict || charge.mode == Mode::Refund {
                continue;
            }
            let part = remote.part(batch.keys.get(charge.counter), &charge.limit);
            let until = remote
                .emptied_at(part)
                .map_or(0, |emptied| emptied.saturating_add(charge.limit.window_us()));
            if until > batch.now {
                it.charges.push((at, until - batch.now));
                it.denies |= !charge.shadow && !charge.quota;
            }
        }
        (!it.charges.is_empty()).then_some(it)
    }

    /// Marks these charges as over in a decided batch, whose `prior` is the request's own.
    pub fn mark(&self, batch: &mut Batch) {
        for (at, left) in &self.charges {
            if let Some(verdict) = batch.verdicts.get_mut(*at) {
                verdict.show_unbooked();
                verdict.over = true;
                verdict.remaining = 0;
                verdict.wait_us = verdict.wait_us.max(*left);
            }
        }
        batch.outcome = Outcome::of(&batch.charges, &batch.verdicts, batch.prior);
    }
}
