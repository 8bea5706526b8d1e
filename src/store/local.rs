//! Token buckets of limits with `scope: local`: counted on this instance alone, whatever the store for the others is.
//!
//! The arithmetic is `governor`'s over states that the same bounded table holds as the memory store's; its time counts from the
//! start of the process.

use super::Batch;
use super::memory::MemoryStore;
use super::table::{TableStats, WhenFull};
use crate::limiter::Micros;

/// The buckets of this instance.
#[derive(Debug)]
pub struct LocalStore {
    buckets: MemoryStore,
    origin: Micros,
}

impl LocalStore {
    /// A store for at most `keys_max` buckets of a process that started at `origin`.
    #[must_use]
    pub fn new(keys_max: usize, origin: Micros) -> Self {
        Self {
            buckets: MemoryStore::new(keys_max, WhenFull::Evict),
            origin,
        }
    }

    /// Decides a batch at once. Its `now` is read as the request's time since the Unix epoch.
    pub fn decide(&self, batch: &mut Batch) {
        batch.now = batch.now.saturating_sub(self.origin);
        self.buckets.decide_now(batch);
    }

    /// Gives back what a batch has charged, because another part of its request was denied. `now` is the time since the Unix epoch:
    /// what the bucket has drained since the charge is gone, and given back it would be somebody else's.
    pub fn give_back(&self, batch: &mut Batch, now: Micros) {
        let at = batch.now;
        batch.now = now.saturating_sub(self.origin).max(at);
        self.buckets.give_back(batch, at);
    }

    /// Removes buckets that are full again.
    pub fn sweep(&self, now: Micros) {
        self.buckets.sweep(now.saturating_sub(self.origin));
    }

    /// Does a part of that; to be called every second.
    pub fn sweep_part(&self, now: Micros) {
        self.buckets.sweep_part(now.saturating_sub(self.origin));
    }

    /// The number of buckets held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether no bucket is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// What happened to keys when the store was full.
    #[must_use]
    pub fn stats(&self) -> &TableStats {
        self.buckets.stats()
    }
}
