//! What is held of one counter.

use tokio::sync::oneshot;

use super::Found;
use crate::limiter::{Algorithm, Level, Limit, Micros, State, Verdict};

/// The longest time for which hits are booked ahead without being asked for again.
pub(super) const LONGEST_US: Micros = 100_000;
/// A tick or window that is shorter is not worth it.
pub(super) const SHORTEST_US: Micros = 2_000;

/// What is held of one counter under one limit.
#[derive(Debug)]
pub(super) struct Lease {
    pub hash: u64,
    pub key: Box<str>,
    pub limit: Limit,
    /// Hits that may be spent, before `until`.
    pub rest: u64,
    pub until: Micros,
    pub booked: Booked,
    /// Units in the counter with all that is booked, as last seen.
    pub used: u64,
    /// The store's time less ours, about.
    pub ahead: i64,
    /// Asked of it since `counted_from`, and what that has been lately, a second.
    pub asked: u64,
    pub counted_from: Micros,
    pub rate: f64,
    pub asked_at: Micros,
    /// Hits of the last call.
    pub granted: u64,
    pub dry_until: Micros,
    /// A call is under way, and these wait for it.
    pub is_asking: bool,
    pub waiting: Vec<oneshot::Sender<()>>,
}

/// Where hits were booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// The store's time of the call.
    pub at: Micros,
    /// The end of its tick or window.
    pub end: Micros,
}

/// Hits to be given back.
#[derive(Clone, Debug)]
pub struct Returned {
    pub hash: u64,
    pub key: Box<str>,
    pub limit: Limit,
    pub hits: u64,
    /// The store's time of the call that booked them.
    pub at: Micros,
}

/// When hits that are booked at `at` begin to count in a sliding window, or end to count in a fixed one.
pub(super) fn end_of(at: Micros, limit: &Limit) -> Micros {
    match limit.algorithm() {
        Algorithm::FixedWindow => at - at % limit.window_us() + limit.window_us(),
        _ => at.div_ceil(limit.tick_us()) * limit.tick_us(),
    }
}

impl Lease {
    /// Nothing of a counter that was just asked for `asked` hits, and is so often.
    pub fn new(hash: u64, key: &str, limit: Limit, asked: u64, rate: f64, now: Micros) -> Self {
        Self {
            hash,
            key: key.into(),
            limit,
            rest: 0,
            until: 0,
            booked: Booked::default(),
            used: 0,
            ahead: 0,
            asked,
            counted_from: now,
            rate,
            asked_at: now,
            granted: 0,
            dry_until: 0,
            is_asking: false,
            waiting: Vec::new(),
        }
    }

    /// Tells those who wait that a call has ended. An error is a request that has gone away.
    pub fn wake(&mut self) {
        self.is_asking = false;
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }

    /// Waits for the call that is under way, if the request can.
    pub fn wait(&mut self, waits: bool) -> Found {
        if !waits || !self.is_asking {
            return Found::Nothing;
        }
        let (done, wait) = oneshot::channel();
        self.waiting.push(done);
        Found::Soon(wait)
    }

    /// What is shown of the counter after `hits` were spent: all that is booked but what is still held.
    pub fn verdict(&self, hits: u64, now: Micros) -> Verdict {
        let limit = &self.limit;
        let level = Level {
            used: self.used.saturating_sub(self.rest * limit.cost()),
            cost: limit.cost(),
            capacity: limit.capacity(),
        };
        let there = now.saturating_add_signed(self.ahead);
        let empty_us = State::new(limit.algorithm()).empty_us(there, limit, 1);
        Verdict::booked(limit, level, hits, empty_us)
    }

    /// Whether it is time to ask for more: it has ended, or soon will by time or hits.
    pub fn is_low(&self, now: Micros) -> bool {
        let ends_soon = self.until.saturating_sub(now) < LONGEST_US / 4 && !self.ends_with_its_tick(now);
        now >= self.until || self.rest < self.granted / 4 || self.rest == 0 || ends_soon
    }

    /// More of the same tick would not make it last longer.
    fn ends_with_its_tick(&self, now: Micros) -> bool {
        let there = now.saturating_add_signed(self.ahead);
        self.booked.end.saturating_sub(there) < LONGEST_US / 2
    }

    /// Hits that will be asked until it ends, if it is asked for now, beyond those that are held.
    pub fn expected(&mut self, now: Micros) -> u64 {
        let passed = now.saturating_sub(self.counted_from);
        if passed >= SHORTEST_US {
            let rate = per_second(self.asked, passed);
            // Down slowly, up at once: too little costs calls, too much is given back.
            self.rate = if rate > self.rate {
                rate
            } else {
                (self.rate + rate) / 2.0
            };
            (self.asked, self.counted_from) = (0, now);
        }
        let there = now.saturating_add_signed(self.ahead);
        let whole = match self.limit.algorithm() {
            Algorithm::FixedWindow => self.limit.window_us(),
            _ => self.limit.tick_us(),
        };
        let left = if self.ahead == 0 {
            whole / 2
        } else {
            end_of(there, &self.limit) - there
        };
        let expected = hits_of(self.rate, left.min(LONGEST_US));
        let held = if now < self.until { self.rest } else { 0 };
        expected.saturating_sub(held)
    }

    pub fn take_rest(&mut self) -> Option<Returned> {
        let hits = std::mem::take(&mut self.rest);
        (hits > 0).then(|| Returned {
            hash: self.hash,
            key: self.key.clone(),
            limit: self.limit,
            hits,
            at: self.booked.at,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn per_second(hits: u64, us: Micros) -> f64 {
    hits as f64 * 1e6 / us.max(1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; it saturates"
)]
fn hits_of(rate: f64, us: Micros) -> u64 {
    (rate * us as f64 / 1e6).ceil() as u64
}
