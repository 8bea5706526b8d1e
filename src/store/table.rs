//! A bounded, sharded table of counters.
//!
//! Keys are 128-bit fingerprints by SipHash under a random key of the process, so that nobody outside can find two keys that
//! share a counter. A shard is a hash index over a list of slots, which at the same time form a list by last use. A slot costs
//! 64 bytes and the index 5 to 10 more; a sliding window adds 16 bytes an entry.
//!
//! Counters that have run out leave by a sweep of a few slots on each insertion and by [`Table::sweep`]; when a shard is full
//! all the same, the least recently used counter goes, or ([`WhenFull::Overflow`]) new keys share one counter a rule.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::limiter::{Limit, Micros, State};

/// Stands for a counter's key.
pub type Fingerprint = u128;

const NONE: u32 = u32::MAX;
/// Slots looked at on each insertion: two, so that counters that ran out leave faster than new ones come.
const SWEEP_ON_INSERT: u32 = 2;

/// What happens to a new key when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The least recently used counter is forgotten.
    Evict,
    /// New keys of a rule share one counter.
    Overflow,
}

/// Counts of what a table did since the start.
#[derive(Debug, Default)]
pub struct TableStats {
    /// Counters forgotten before they had run out.
    pub evicted: AtomicU64,
    /// Charges that went to a rule's shared counter.
    pub overflowed: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    seed: (u64, u64),
    when_full: WhenFull,
    next_sweep: AtomicUsize,
    pub(super) stats: TableStats,
}

#[derive(Debug)]
struct Slot {
    key: Fingerprint,
    state: State,
    expires: Micros,
    newer: u32,
    older: u32,
}

/// One part of a table; used under its lock.
#[derive(Debug)]
pub(super) struct Shard {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    newest: u32,
    oldest: u32,
    hand: u32,
    slots_max: usize,
}

