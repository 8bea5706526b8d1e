//! Denials that are still true: who asks the same again before anything can have changed is told so without the store.
//!
//! A denial of the store says when the same hits fit again. Until then nothing that others consume can make them fit, so the same
//! request is denied for sure; what can is a refund, or hits that are given back. Those of this process raise an epoch of their
//! counter, and a denial is kept and served only as long as the epochs of its counters are those from before the store was asked.
//! Those of other processes are not seen, so nothing is served for more than a second.
//!
//! Shortly before that second is over, one request is let through to the store and the others are still denied: however many ask,
//! the store sees one of them. If it admits that one, the denial is forgotten.
//!
//! The same request is one with equal counters, limits, hits and modes, in the same order. A denial is kept only if nothing of the
//! request had to be written (a record, a refund), and the store itself has decided all of it. The statuses of charges that did
//! fit are those of then.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use crate::limiter::{Charge, Micros, Mode, Prior, Verdict};
use crate::store::Batch;

/// Denials that are kept at most: one a place, the newer takes the place of the older.
const PLACES: usize = 1 << 12;
/// Places for epochs, and for whether a counter was denied lately. What counters share costs a denial, not a wrong answer.
const COUNTERS: usize = 1 << 12;
/// A request of more charges is not kept.
const CHARGES_MAX: usize = 16;
/// Nothing is served for longer.
const LONGEST_US: Micros = 1_000_000;
/// So long before, one request asks the store again.
const RENEWAL_US: Micros = LONGEST_US / 8;

/// The denials of this process.
#[derive(Debug)]
pub(super) struct DenyCache {
    places: Box<[Mutex<Option<Denied>>]>,
    counters: Box<[Counter]>,
    seed: (u64, u64),
    pub stats: DenyStats,
}

/// What the cache did since the start.
#[derive(Debug, Default)]
pub(super) struct DenyStats {
    /// Requests denied without the store.
    pub served: AtomicU64,
    /// Denials kept.
    pub kept: AtomicU64,
}

#[derive(Debug, Default)]
struct Counter {
    /// Raised with each refund and give-back.
    epoch: AtomicU64,
    /// Until when a denial with this counter may be kept.
    until: AtomicU64,
}

#[derive(Debug)]
struct Denied {
    /// Stands for the request.
    request: u128,
    epoch: u64,
    /// From here on the hits may fit, or a second has passed.
    until: Micros,
    /// The first request from here on is let through; `Micros::MAX` when one was, or none need be.
    renew_at: Micros,
    /// When the waits of the verdicts were counted from.
    at: Micros,
    verdicts: SmallVec<[Verdict; 1]>,
}

/// What was true of a request's counters before the store was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    epoch: u64,
    at: Micros,
}

impl Default for DenyCache {
    fn default() -> Self {
        // The standard library's hasher takes its keys from the system's randomness.
        use std::hash::BuildHasher as _;
        let random = std::hash::RandomState::new();
        Self {
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            counters: (0..COUNTERS).map(|_| Counter::default()).collect(),
            seed: (random.hash_one(1), random.hash_one(2)),
            stats: DenyStats::default(),
        }
    }
}

