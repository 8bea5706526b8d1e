//! A sliding window that never admits more than its limit in any rolling window.
//!
//! The counter is a list of (score, total): the score is the instant at which an entry starts to count, the total the running
//! sum of hits up to and with it. The first entry is the *base*: never a charge, its total is what has left the window. What is
//! used is the newest total less the base's, so there is no second number that could drift, and the moment at which hits fit
//! again is found by bisection. Redis holds the same list as a sorted set, so the two can be compared entry by entry.
//!
//! Up to 125 hits per window the algorithm is exact to the microsecond. Above, hits share entries in ticks of a 125th of the
//! window, and an entry counts until the *end* of its tick has left the window: it errs to the safe side by at most one tick
//! (0.8 %). Any limit needs at most 127 entries.
//!
//! Source: the project's own layout. The sliding log of timestamps is folklore; running totals with a base make it constant in
//! size without the error of the two-bucket approximation.

use super::limit::{Level, Limit, Micros, UNITS_MAX};

/// Entries of a full list, the base among them. A Redis sorted set of up to 128 stays a compact listpack.
pub const ENTRIES_MAX: usize = 127;

/// The largest limit that is exact to the microsecond, and the number of ticks of a larger one.
const TICKS: u64 = 125;

/// Totals start anew above this, before they could reach 2^53.
const TOTAL_MAX: u64 = UNITS_MAX + UNITS_MAX / 2;

/// One step of the running total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// From here on the entry counts, for one window.
    score: Micros,
    /// Hits up to and with this entry.
    total: u64,
}

/// The hits of one rolling window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Oldest first, scores and totals strictly growing after the base. Empty, or the base and at least one more.
    entries: Vec<Entry>,
}

/// The width of a tick for a limit of `requests` per `window_us`.
pub(super) fn tick_us(requests: u32, window_us: Micros) -> Micros {
    if u64::from(requests) <= TICKS {
        1
    } else {
        window_us.div_ceil(TICKS)
    }
}

/// The instant from which hits of `at` count: the end of their tick.
fn tick_end(at: Micros, limit: &Limit) -> Micros {
    let tick = limit.tick_us();
    at.div_ceil(tick).saturating_mul(tick)
}

impl SlidingWindow {
    /// Bytes of the entries, reserved ones included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Hits that count at `now`.
    #[must_use]
    pub fn level(&self, now: Micros, limit: &Limit) -> Level {
        limit.level(self.used(now, limit))
    }

    /// Books `hits`, at most up to 2^52 in the window.
    pub fn charge(&mut self, now: Micros, limit: &Limit, hits: u64) {
        let hits = hits.min(UNITS_MAX.saturating_sub(self.used(now, limit)));
        if hits == 0 {
            return;
        }
        let mut score = tick_end(now, limit);
        let Some(newest) = self.entries.last().copied() else {
            self.entries.reserve_exact(2);
            self.entries.push(Entry { score: 0, total: 0 });
            self.entries.push(Entry { score, total: hits });
            return;
        };
        self.entries.drain(..self.base(now, limit));
        let total = self.restart(newest.total, hits) + hits;
        // Only the new score is raised to the newest, never `now`: judging expiry by a later time would forget hits.
        score = score.max(newest.score);
        // One entry a tick; in a full list the newest takes the hits and the later score. The base takes none: alone in the
        // list it has left the window, so its score is a window or more behind.
        if score == newest.score || self.entries.len() >= ENTRIES_MAX {
            self.entries.pop();
        }
        if self.entries.len() == self.entries.capacity() {
            // By half, not to the double: most of a million counters' memory is this list.
            let more = (self.entries.len() / 2).max(2);
            self.entries
                .reserve_exact(more.min(ENTRIES_MAX - self.entries.len()));
        }
        self.entries.push(Entry { score, total });
    }

    /// Takes `hits` back from the newest entries. What then holds: charges less refunds made in the same window never exceed
    /// the limit.
    pub fn refund(&mut self, now: Micros, limit: &Limit, hits: u64) {
        let total = self.total();
        let base = self.entries.get(self.base(now, limit)).map_or(0, |e| e.total);
        let target = total.saturating_sub(hits).max(base);
        if target == total {
            return;
        }
        if target == base {
            self.entries = Vec::new();
            return;
        }
        // The first entry of at least the target stays, and becomes the newest with just that total.
        let last = self.entries.partition_point(|e| e.total < target);
        self.entries.truncate(last + 1);
        if let Some(newest) = self.entries.last_mut() {
            newest.total = target;
        }
    }

