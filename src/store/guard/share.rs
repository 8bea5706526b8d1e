//! Decisions without the store: each limit by its own rule, counted on this instance's share of it.
//!
//! With n instances, each may admit ⌊L/n⌋ of a limit of L by itself, so together they never admit more than L in a window while
//! the store is away. In a window that spans its loss or its return, the bound is L from the store plus L from the shares.
//! Shares are counted in a memory store that is kept, so that several short outages within a window do not each get one.

use crate::limiter::{Charge, Limit, Micros, Mode, OnStoreError, Verdict};
use crate::store::memory::MemoryStore;
use crate::store::{Batch, WhenFull};

/// What is said of the wait when nothing is known: a second.
const UNKNOWN_WAIT_US: Micros = 1_000_000;

/// The shares of this instance.
#[derive(Debug)]
pub struct Share {
    counters: MemoryStore,
    instances: u32,
}

impl Share {
    /// The shares of one of `instances` instances (at least 1), for at most `keys_max` counters.
    #[must_use]
    pub fn new(keys_max: usize, instances: u32) -> Self {
        Self {
            counters: MemoryStore::new(keys_max, WhenFull::Evict),
            instances: instances.max(1),
        }
    }

    /// Decides a batch without the store.
    pub fn decide(&self, batch: &mut Batch) {
        let mut counted = Batch {
            now: batch.now,
            prior: batch.prior,
            ..Batch::default()
        };
        std::mem::swap(&mut counted.keys, &mut batch.keys);
        for (at, charge) in batch.charges.iter().enumerate() {
            match batch.on_store_error(at) {
                OnStoreError::Local => counted.charges.push(self.share_of(charge)),
                OnStoreError::Allow if charge.quota => counted.prior.quota_limits += 1,
                OnStoreError::Allow => {}
                OnStoreError::Deny if charge.mode == Mode::Refund || charge.shadow => {}
                OnStoreError::Deny if charge.quota => {
                    counted.prior.quota_limits += 1;
                    counted.prior.quota_over += 1;
                }
                OnStoreError::Deny => counted.prior.denied = true,
            }
        }
        self.counters.decide_now(&mut counted);
        let mut of_shares = counted.verdicts.iter();
        for (at, charge) in batch.charges.iter().enumerate() {
            let verdict = match batch.on_store_error(at) {
                OnStoreError::Local => of_shares.next().copied().unwrap_or_default(),
                OnStoreError::Allow => unknown(charge, false),
                OnStoreError::Deny => unknown(charge, charge.mode != Mode::Refund),
            };
            batch.verdicts.push(verdict);
        }
        std::mem::swap(&mut counted.keys, &mut batch.keys);
        batch.outcome = counted.outcome;
    }

    /// Removes shares that have run out.
    pub fn sweep_part(&self, now: Micros) {
        self.counters.sweep_part(now);
    }

    fn share_of(&self, charge: &Charge) -> Charge {
        let limit = &charge.limit;
        let (requests, burst) = (limit.requests() / self.instances, limit.burst() / self.instances);
        Charge {
            limit: Limit::new(limit.algorithm(), requests, limit.window_us(), Some(burst)),
            ..*charge
        }
    }
}

/// A verdict on a counter that nobody knows.
fn unknown(charge: &Charge, over: bool) -> Verdict {
    let remaining = if over { 0 } else { charge.limit.burst().into() };
    let wait_us = if over { UNKNOWN_WAIT_US } else { 0 };
    Verdict {
        over,
        remaining,
        wait_us,
        ..Verdict::default()
    }
}
