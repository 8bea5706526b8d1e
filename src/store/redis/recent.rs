//! What this process has charged on one primary during the last seconds. Replication is asynchronous, so a new primary may have
//! lost it; there it is recorded again. No I/O and no clock here.
//!
//! Kept is what was confirmed within 3.5 s before the *latest* confirmation: a failover takes seconds, during which nothing is
//! confirmed. The hits go into a log of chunks of a quarter of a second, each with its keys in one text and one note for all hits on
//! a key and limit: hardly ever an allocation, and no more memory for a hot key than for another. A replay sums the chunks up.
//!
//! Everything errs to the safe side: hits that were given back meanwhile are still recorded, recorded hits count from the
//! replay on, which is later than they were booked, and hits of the chunk of a kept one are kept with it.

mod chunk;

use std::collections::{HashMap, VecDeque};

use self::chunk::Chunk;
use super::call::{Call, Reply};
use crate::limiter::limit::RECORD_HITS_MAX;
use crate::limiter::{Algorithm, Charge, Limit, Micros, Mode};
use crate::store::Keys;

/// How long before the latest confirmation a charge may be confirmed to be kept: more than the lag of a replica that is well.
pub const SPAN_US: Micros = 3_500_000;
/// An idle node's charges are forgotten after this time.
const IDLE_US: Micros = 10_000_000;
/// The most memory for one node, reserved memory included.
pub const BYTES_MAX: usize = 8 << 20;

/// The recent charges on one primary. All times are of one clock that never steps back.
#[derive(Debug, Default)]
pub struct Recent {
    /// Oldest first.
    chunks: VecDeque<Chunk>,
    /// One that was forgotten, to be used again: four a second would leave holes all over the heap.
    spare: Option<Chunk>,
    /// Of all chunks but the spare one.
    bytes: usize,
    /// The latest confirmation.
    latest: Micros,
    /// When the newest of the notes dropped early was confirmed.
    dropped_at: Option<Micros>,
    dropped: u64,
}

/// Hits to be recorded again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The counter.
    pub key: Box<str>,
    /// Its limit.
    pub limit: Limit,
    /// The sum, at most [`RECORD_HITS_MAX`].
    pub hits: u64,
    /// When the last of them were confirmed.
    pub at: Micros,
}

impl Replayed {
    /// The request that records them, for [`Call::push`]. It has one charge, which is always booked.
    #[must_use]
    pub fn request(&self) -> (Keys, [Charge; 1]) {
        let mut keys = Keys::default();
        let counter = keys.add(0, |text| text.push_str(&self.key));
        let charge = Charge {
            counter,
            limit: self.limit,
            hits: self.hits,
            mode: Mode::Record,
            shadow: false,
            quota: false,
        };
        (keys, [charge])
    }
}

impl Recent {
    /// Notes what a call has booked, confirmed at `now` by its decoded reply.
    pub fn note(&mut self, now: Micros, call: &Call, reply: &Reply) {
        self.latest = self.latest.max(now);
        for (key, charge) in call.booked(reply) {
            self.append(self.latest, key, &charge.limit, charge.hits);
        }
        let from = self.from();
        self.drop_until(from);
    }

    /// Notes hits that were booked on a key, confirmed at `now`.
    pub fn note_hits(&mut self, now: Micros, key: &str, limit: &Limit, hits: u64) {
        self.latest = self.latest.max(now);
        self.append(self.latest, key, limit, hits);
        let from = self.from();
        self.drop_until(from);
    }

