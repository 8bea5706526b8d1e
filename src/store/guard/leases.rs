//! Hits booked ahead: for hot counters, so that most decisions need no round trip. No I/O and no clock here.
//!
//! A lease is an ordinary charge whose hits are spent later, and it needs no other bookkeeping in the store, because of when hits
//! count:
//!
//! - In a **sliding window** with ticks, hits of a tick count from its *end* on. So hits that are booked now may be spent until the
//!   tick ends, and are counted no earlier than they are spent. Whatever rolling window one looks at, all admitted hits in it were in
//!   the counter when the last of them was booked.
//! - In a **fixed window** hits count in the window that they are booked in, so they may be spent until it ends.
//! - Other limits (sliding windows of up to 125 hits, buckets) are not leased.
//!
//! The end is the store's time, of which only a length comes over: it counts from the moment *before* the store was asked, less a
//! thousandth for clocks that run at different speeds. What is not spent is given back where it was booked, soon after the end or
//! when the counter is asked no more; an instance that dies leaves it behind until it leaves its window.
//!
//! How much is booked follows from what was asked lately, and is at most this instance's part of the room, so what many hold
//! unspent is always less than what is free.

mod heat;
mod lease;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tokio::sync::oneshot;

use self::heat::Heat;
pub(super) use self::lease::{Booked, Returned};
use self::lease::{LONGEST_US, Lease, SHORTEST_US, end_of, per_second};
use super::deny_cache::place_of;
use crate::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior, Verdict};

/// A smaller limit is not worth it; a sliding window of fewer requests has no ticks.
const REQUESTS_MIN: u32 = 126;
/// Fewer hits are not worth a call.
const HITS_MIN: u64 = 4;
/// The most hits of one call.
const HITS_MAX: u64 = 1 << 20;
/// After a call that granted nothing, requests go to the store for so long.
const DRY_US: Micros = 2_000;
/// A counter that nobody asked for so long is forgotten.
const FORGOTTEN_US: Micros = 1_000_000;
/// Counters with leases at most.
const LEASES_MAX: usize = 4_096;
const SHARDS: usize = 64;
/// Places that say whether there may be a lease at all.
const MARKS: usize = 1 << 12;

/// The leases of this process.
#[derive(Debug)]
pub(super) struct Leases {
    shards: Box<[Mutex<HashTable<Lease>>]>,
    /// How many leases have a hash of that place.
    marks: Box<[AtomicU32]>,
    heat: Heat,
    held: AtomicU64,
    pub stats: LeaseStats,
}

/// Hits since the start, but for `calls`.
#[derive(Debug, Default)]
pub struct LeaseStats {
    /// Calls that booked ahead.
    pub calls: AtomicU64,
    /// Booked ahead.
    pub granted: AtomicU64,
    /// Spent without the store.
    pub spent: AtomicU64,
    /// Of these, for requests that were denied all the same: they are held again, or given back.
    pub undone: AtomicU64,
    /// Given back.
    pub returned: AtomicU64,
    /// Neither spent nor, as far as is known, given back: they count until they leave their window.
    pub stranded: AtomicU64,
}

/// Hits to be booked ahead.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub hash: u64,
    pub key: Box<str>,
    pub limit: Limit,
    pub hits: u64,
}

/// What the store has granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its time.
    pub now_us: Micros,
    /// Units used before.
    pub used: u64,
    /// Hits booked.
    pub hits: u64,
}

/// What to do about a charge.
#[derive(Debug)]
pub(super) enum Found {
    /// It is admitted.
    Spent(Verdict, Booked),
    /// A call is under way or to be made (`Todo`), after which to look again.
    Soon(oneshot::Receiver<()>),
    /// Nothing is held.
    Nothing,
}

/// What is to be sent besides.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub wanted: Option<Wanted>,
    pub returned: Option<Returned>,
}

/// Whether a charge may be spent from a lease.
pub(super) fn is_leasable(charge: &Charge, prior: Prior) -> bool {
    charge.mode == Mode::Consume
        && charge.hits > 0
        && !charge.shadow
        && !charge.quota
        && prior == Prior::default()
        && match charge.limit.algorithm() {
            Algorithm::SlidingWindow => charge.limit.tick_us() >= SHORTEST_US,
            Algorithm::FixedWindow => {
                charge.limit.requests() >= REQUESTS_MIN && charge.limit.window_us() >= SHORTEST_US
            }
            Algorithm::TokenBucket | Algorithm::LocalBucket => false,
        }
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            marks: (0..MARKS).map(|_| AtomicU32::new(0)).collect(),
            heat: Heat::default(),
            held: AtomicU64::new(0),
            stats: LeaseStats::default(),
        }
    }
}

impl Leases {
    /// Spends a leasable charge's hits on the counter of this key and hash at `now`, or says what to wait for. `waits` says whether
    /// the request can.
    pub fn spend(&self, hash: u64, key: &str, charge: &Charge, now: Micros, waits: bool) -> (Found, Todo) {
        let mut todo = Todo::default();
        if self.mark(hash).load(Ordering::Relaxed) == 0 {
            let found = self.heat_up(hash, key, charge, now, waits, &mut todo);
            return (found, todo);
        }
        let mut shard = self.shard(hash);
        let Some(lease) = find(&mut shard, hash, key, &charge.limit) else {
            drop(shard);
            let found = self.heat_up(hash, key, charge, now, waits, &mut todo);
            return (found, todo);
        };
        lease.asked += charge.hits;
        lease.asked_at = now;
        let fits = now < lease.until && charge.hits <= lease.rest;
        if fits {
            lease.rest -= charge.hits;
        }
        if !lease.is_asking && now >= lease.dry_until && (!fits || lease.is_low(now)) {
            todo = self.ask(lease, now, charge.hits);
        }
        let found = if fits {
            add(&self.stats.spent, charge.hits);
            Found::Spent(lease.verdict(charge.hits, now), lease.booked)
        } else {
            lease.wait(waits)
        };
        (found, todo)
    }