impl Table {
    /// A table for at most about `keys_max` counters (rounded up to a multiple of the shards).
    pub(super) fn new(keys_max: usize, when_full: WhenFull) -> Self {
        let shards = (keys_max / 64).clamp(1, 256).next_power_of_two();
        let slots_max = keys_max.div_ceil(shards).clamp(1, NONE as usize - 1);
        // The standard library's hasher takes its keys from the system's randomness.
        let random = std::hash::RandomState::new();
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(slots_max))).collect(),
            seed: (random.hash_one(1), random.hash_one(2)),
            when_full,
            next_sweep: AtomicUsize::new(0),
            stats: TableStats::default(),
        }
    }

    pub(super) fn fingerprint(&self, key: &str) -> Fingerprint {
        SipHasher13::new_with_keys(self.seed.0, self.seed.1)
            .hash(key.as_bytes())
            .as_u128()
    }

    /// The fingerprint of the counter that a rule's keys share when the table is full.
    pub(super) fn overflow_fingerprint(&self, rule: u64) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(!self.seed.0, self.seed.1);
        hasher.write_u64(rule);
        hasher.finish128().as_u128()
    }

    pub(super) fn when_full(&self) -> WhenFull {
        self.when_full
    }

    pub(super) fn shard_of(&self, key: Fingerprint) -> usize {
        // The low bits choose the place within the shard.
        usize::try_from((key >> 64) % self.shards.len() as u128).unwrap_or_default()
    }

    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_eviction(&self) {
        self.stats.evicted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_overflow(&self) {
        self.stats.overflowed.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of counters held.
    pub(super) fn len(&self) -> usize {
        (0..self.shards.len())
            .map(|shard| self.lock(shard).slots.len())
            .sum()
    }

    /// Bytes that the counters take, reserved ones included.
    pub(super) fn bytes(&self) -> usize {
        (0..self.shards.len()).map(|shard| self.lock(shard).bytes()).sum()
    }

    /// Looks at some shards, in turn: at about a sixteenth of all counters, and at 65,536 if there are fewer.
    pub(super) fn sweep_part(&self, now: Micros) {
        let mut left = (self.len() / 16).max(65_536);
        for _ in 0..self.shards.len() {
            let shard = self.next_sweep.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            left = left.saturating_sub(self.lock(shard).slots.len() + 64);
            self.sweep_shard(shard, now);
            if left == 0 {
                return;
            }
        }
    }

    /// Removes counters that have run out. Holds each shard's lock for at most 1,024 slots at a time.
    pub(super) fn sweep(&self, now: Micros) {
        for shard in 0..self.shards.len() {
            self.sweep_shard(shard, now);
        }
    }

    fn sweep_shard(&self, shard: usize, now: Micros) {
        let mut left = self.lock(shard).slots.len();
        while left > 0 {
            let step = left.min(1_024);
            self.lock(shard).sweep(now, u32::try_from(step).unwrap_or(1_024));
            left -= step;
        }
        self.lock(shard).give_memory_back();
    }
}

impl Shard {
    fn new(slots_max: usize) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
            hand: 0,
            slots_max,
        }
    }

    fn bytes(&self) -> usize {
        let states: usize = self.slots.iter().map(|slot| slot.state.heap_bytes()).sum();
        self.slots.capacity() * size_of::<Slot>() + self.index.allocation_size() + states
    }

    pub(super) fn get(&self, key: Fingerprint) -> Option<&State> {
        self.find(key).map(|slot| &self.slots[slot as usize].state)
    }

    /// Whether a new key would displace another one, even after what has run out is gone.
    pub(super) fn is_full(&mut self, now: Micros) -> bool {
        if self.slots.len() >= self.slots_max {
            self.sweep(now, SWEEP_ON_INSERT * 4);
        }
        self.slots.len() >= self.slots_max
    }

    /// The counter, made if it is not there, and whether another one had to go for it. [`Shard::settle`] follows the write.
    pub(super) fn get_mut_or_new(
        &mut self,
        key: Fingerprint,
        now: Micros,
        limit: &Limit,
        displace: bool,
    ) -> (&mut State, bool) {
        let mut displaced = false;
        let slot = match self.find(key) {
            Some(slot) => {
                self.touch(slot);
                slot
            }
            None => {
                self.sweep(now, SWEEP_ON_INSERT);
                if displace && self.slots.len() >= self.slots_max {
                    self.remove(self.oldest);
                    displaced = true;
                }
                self.insert(key, State::new(limit.algorithm()))
            }
        };
        // Until it is settled it must not be swept away for another counter of the same request.
        self.slots[slot as usize].expires = Micros::MAX;
        (&mut self.slots[slot as usize].state, displaced)
    }

    /// Notes when a counter that was written will have run out, and that it was used.
    pub(super) fn settle(&mut self, key: Fingerprint, limit: &Limit) {
        if let Some(slot) = self.find(key) {
            self.slots[slot as usize].expires = self.slots[slot as usize].state.expires_us(limit);
            self.touch(slot);
        }
    }

    /// Drops a counter.
    pub(super) fn drop_counter(&mut self, key: Fingerprint) {
        if let Some(slot) = self.find(key) {
            self.remove(slot);
        }
    }

    fn find(&self, key: Fingerprint) -> Option<u32> {
        self.index
            .find(low_bits(key), |slot| self.slots[*slot as usize].key == key)
            .copied()
    }

    fn insert(&mut self, key: Fingerprint, state: State) -> u32 {
        let slot = u32::try_from(self.slots.len()).unwrap_or(NONE);
        if self.slots.len() == self.slots.capacity() {
            // By a quarter: what is reserved and unused of a million counters is felt.
            let more = (self.slots.len() / 4).max(16);
            self.slots
                .reserve_exact(more.min(self.slots_max.saturating_sub(self.slots.len())).max(1));
        }
        self.slots.push(Slot {
            key,
            state,
            expires: 0,
            newer: NONE,
            older: NONE,
        });
        self.link_newest(slot);
        let slots = &self.slots;
        self.index
            .insert_unique(low_bits(key), slot, |slot| low_bits(slots[*slot as usize].key));
        slot
    }

    /// Takes a slot out and moves the last one into its place.
    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        let key = self.slots[slot as usize].key;
        if let Ok(found) = self.index.find_entry(low_bits(key), |at| *at == slot) {
            found.remove();
        }
        let last = u32::try_from(self.slots.len() - 1).unwrap_or(NONE);
        if last != slot {
            let moved = self.slots[last as usize].key;
            if let Some(at) = self.index.find_mut(low_bits(moved), |at| *at == last) {
                *at = slot;
            }
            let (newer, older) = (self.slots[last as usize].newer, self.slots[last as usize].older);
            self.set_older_of(newer, slot);
            self.set_newer_of(older, slot);
        }
        self.slots.swap_remove(slot as usize);
    }

    fn sweep(&mut self, now: Micros, steps: u32) {
        for _ in 0..steps {
            if self.slots.is_empty() {
                return;
            }
            if self.hand as usize >= self.slots.len() {
                self.hand = 0;
            }
            if self.slots[self.hand as usize].expires <= now {
                self.remove(self.hand);
            } else {
                self.hand += 1;
            }
        }
    }

    /// A flood of keys leaves its memory behind once three quarters of it are unused.
    fn give_memory_back(&mut self) {
        if self.slots.capacity() > 1_024 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
            let slots = &self.slots;
            self.index
                .shrink_to(slots.len() * 2, |slot| low_bits(slots[*slot as usize].key));
        }
    }

    fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let before = self.newest;
        self.slots[slot as usize].newer = NONE;
        self.slots[slot as usize].older = before;
        self.newest = slot;
        if before == NONE {
            self.oldest = slot;
        } else {
            self.slots[before as usize].newer = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let (newer, older) = (self.slots[slot as usize].newer, self.slots[slot as usize].older);
        self.set_older_of(newer, older);
        self.set_newer_of(older, newer);
    }

    fn set_older_of(&mut self, slot: u32, older: u32) {
        if slot == NONE {
            self.newest = older;
        } else {
            self.slots[slot as usize].older = older;
        }
    }

    fn set_newer_of(&mut self, slot: u32, newer: u32) {
        if slot == NONE {
            self.oldest = newer;
        } else {
            self.slots[slot as usize].newer = newer;
        }
    }
}

/// What the index within a shard goes by.
fn low_bits(key: Fingerprint) -> u64 {
    u64::try_from(key & u128::from(u64::MAX)).unwrap_or_default()
}
