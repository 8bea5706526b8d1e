//! Strict limits after a loss of data: what was admitted before is not known any more, so for one window nothing is.

use smallvec::SmallVec;

use super::Remote;
use crate::limiter::{Micros, Mode, OnStoreError, Outcome, Prior};
use crate::store::Batch;

/// The charges of a request on strict limits whose part has lost its data less than a window ago.
#[derive(Debug)]
pub(super) struct Quarantine(SmallVec<[Held; 4]>);

/// One of them.
#[derive(Debug)]
struct Held {
    /// Its place in the batch.
    at: usize,
    /// How long it still lasts.
    left: Micros,
    /// It is of a quota limit that is not on trial.
    quota: bool,
}

impl Quarantine {
    /// `None` if there are none: the usual.
    pub fn of(batch: &Batch, remote: &impl Remote) -> Option<Self> {
        if !batch.on_store_error.contains(&OnStoreError::Strict) {
            return None;
        }
        let mut held = SmallVec::new();
        for (at, charge) in batch.charges.iter().enumerate() {
            if batch.on_store_error(at) != OnStoreError::Strict || charge.mode == Mode::Refund {
                continue;
            }
            let part = remote.part(batch.keys.get(charge.counter), &charge.limit);
            let until = remote
                .emptied_at(part)
                .map_or(0, |emptied| emptied.saturating_add(charge.limit.window_us()));
            if until > batch.now {
                held.push(Held {
                    at,
                    left: until - batch.now,
                    quota: charge.quota && !charge.shadow,
                });
            }
        }
        (!held.is_empty()).then_some(Self(held))
    }

    /// Prepares a batch to be decided with these limits as over, so that the others are charged only if the request is allowed for
    /// all that. Returns the request's own `prior`.
    pub fn begin(&self, batch: &mut Batch) -> Prior {
        let prior = batch.prior;
        for held in &self.0 {
            let charge = &mut batch.charges[held.at];
            if held.quota {
                // Decided already, as if by another part; what its counter says changes nothing.
                (charge.quota, charge.shadow) = (false, true);
                batch.prior.quota_limits += 1;
                batch.prior.quota_over += 1;
            } else if !charge.quota && !charge.shadow {
                batch.prior.denied = true;
            }
        }
        prior
    }

    /// Marks these charges as over in a decided batch, whose `prior` is the request's own again.
    pub fn end(&self, batch: &mut Batch) {
        for held in &self.0 {
            if held.quota {
                let charge = &mut batch.charges[held.at];
                (charge.quota, charge.shadow) = (true, false);
            }
            if let Some(verdict) = batch.verdicts.get_mut(held.at) {
                verdict.show_unbooked();
                verdict.over = true;
                verdict.remaining = 0;
                verdict.wait_us = verdict.wait_us.max(held.left);
            }
        }
        batch.outcome = Outcome::of(&batch.charges, &batch.verdicts, batch.prior);
    }
}
