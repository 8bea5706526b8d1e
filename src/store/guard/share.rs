//! Decisions without the store: each limit by its own rule, counted on this instance's share of it.
//!
//! With n instances, each may admit ⌊L/n⌋ of a limit of L by itself, and of what is left over L mod n instances one more each, which
//! ones being different from key to key. So together they admit L in a window while the store is away, and never more. In a
//! window that spans its loss or its return, the bound is L from the store plus L from the shares.
//! Shares are counted in a memory store that is kept, so that several short outages within a window do not each get one.
//!
//! Where the store may have decided after all, a consume counts twice, which errs to the strict side. A refund must not: it would make
//! room for its hits twice. So it has then no effect on the share.

use std::hash::Hasher as _;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::instances::{Instances, View};
use crate::limiter::{Charge, Limit, Micros, Mode, OnStoreError, Verdict};
use crate::store::memory::MemoryStore;
use crate::store::{Batch, WhenFull};

/// What is said of the wait when nothing is known: a second.
const UNKNOWN_WAIT_US: Micros = 1_000_000;

/// The shares of this instance.
#[derive(Debug)]
pub struct Share {
    counters: MemoryStore,
    instances: Arc<Instances>,
}

impl Share {
    /// The shares of one of `instances`, for at most `keys_max` counters.
    #[must_use]
    pub fn new(keys_max: usize, instances: Arc<Instances>) -> Self {
        Self {
            counters: MemoryStore::new(keys_max, WhenFull::Evict),
            instances,
        }
    }

    /// How many instances share the limits, as far as this one knows.
    #[must_use]
    pub fn instances(&self) -> View {
        self.instances.view()
    }

    /// Where that number comes from.
    #[must_use]
    pub fn counted(&self) -> Arc<Instances> {
        Arc::clone(&self.instances)
    }

    /// Decides a batch without the store, which may have done so as well if that `is_unknown`.
    pub fn decide(&self, batch: &mut Batch, is_unknown: bool) {
        let has_effect = |charge: &Charge| !(is_unknown && charge.mode == Mode::Refund);
        let mut counted = Batch {
            now: batch.now,
            prior: batch.prior,
            ..Batch::default()
        };
        std::mem::swap(&mut counted.keys, &mut batch.keys);
        // All of a request by one view: it may change meanwhile.
        let view = self.instances.view();
        for (at, charge) in batch.charges.iter().enumerate() {
            match batch.on_store_error(at) {
                OnStoreError::Local if !has_effect(charge) => {}
                OnStoreError::Local => {
                    let key = counted.keys.get(charge.counter);
                    counted.charges.push(charge_of(charge, view, key));
                }
                OnStoreError::Allow if charge.quota => counted.prior.quota_limits += 1,
                OnStoreError::Allow => {}
                OnStoreError::Deny | OnStoreError::Strict if charge.mode == Mode::Refund || charge.shadow => {
                }
                OnStoreError::Deny | OnStoreError::Strict if charge.quota => {
                    counted.prior.quota_limits += 1;
                    counted.prior.quota_over += 1;
                }
                OnStoreError::Deny | OnStoreError::Strict => counted.prior.denied = true,
            }
        }
        self.counters.decide_now(&mut counted);
        let mut of_shares = counted.verdicts.iter();
        for (at, charge) in batch.charges.iter().enumerate() {
            let verdict = match batch.on_store_error(at) {
                OnStoreError::Local if has_effect(charge) => of_shares.next().copied().unwrap_or_default(),
                OnStoreError::Local | OnStoreError::Allow => unknown(charge, false),
                OnStoreError::Deny | OnStoreError::Strict => unknown(charge, charge.mode != Mode::Refund),
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
}

fn charge_of(charge: &Charge, view: View, key: &str) -> Charge {
    let (limit, key_hash) = (&charge.limit, hash(key));
    let share = |of: u32| share_of(of, view.count, view.rank, key_hash);
    let (requests, burst) = (share(limit.requests()), share(limit.burst()));
    Charge {
        limit: Limit::new(limit.algorithm(), requests, limit.window_us(), Some(burst)),
        ..*charge
    }
}

/// The share of `limit` that the instance of this `rank` (below `count`) has of a key; without a rank what each of them has at
/// least. The shares of all ranks add up to `limit`.
#[must_use]
pub fn share_of(limit: u32, count: u32, rank: Option<u32>, key_hash: u64) -> u32 {
    let count = count.max(1);
    let (each, left) = (limit / count, limit % count);
    // Another instance is the first for another key; else small limits would all be with the same few.
    let place = |rank: u32| (u64::from(rank) + key_hash % u64::from(count)) % u64::from(count);
    each + u32::from(rank.is_some_and(|rank| place(rank) < left.into()))
}

/// Alike on all instances, of whatever version and machine: no seed.
fn hash(key: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// A verdict on a counter that nobody knows.
fn unknown(charge: &Charge, over: bool) -> Verdict {
    let limit = charge.limit.burst().into();
    let remaining = if over { 0 } else { limit };
    let wait_us = if over { UNKNOWN_WAIT_US } else { 0 };
    Verdict {
        over,
        limit,
        remaining,
        wait_us,
        ..Verdict::default()
    }
}