    /// Notes what a call has brought that was sent at `sent`. Returns what is left of an earlier tick.
    pub fn granted(&self, wanted: &Wanted, granted: Granted, sent: Micros, now: Micros) -> Option<Returned> {
        add(&self.stats.calls, 1);
        add(&self.stats.granted, granted.hits);
        let booked = Booked {
            at: granted.now_us,
            end: end_of(granted.now_us, &wanted.limit),
        };
        let mut shard = self.shard(wanted.hash);
        let Some(lease) = find(&mut shard, wanted.hash, &wanted.key, &wanted.limit) else {
            return wanted.returned(granted.hits, booked.at);
        };
        let before = if lease.booked.end == booked.end {
            None
        } else {
            lease.take_rest()
        };
        let left = booked.end.saturating_sub(booked.at);
        let life = (left - left / 1_024).min(LONGEST_US);
        lease.rest += granted.hits;
        lease.until = sent + life;
        lease.booked = booked;
        lease.used = granted.used + granted.hits * lease.limit.cost();
        lease.ahead = granted.now_us.cast_signed().wrapping_sub(sent.cast_signed());
        lease.granted = lease.rest;
        if granted.hits < wanted.hits.min(HITS_MIN) {
            lease.dry_until = now + DRY_US;
        }
        lease.wake();
        before
    }

    /// Notes that a call has brought nothing that is known.
    pub fn failed(&self, wanted: &Wanted, now: Micros) {
        let mut shard = self.shard(wanted.hash);
        if let Some(lease) = find(&mut shard, wanted.hash, &wanted.key, &wanted.limit) {
            lease.dry_until = now + DRY_US;
            lease.wake();
        }
    }

    /// Takes back hits that were spent for a request which is denied after all. They can be spent again, or are to be given back.
    pub fn undo(&self, hash: u64, key: &str, charge: &Charge, booked: Booked) -> Option<Returned> {
        add(&self.stats.undone, charge.hits);
        let mut shard = self.shard(hash);
        if let Some(lease) = find(&mut shard, hash, key, &charge.limit)
            && lease.booked.end == booked.end
        {
            lease.rest += charge.hits;
            return None;
        }
        Some(Returned {
            hash,
            key: key.into(),
            limit: charge.limit,
            hits: charge.hits,
            at: booked.at,
        })
    }

    /// What is to be given back at `now`: leases that have ended, or all of them.
    pub fn collect(&self, now: Micros, all: bool) -> Vec<Returned> {
        let (mut returned, mut held) = (Vec::new(), 0);
        for place in 0..self.shards.len() {
            let mut shard = self.shards[place].lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|lease| {
                if !lease.is_asking && (all || now >= lease.until) {
                    returned.extend(lease.take_rest());
                }
                held += lease.rest;
                let is_kept = lease.is_asking || lease.rest > 0 || now < lease.asked_at + FORGOTTEN_US;
                if !is_kept {
                    self.mark(lease.hash).fetch_sub(1, Ordering::Relaxed);
                }
                is_kept
            });
        }
        self.held.store(held, Ordering::Relaxed);
        returned
    }

    /// Hits held when they were last collected.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Counts an asking of a counter without a lease, and makes one if it is hot.
    fn heat_up(
        &self,
        hash: u64,
        key: &str,
        charge: &Charge,
        now: Micros,
        waits: bool,
        todo: &mut Todo,
    ) -> Found {
        let Some(rate) = self.heat.add(hash, charge.hits, now) else {
            return Found::Nothing;
        };
        let mut shard = self.shard(hash);
        if shard.len() >= LEASES_MAX / SHARDS || find(&mut shard, hash, key, &charge.limit).is_some() {
            return Found::Nothing;
        }
        let mut lease = Lease::new(hash, key, charge.limit, charge.hits, rate, now);
        *todo = self.ask(&mut lease, now, charge.hits);
        if todo.wanted.is_none() {
            return Found::Nothing;
        }
        let found = lease.wait(waits);
        self.mark(hash).fetch_add(1, Ordering::Relaxed);
        shard.insert_unique(hash, lease, |lease| lease.hash);
        found
    }

    /// Prepares a call for what will be asked, and for `hits` now.
    fn ask(&self, lease: &mut Lease, now: Micros, hits: u64) -> Todo {
        let mut todo = Todo::default();
        if now >= lease.until {
            todo.returned = lease.take_rest();
        }
        let expected = lease.expected(now).max(hits).min(HITS_MAX);
        if expected >= HITS_MIN {
            lease.is_asking = true;
            todo.wanted = Some(Wanted {
                hash: lease.hash,
                key: lease.key.clone(),
                limit: lease.limit,
                hits: expected,
            });
        } else {
            lease.dry_until = now + DRY_US;
        }
        todo
    }

    fn mark(&self, hash: u64) -> &AtomicU32 {
        &self.marks[place_of(hash, MARKS)]
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Lease>> {
        self.shards[place_of(hash, SHARDS)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn returned(&self, hits: u64, at: Micros) -> Option<Returned> {
        (hits > 0).then(|| Returned {
            hash: self.hash,
            key: self.key.clone(),
            limit: self.limit,
            hits,
            at,
        })
    }
}

fn find<'a>(shard: &'a mut HashTable<Lease>, hash: u64, key: &str, limit: &Limit) -> Option<&'a mut Lease> {
    shard.find_mut(hash, |lease| *lease.key == *key && lease.limit == *limit)
}

fn add(counter: &AtomicU64, hits: u64) {
    counter.fetch_add(hits, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
