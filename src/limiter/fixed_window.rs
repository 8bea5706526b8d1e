//! Windows aligned to the Unix epoch: one count that starts anew at each multiple of the window.
//!
//! The reference server's way of counting, kept for files that rely on it. Across a boundary up to twice the limit passes.

use super::limit::{Level, Limit, Micros, UNITS_MAX};

/// The hits of one aligned window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow {
    /// Where the counted window starts.
    start: Micros,
    /// Hits in it.
    count: u64,
}

impl FixedWindow {
    /// Hits in the window of `now`.
    #[must_use]
    pub fn level(&self, now: Micros, limit: &Limit) -> Level {
        let counted = self.start == self.current(now, limit);
        limit.level(if counted { self.count } else { 0 })
    }

    /// Books `hits`, at most up to 2^52 in the window.
    pub fn charge(&mut self, now: Micros, limit: &Limit, hits: u64) {
        if hits == 0 {
            return;
        }
        let used = self.level(now, limit).used;
        self.start = self.current(now, limit);
        self.count = used.saturating_add(hits).min(UNITS_MAX);
    }

    /// Takes `hits` back from the window of `now`.
    pub fn refund(&mut self, now: Micros, limit: &Limit, hits: u64) {
        if self.level(now, limit).used > 0 {
            self.count = self.count.saturating_sub(hits);
        }
    }

    /// Takes back `hits` that a charge at `at` booked, if the counted window is the one of `at`. A charge of a clock that had stepped
    /// back was counted in a later one, and stays.
    pub fn give_back(&mut self, now: Micros, limit: &Limit, hits: u64, at: Micros) {
        if self.start == at - at % limit.window_us() && self.start == self.current(now, limit) {
            self.count = self.count.saturating_sub(hits);
        }
    }

    /// Microseconds to the window's end, 1 to the window, whether or not the hits fit now or ever.
    #[must_use]
    pub fn wait_us(&self, now: Micros, limit: &Limit, _booked: u64, _hits: u64) -> Micros {
        self.empty_us(now, limit, 0)
    }

    /// Microseconds to the window's end, 1 to the window, also when the counter is empty.
    #[must_use]
    pub fn empty_us(&self, now: Micros, limit: &Limit, _booked: u64) -> Micros {
        let end = self.current(now, limit).saturating_add(limit.window_us());
        end.saturating_sub(now).min(limit.window_us())
    }

    /// The counted window's end.
    #[must_use]
    pub fn expires_us(&self, limit: &Limit) -> Micros {
        if self.count == 0 {
            return 0;
        }
        self.start.saturating_add(limit.window_us())
    }

    /// Whether no hit is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The start of the window that counts at `now`: a clock that stepped back into an earlier window goes on in the later
    /// one, or each step would open a window anew. An empty counter holds nothing to go on with.
    fn current(&self, now: Micros, limit: &Limit) -> Micros {
        let start = now - now % limit.window_us();
        if self.count == 0 {
            start
        } else {
            start.max(self.start)
        }
    }
}