impl DenyCache {
    /// Denies a request by what is known, if it is.
    pub fn serve(&self, batch: &mut Batch) -> bool {
        let now = batch.now;
        if !is_asked(batch) || !self.may_know(batch) {
            return false;
        }
        let request = self.fingerprint(batch);
        let epoch = self.epoch(batch);
        let mut place = self.lock(request);
        let Some(denied) = &mut *place else { return false };
        if denied.request != request || denied.epoch != epoch || denied.until <= now || denied.at > now {
            return false;
        }
        if now >= denied.renew_at {
            denied.renew_at = Micros::MAX;
            return false;
        }
        let passed = now - denied.at;
        batch
            .verdicts
            .extend(denied.verdicts.iter().map(|verdict| Verdict {
                wait_us: verdict.wait_us.saturating_sub(passed),
                ..*verdict
            }));
        drop(place);
        batch.decided();
        self.stats.served.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// To be called before the store is asked.
    pub fn before(&self, batch: &Batch) -> Before {
        for charge in batch.charges.iter().filter(|charge| charge.mode == Mode::Refund) {
            self.raise(batch.keys.hash(charge.counter));
        }
        Before {
            epoch: self.epoch(batch),
            at: batch.now,
        }
    }

    /// To be called when the request is decided; `by_store` says whether the store has decided all of it.
    pub fn after(&self, batch: &Batch, before: Before, by_store: bool) {
        // A refund may have been booked at any time since.
        for charge in batch.charges.iter().filter(|charge| charge.mode == Mode::Refund) {
            self.raise(batch.keys.hash(charge.counter));
        }
        if !by_store || !is_asked(batch) || batch.charges.len() > CHARGES_MAX {
            return;
        }
        if !batch.outcome.denied {
            self.forget(batch);
            return;
        }
        let waits = batch
            .charges
            .iter()
            .zip(&batch.verdicts)
            .filter(|(_, verdict)| verdict.over);
        let Some(wait) = waits.map(|(_, verdict)| verdict.wait_us).min() else {
            return;
        };
        let until = before.at + wait.min(LONGEST_US);
        let renew_at = if wait > LONGEST_US {
            until - RENEWAL_US
        } else {
            Micros::MAX
        };
        if self.epoch(batch) != before.epoch {
            return;
        }
        let request = self.fingerprint(batch);
        *self.lock(request) = Some(Denied {
            request,
            epoch: before.epoch,
            until,
            renew_at,
            at: before.at,
            verdicts: batch.verdicts.as_slice().into(),
        });
        for at in 0..batch.keys.len() {
            self.counter(batch.keys.hash(at))
                .until
                .fetch_max(until, Ordering::Relaxed);
        }
        self.stats.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the denial of a request that the store admits.
    fn forget(&self, batch: &Batch) {
        if !self.may_know(batch) {
            return;
        }
        let request = self.fingerprint(batch);
        let mut place = self.lock(request);
        if place.as_ref().is_some_and(|denied| denied.request == request) {
            *place = None;
        }
    }

    /// Notes that hits were or may be given back to the counter of this hash.
    pub fn raise(&self, hash: u64) {
        self.counter(hash).epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Epochs only grow, so their sum is the same only if all of them are.
    fn epoch(&self, batch: &Batch) -> u64 {
        (0..batch.keys.len())
            .map(|at| self.counter(batch.keys.hash(at)).epoch.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    fn counter(&self, hash: u64) -> &Counter {
        &self.counters[place_of(hash, COUNTERS)]
    }

    /// Whether a denial with one of the request's counters may be kept.
    fn may_know(&self, batch: &Batch) -> bool {
        let until = |at: usize| self.counter(batch.keys.hash(at)).until.load(Ordering::Relaxed);
        (0..batch.keys.len()).any(|at| until(at) > batch.now)
    }

    fn lock(&self, request: u128) -> MutexGuard<'_, Option<Denied>> {
        let low = u64::try_from(request & u128::from(u64::MAX)).unwrap_or_default();
        self.places[place_of(low, PLACES)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// 128 bits under a random key of the process: nobody outside can find two requests that are the same.
    fn fingerprint(&self, batch: &Batch) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        for charge in &batch.charges {
            let key = batch.keys.get(charge.counter);
            hasher.write_usize(key.len());
            hasher.write(key.as_bytes());
            write(&mut hasher, charge);
        }
        hasher.finish128().as_u128()
    }
}

/// Whether nothing of a request is written if it is denied, and the store decides it by itself.
fn is_asked(batch: &Batch) -> bool {
    let writes_nothing = |charge: &Charge| matches!(charge.mode, Mode::Consume | Mode::Peek);
    batch.prior == Prior::default() && batch.charges.iter().all(writes_nothing)
}

/// All of a charge that its verdict depends on, but for its counter.
fn write(hasher: &mut SipHasher13, charge: &Charge) {
    let limit = &charge.limit;
    hasher.write_u8(limit.algorithm() as u8);
    hasher.write_u32(limit.requests());
    hasher.write_u32(limit.burst());
    hasher.write_u64(limit.window_us());
    hasher.write_u64(charge.hits);
    hasher.write_u8(charge.mode as u8);
    hasher.write_u8(u8::from(charge.shadow) | u8::from(charge.quota) << 1);
}

/// `places` is a power of two.
pub(super) fn place_of(hash: u64, places: usize) -> usize {
    usize::try_from(hash >> 16).unwrap_or_default() & (places - 1)
}

#[cfg(test)]
mod tests;