    /// Takes back `hits` that a charge at `at` booked: from the entry that they were booked in, and what that does not hold from
    /// older ones. Never from newer ones: those would then be forgotten while the given-back ones, which nobody used, stay.
    ///
    /// Charges only ever raise a score. So whatever is at or before the end of the tick of `at` holds these hits among what
    /// counts from there on, and no sum up to now falls below that of the hits which were kept. If no entry has that score, the hits
    /// count from a later one (a full list, a clock that stepped back) or not at all, and nothing is given back.
    pub fn give_back(&mut self, now: Micros, limit: &Limit, hits: u64, at: Micros) {
        let base = self.base(now, limit);
        let live = self.entries.get(base + 1..).unwrap_or_default();
        let Ok(place) = live.binary_search_by_key(&tick_end(at, limit), |e| e.score) else {
            return;
        };
        self.take_from(base, base + 1 + place, hits);
    }

    /// Takes `hits` back as [`SlidingWindow::refund`] does, while some are booked ahead that may be spent until their ticks end: from
    /// the newest of those ticks that have ended. What is spent later than now stays, so what holds of refunds holds of these; what
    /// the ended ticks do not have is not given.
    pub fn refund_ended(&mut self, now: Micros, limit: &Limit, hits: u64) {
        let base = self.base(now, limit);
        let ended = self.entries.partition_point(|e| e.score <= now);
        if ended > base + 1 {
            self.take_from(base, ended - 1, hits);
        }
    }

    /// Takes `hits` from the entry at `place`, and what that does not hold from older ones above the base, never from newer ones.
    fn take_from(&mut self, base: usize, place: usize, hits: u64) {
        let total = self.entries[place].total;
        let less = hits.min(total - self.entries[base].total);
        if less == 0 {
            return;
        }
        // As with a refund, had nothing newer been: the first entry of at least the target is the last that stays.
        let target = total - less;
        let last = self.entries.partition_point(|e| e.total < target);
        self.entries[last].total = target;
        self.entries.drain(last + 1..=place);
        for newer in &mut self.entries[last + 1..] {
            newer.total -= less;
        }
        if self.entries.len() == base + 1 {
            self.entries = Vec::new();
        }
    }

    /// Microseconds until `hits` more fit. When not even that is enough which was there before this request, only the
    /// request's own `booked` hits are in the way: the window.
    #[must_use]
    pub fn wait_us(&self, now: Micros, limit: &Limit, booked: u64, hits: u64) -> Micros {
        if limit.never_fits(hits) {
            return limit.window_us();
        }
        if self.level(now, limit).plus(booked).fits(hits) {
            return 0;
        }
        let total = self.total();
        let must_leave = (total.saturating_add(booked).saturating_add(hits)).saturating_sub(limit.capacity());
        let first = self.base(now, limit) + 1;
        let live = self.entries.get(first..).unwrap_or_default();
        match live.get(live.partition_point(|e| e.total < must_leave)) {
            Some(entry) => self.leaves_in(entry, now, limit).max(1),
            None => limit.window_us(),
        }
    }

    /// Microseconds until nothing counts any more, at most the window.
    #[must_use]
    pub fn empty_us(&self, now: Micros, limit: &Limit, booked: u64) -> Micros {
        match self.entries.last() {
            _ if booked > 0 => limit.window_us(),
            Some(newest) if self.used(now, limit) > 0 => {
                self.leaves_in(newest, now, limit).min(limit.window_us())
            }
            _ => 0,
        }
    }

    /// When the last entry leaves the window.
    #[must_use]
    pub fn expires_us(&self, limit: &Limit) -> Micros {
        self.entries
            .last()
            .map_or(0, |e| e.score.saturating_add(limit.window_us()))
    }

    /// Whether nothing was ever booked, or all was refunded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, oldest first and the base among them, as (score, running total): what Redis holds for the same history.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (Micros, u64)> {
        self.entries.iter().map(|e| (e.score, e.total))
    }

    fn total(&self) -> u64 {
        self.entries.last().map_or(0, |e| e.total)
    }

    fn used(&self, now: Micros, limit: &Limit) -> u64 {
        let base = self.entries.get(self.base(now, limit)).map_or(0, |e| e.total);
        self.total() - base
    }

    /// Which entry is the base at `now`: the newest that has left the window, else the first. Its place decides and not its
    /// score: after a step back of the clock the base has not "left", and still is no charge.
    fn base(&self, now: Micros, limit: &Limit) -> usize {
        let left = |e: &Entry| e.score.saturating_add(limit.window_us()) <= now;
        match self.entries.get(1) {
            Some(oldest) if left(oldest) => self.entries.partition_point(left) - 1,
            _ => 0,
        }
    }

    fn leaves_in(&self, entry: &Entry, now: Micros, limit: &Limit) -> Micros {
        entry.score.saturating_add(limit.window_us()).saturating_sub(now)
    }

    /// Lets the totals start anew at the base if `hits` more would make them too large. Returns the newest total.
    fn restart(&mut self, total: u64, hits: u64) -> u64 {
        let base = self.entries.first().map_or(0, |e| e.total);
        if total + hits <= TOTAL_MAX {
            return total;
        }
        for entry in &mut self.entries {
            entry.total -= base;
        }
        total - base
    }
}
