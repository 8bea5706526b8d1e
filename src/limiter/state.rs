//! One counter of any algorithm: an enum that picks the algorithm's own function.

use super::fixed_window::FixedWindow;
use super::limit::{Algorithm, Level, Limit, Micros};
use super::local_bucket::LocalBucket;
use super::sliding_window::SlidingWindow;
use super::token_bucket::TokenBucket;

/// What a counter holds. 24 bytes; a sliding window has up to 127 entries of 16 bytes besides.
///
/// The functions are those of the table in [`super`]. A limit of another algorithm than the state's reads it as empty and,
/// when it writes, starts it anew; keys carry the algorithm, so this does not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Entries of a rolling window.
    SlidingWindow(SlidingWindow),
    /// The count of an aligned window.
    FixedWindow(FixedWindow),
    /// The content of a shared bucket.
    TokenBucket(TokenBucket),
    /// The content of a bucket of this process.
    LocalBucket(LocalBucket),
}

/// Calls the same function on whatever the state holds.
macro_rules! each {
    ($state:expr, $inner:ident => $call:expr) => {
        match $state {
            State::SlidingWindow($inner) => $call,
            State::FixedWindow($inner) => $call,
            State::TokenBucket($inner) => $call,
            State::LocalBucket($inner) => $call,
        }
    };
}

impl State {
    /// An empty counter. Allocates nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::SlidingWindow => Self::SlidingWindow(SlidingWindow::default()),
            Algorithm::FixedWindow => Self::FixedWindow(FixedWindow::default()),
            Algorithm::TokenBucket => Self::TokenBucket(TokenBucket::default()),
            Algorithm::LocalBucket => Self::LocalBucket(LocalBucket::default()),
        }
    }

    /// How this counter counts.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::SlidingWindow(_) => Algorithm::SlidingWindow,
            Self::FixedWindow(_) => Algorithm::FixedWindow,
            Self::TokenBucket(_) => Algorithm::TokenBucket,
            Self::LocalBucket(_) => Algorithm::LocalBucket,
        }
    }

    /// How full the counter is at `now`.
    #[must_use]
    pub fn level(&self, now: Micros, limit: &Limit) -> Level {
        if self.is_foreign(limit) {
            return limit.level(0);
        }
        each!(self, s => s.level(now, limit))
    }

    /// Books `hits`, fit or not; saturates.
    pub fn charge(&mut self, now: Micros, limit: &Limit, hits: u64) {
        self.own(limit);
        each!(self, s => s.charge(now, limit, hits));
    }

    /// Books `hits` that [`Level::fits`] let pass. For a local bucket governor itself is asked.
    pub fn consume(&mut self, now: Micros, limit: &Limit, hits: u64) {
        self.own(limit);
        if let Self::LocalBucket(bucket) = self
            && bucket.consume(now, limit, hits)
        {
            return;
        }
        debug_assert!(
            hits == 0 || !matches!(self, Self::LocalBucket(_)),
            "governor and the level disagree"
        );
        self.charge(now, limit, hits);
    }

    /// Takes `hits` back from the newest; floor 0.
    pub fn refund(&mut self, now: Micros, limit: &Limit, hits: u64) {
        self.own(limit);
        each!(self, s => s.refund(now, limit, hits));
    }

    /// Books hits ahead of their use: as many of those `wanted` as fit into one of `parts` equal parts of the room. They may be
    /// used until the tick (sliding window) or the window (fixed) of `now` ends. Returns how many.
    pub fn lease(&mut self, now: Micros, limit: &Limit, wanted: u64, parts: u64) -> u64 {
        let level = self.level(now, limit);
        let granted = wanted.min(level.remaining_hits() / parts.max(1));
        if granted > 0 {
            self.charge(now, limit, granted);
        }
        granted
    }

    /// [`State::refund`], while hits that are booked ahead may not be used yet: it leaves those alone.
    pub fn refund_beside_leases(&mut self, now: Micros, limit: &Limit, hits: u64) {
        match self {
            Self::SlidingWindow(window) => window.refund_ended(now, limit, hits),
            _ => self.refund(now, limit, hits),
        }
    }

    /// Takes back `hits` that were booked at `at` and that nobody used, from where they were booked: exactly, or fewer. What is
    /// used is then never below what it would be without them. To be called once for a charge, and soon: a counter that was emptied
    /// or lost meanwhile, and charged anew at the same instant, tick or aligned window, can't tell new hits from these.
    pub fn give_back(&mut self, now: Micros, limit: &Limit, hits: u64, at: Micros) {
        if !self.is_foreign(limit) {
            each!(self, s => s.give_back(now, limit, hits, at));
        }
    }

    /// Microseconds until `hits` more fit after `booked` units of the same request; the window if they never can.
    #[must_use]
    pub fn wait_us(&self, now: Micros, limit: &Limit, booked: u64, hits: u64) -> Micros {
        if self.is_foreign(limit) {
            return Self::new(limit.algorithm()).wait_us(now, limit, booked, hits);
        }
        each!(self, s => s.wait_us(now, limit, booked, hits))
    }

    /// Microseconds until the counter is empty, at most the window.
    #[must_use]
    pub fn empty_us(&self, now: Micros, limit: &Limit, booked: u64) -> Micros {
        if self.is_foreign(limit) {
            return Self::new(limit.algorithm()).empty_us(now, limit, booked);
        }
        each!(self, s => s.empty_us(now, limit, booked))
    }

    /// From this instant on the counter equals an empty one and can be dropped.
    #[must_use]
    pub fn expires_us(&self, limit: &Limit) -> Micros {
        if self.is_foreign(limit) {
            return 0;
        }
        each!(self, s => s.expires_us(limit))
    }

    /// Whether the counter holds nothing, whatever the time, and can be dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        each!(self, s => s.is_empty())
    }

    /// Bytes besides the state itself, reserved ones included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::SlidingWindow(window) => window.heap_bytes(),
            Self::FixedWindow(_) | Self::TokenBucket(_) | Self::LocalBucket(_) => 0,
        }
    }

    fn is_foreign(&self, limit: &Limit) -> bool {
        self.algorithm() != limit.algorithm()
    }

    fn own(&mut self, limit: &Limit) {
        if self.is_foreign(limit) {
            *self = Self::new(limit.algorithm());
        }
    }
}
