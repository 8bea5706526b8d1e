//! Counters in this process: the store when there is no Redis, and the degraded mode's when there is one.

use smallvec::SmallVec;
use std::sync::MutexGuard;

use super::table::{Fingerprint, Shard, Table, TableStats, WhenFull};
use super::{Batch, Keys, Step, Store};
use crate::limiter::{self, Counters, Limit, Micros, State};

/// A sharded, bounded store. A request locks the shards of its counters in ascending order, so that requests over several
/// counters are all-or-nothing among themselves and can't wait for each other in a circle.
#[derive(Debug)]
pub struct MemoryStore {
    table: Table,
}

impl MemoryStore {
    /// A store for at most `keys_max` counters.
    #[must_use]
    pub fn new(keys_max: usize, when_full: WhenFull) -> Self {
        Self {
            table: Table::new(keys_max, when_full),
        }
    }

    /// The number of counters held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that the counters take, reserved ones included. Walks over all of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Whether no counter is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened to keys when the store was full.
    #[must_use]
    pub fn stats(&self) -> &TableStats {
        &self.table.stats
    }

    /// Removes counters that have run out.
    pub fn sweep(&self, now: Micros) {
        self.table.sweep(now);
    }

    /// Does a part of that; to be called every second.
    pub fn sweep_part(&self, now: Micros) {
        self.table.sweep_part(now);
    }

    /// Decides a batch at once.
    pub fn decide_now(&self, batch: &mut Batch) {
        let mut held = Held::new(&self.table, batch);
        batch.outcome = limiter::decide(
            batch.now,
            &batch.charges,
            &mut held,
            batch.prior,
            &mut batch.verdicts,
        );
        held.settle();
    }

    /// Gives back at the batch's `now` what it has charged at `at`, because another part of its request was denied.
    pub fn give_back(&self, batch: &mut Batch, at: Micros) {
        let mut held = Held::new(&self.table, batch);
        limiter::give_back(batch.now, at, &batch.charges, &mut held, &mut batch.verdicts);
        held.settle();
    }
}

impl Store for MemoryStore {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        self.decide_now(batch);
        Step::Done
    }

    fn may_wait(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "memory, of this instance alone".to_owned()
    }
}

/// The counters of one request, with the locks of their shards.
struct Held<'t> {
    table: &'t Table,
    now: Micros,
    /// For each counter: its fingerprint, and which of the locks holds it.
    counters: SmallVec<[(Fingerprint, usize); 4]>,
    shards: SmallVec<[MutexGuard<'t, Shard>; 4]>,
    /// What was written, to be settled.
    written: SmallVec<[(usize, Limit); 4]>,
}

impl<'t> Held<'t> {
    fn new(table: &'t Table, batch: &mut Batch) -> Self {
        let (keys, now) = (&batch.keys, batch.now);
        let own = (0..keys.len())
            .map(|index| table.fingerprint(keys.get(index)))
            .collect();
        let mut held = Self::lock(table, own, now);
        if table.when_full() == WhenFull::Overflow
            && let Some(shared) = held.overflow(keys)
        {
            drop(held);
            // Keys that now share a counter must see each other's charges.
            for charge in &mut batch.charges {
                let fingerprint = shared[charge.counter];
                charge.counter = shared
                    .iter()
                    .position(|it| *it == fingerprint)
                    .unwrap_or(charge.counter);
            }
            held = Self::lock(table, shared, now);
        }
        held
    }

    fn lock(table: &'t Table, fingerprints: SmallVec<[Fingerprint; 4]>, now: Micros) -> Self {
        let mut ids: SmallVec<[usize; 4]> = fingerprints.iter().map(|fp| table.shard_of(*fp)).collect();
        ids.sort_unstable();
        ids.dedup();
        let shards = ids.iter().map(|id| table.lock(*id)).collect();
        let counters = fingerprints
            .into_iter()
            .map(|fp| (fp, ids.binary_search(&table.shard_of(fp)).unwrap_or_default()))
            .collect();
        Self {
            table,
            now,
            counters,
            shards,
            written: SmallVec::new(),
        }
    }

    /// The counters to use when some of the request's find no room: those of their rules.
    fn overflow(&mut self, keys: &Keys) -> Option<SmallVec<[Fingerprint; 4]>> {
        let mut fingerprints: SmallVec<[Fingerprint; 4]> = self.counters.iter().map(|(fp, _)| *fp).collect();
        let mut overflows = false;
        for (index, fingerprint) in fingerprints.iter_mut().enumerate() {
            let shard = &mut self.shards[self.counters[index].1];
            if shard.get(*fingerprint).is_none() && shard.is_full(self.now) {
                *fingerprint = self.table.overflow_fingerprint(keys.rule(index));
                self.table.count_overflow();
                overflows = true;
            }
        }
        overflows.then_some(fingerprints)
    }

    fn settle(mut self) {
        for (counter, limit) in std::mem::take(&mut self.written) {
            let (fingerprint, shard) = self.counters[counter];
            self.shards[shard].settle(fingerprint, &limit);
        }
    }
}

impl Counters for Held<'_> {
    fn get(&self, counter: usize) -> Option<&State> {
        let (fingerprint, shard) = self.counters[counter];
        self.shards[shard].get(fingerprint)
    }

    fn get_mut_or_new(&mut self, counter: usize, limit: &Limit) -> &mut State {
        let (fingerprint, shard) = self.counters[counter];
        let displace = self.table.when_full() == WhenFull::Evict;
        self.written.push((counter, *limit));
        let (state, displaced) = self.shards[shard].get_mut_or_new(fingerprint, self.now, limit, displace);
        if displaced {
            self.table.count_eviction();
        }
        state
    }

    fn remove(&mut self, counter: usize) {
        let (fingerprint, shard) = self.counters[counter];
        self.shards[shard].drop_counter(fingerprint);
    }
}