    /// Takes what a primary may have lost out of this, merged by key and limit, the newest first: who has to stop early has done
    /// the more important part. Only keys that `wanted` takes; the others are left, as they are for the slots of a cluster that
    /// did not move. Hits that can't count any more at `now`, since their window is over, are left out.
    ///
    /// What is recorded from it comes back by [`Recent::note`], and what could not be by [`Recent::put_back`].
    pub fn replay(&mut self, now: Micros, mut wanted: impl FnMut(&str) -> bool) -> Vec<Replayed> {
        let from = self.from();
        let chunks = std::mem::take(&mut self.chunks);
        self.bytes = 0;
        let mut found: Vec<Replayed> = Vec::new();
        let mut places: HashMap<_, usize> = HashMap::new();
        for chunk in &chunks {
            let mut left: Option<Chunk> = None;
            for noted in chunk.iter().filter(|noted| noted.at >= from) {
                if !wanted(noted.key) {
                    left.get_or_insert_with(|| chunk.successor(noted.key)).push(
                        noted.at,
                        noted.key,
                        noted.limit,
                        noted.hits,
                    );
                } else if !is_over(noted.at, noted.limit, now) {
                    let place = *places
                        .entry((noted.key, identity(noted.limit)))
                        .or_insert_with(|| {
                            found.push(Replayed {
                                key: noted.key.into(),
                                limit: *noted.limit,
                                hits: 0,
                                at: 0,
                            });
                            found.len() - 1
                        });
                    let replayed = &mut found[place];
                    replayed.hits = replayed.hits.saturating_add(noted.hits).min(RECORD_HITS_MAX);
                    replayed.at = replayed.at.max(noted.at);
                }
            }
            if let Some(left) = left {
                self.bytes += left.bytes();
                self.chunks.push_back(left);
            }
        }
        found.sort_by_key(|replayed| std::cmp::Reverse(replayed.at));
        found
    }

    /// Takes back what could not be recorded, or perhaps was not, or takes over what another node may have lost. It is kept as if
    /// all of it had been confirmed last.
    pub fn put_back(&mut self, replayed: &[Replayed]) {
        let newest = replayed.iter().map(|it| it.at).max();
        self.latest = self.latest.max(newest.unwrap_or(0));
        for it in replayed {
            self.append(self.latest, &it.key, &it.limit, it.hits);
        }
    }

    /// Forgets what was noted more than 10 s ago; to be called every second or so, for a node that is there and idle.
    pub fn forget(&mut self, now: Micros) {
        self.drop_until(now.saturating_sub(IDLE_US));
    }

    /// Whether nothing of the kept span was dropped for want of memory.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.dropped_at.is_none_or(|at| at < self.from())
    }

    /// Notes dropped early for want of memory, since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The memory in use, reserved memory included: at most [`BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to replay.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// What was confirmed earlier is not kept.
    fn from(&self) -> Micros {
        self.latest.saturating_sub(SPAN_US)
    }

    fn append(&mut self, at: Micros, key: &str, limit: &Limit, hits: u64) {
        let hits = hits.min(RECORD_HITS_MAX);
        let full = |chunk: &mut Chunk| !chunk.push(at, key, limit, hits);
        if hits == 0 || !self.chunks.back_mut().is_none_or(full) {
            return;
        }
        let needed = Chunk::bytes_for(key);
        while self.bytes + needed > BYTES_MAX {
            let Some(first) = self.drop_first() else {
                // A key of megabytes: nothing else is left to make room for it.
                self.count_dropped(at, 1);
                return;
            };
            let from = self.from();
            let early = first.iter().filter(|noted| noted.at >= from).count();
            self.count_dropped(first.newest(), early);
        }
        let mut chunk = match self.spare.take() {
            Some(spare) if spare.bytes() == needed => spare.anew(at),
            _ => Chunk::new(at, key),
        };
        chunk.push(at, key, limit, hits);
        self.bytes += needed;
        self.chunks.push_back(chunk);
    }

    fn count_dropped(&mut self, newest: Micros, notes: usize) {
        self.dropped += notes as u64;
        self.dropped_at = self.dropped_at.max(Some(newest));
    }

    fn drop_first(&mut self) -> Option<Chunk> {
        let first = self.chunks.pop_front()?;
        self.bytes -= first.bytes();
        Some(first)
    }

    fn drop_until(&mut self, from: Micros) {
        while self.chunks.front().is_some_and(|chunk| chunk.newest() < from) {
            self.spare = self.drop_first();
        }
    }
}

/// What a limit was made of: its other numbers follow from these, and these can be a key.
fn identity(limit: &Limit) -> (Algorithm, u32, u32, Micros) {
    (
        limit.algorithm(),
        limit.requests(),
        limit.burst(),
        limit.window_us(),
    )
}

/// Whether hits confirmed at `at`, hence booked before, have left their window. Of a bucket that can't be said of hits alone.
fn is_over(at: Micros, limit: &Limit, now: Micros) -> bool {
    let counts_for = match limit.algorithm() {
        Algorithm::SlidingWindow => limit.window_us().saturating_add(limit.tick_us()),
        Algorithm::FixedWindow => limit.window_us(),
        Algorithm::TokenBucket | Algorithm::LocalBucket => return false,
    };
    at.saturating_add(counts_for) <= now
}

#[cfg(test)]
mod tests;
