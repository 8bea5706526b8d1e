//! GCRA as a continuous-state leaky bucket: hits pour in, the bucket drains at a steady rate, and what would overflow is denied.
//!
//! At most `burst + rate * t` hits pass in any time t.
//!
//! Source: ITU-T I.371 (2004), annex A, which gives the virtual scheduling form (a stored theoretical arrival time) and the
//! continuous-state leaky bucket and shows that they decide alike. The bucket is the form stored here because its content
//! needs no knowledge of the rate: counted in 2^-44 of a full bucket it is a fraction, and a change of the numbers carries that
//! fraction over (to within a 128th).
//!
//! # The numbers
//!
//! All are integers below 2^53, but for the drain per microsecond, so that doubles, all that a Lua script has, give the same.
//!
//! - A hit costs about 2^44 / burst units. If there is such a cost with which a whole number of units drains in a microsecond,
//!   and it loses less than a 128th, it is taken: then nothing is ever rounded. A limit per second, minute, hour or day has one
//!   if its number divides the window (in microseconds) and its burst is the number; for the shorter windows far more do.
//! - Otherwise the drain is rounded down by enough that its rounded product with any time is never above the truth. Hits then
//!   come back at most some microseconds late.
//! - A charge drops the fraction of a unit that drained since the last one: less than one unit each, and a hit costs at least
//!   4,096.

use super::limit::{Level, Limit, Micros, UNITS_MAX};

/// Units of a full bucket, about.
const FULL: u64 = 1 << 44;

/// A cost with a whole drain must be at least this many steps, so that rounding to steps loses less than this part.
const STEPS_MIN: u64 = 128;

/// No wait is longer: 285 years, and below it a double holds every microsecond.
const WAIT_US_MAX: u64 = 1 << 53;

/// The content of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    /// Units in the bucket at `at`, at most 2^52.
    debt: u64,
    /// When `debt` was right. Never goes back, so no time drains twice.
    at: Micros,
}

/// Units that a hit costs, and that drain in a microsecond. A limit of 0 has no capacity, but drains what records left in it
/// as one hit per window would.
pub(super) fn cost_and_drain(requests: u32, window_us: Micros, burst: u32) -> (u64, f64) {
    let requests = u64::from(requests.max(1));
    let cost = FULL / u64::from(burst.max(1));
    let common = gcd(requests, window_us);
    let step = window_us / common;
    let steps = cost / step;
    if steps >= STEPS_MIN {
        return (steps * step, units(steps.saturating_mul(requests / common)));
    }
    // Two roundings made the quotient, a third makes its product with a time; each is undone by one step down.
    let rate = units(requests) * units(cost) / units(window_us);
    (cost, rate.next_down().next_down().next_down())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// As a double: exact below 2^53, and used above it only where the result is capped far below.
#[expect(clippy::cast_precision_loss, reason = "exact for all that is used uncapped")]
fn units(value: u64) -> f64 {
    value as f64
}

/// A whole number of units, at most `most`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "capped by an integer below 2^53, and never negative"
)]
fn capped(whole: f64, most: u64) -> u64 {
    whole.min(units(most)) as u64
}

/// Whole units that drain in `elapsed`, at most `most`.
fn drained(elapsed: Micros, limit: &Limit, most: u64) -> u64 {
    capped((units(elapsed) * limit.drain()).floor(), most)
}

/// The shortest time in which `need` units drain, at most [`WAIT_US_MAX`].
fn time_to_drain(need: u64, limit: &Limit) -> Micros {
    if need == 0 {
        return 0;
    }
    let guess = (units(need) / limit.drain()).ceil();
    if guess >= units(WAIT_US_MAX) {
        return WAIT_US_MAX;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 2^53"
    )]
    let mut time = guess as u64;
    // The division was rounded: the answer is the least time whose own product reaches the need, at most a step away.
    while time > 1 && drained(time - 1, limit, need) == need {
        time -= 1;
    }
    while drained(time, limit, need) < need {
        time += 1;
    }
    time
}

impl TokenBucket {
    /// Units in the bucket at `now`.
    #[must_use]
    pub fn level(&self, now: Micros, limit: &Limit) -> Level {
        limit.level(self.used(now, limit))
    }

    /// Pours `hits` in, at most up to 2^52 units.
    pub fn charge(&mut self, now: Micros, limit: &Limit, hits: u64) {
        if hits == 0 {
            return;
        }
        let more = hits.saturating_mul(limit.cost());
        self.debt = self.used(now, limit).saturating_add(more).min(UNITS_MAX);
        self.at = self.at.max(now);
    }

    /// Takes `hits` out, down to empty: a refund never makes room beyond the burst. The time since the last write drains first,
    /// or it would be credited a second time.
    pub fn refund(&mut self, now: Micros, limit: &Limit, hits: u64) {
        if hits == 0 {
            return;
        }
        let less = hits.saturating_mul(limit.cost());
        self.debt = self.used(now, limit).saturating_sub(less);
        self.at = self.at.max(now);
    }

    /// Takes out `hits` that a charge at `at` poured in, less what may have drained of them since.
    ///
    /// Without the charge the bucket may have been empty meanwhile, and then drained nothing: the charge's own units are what
    /// drained. So at most that is kept which drains in the time from `at` on, rounded up; where `at` is now, all is given back.
    /// The time ends with the bucket's own, if the clock has stepped back: up to there it has drained already. A bucket written
    /// last before `at` has been emptied since, and does not hold the charge.
    pub fn give_back(&mut self, now: Micros, limit: &Limit, hits: u64, at: Micros) {
        if self.at < at {
            return;
        }
        let until = self.at.max(now);
        // No charge pours in more than a bucket takes; below that all products are exact.
        let charged = hits.saturating_mul(limit.cost()).min(UNITS_MAX);
        // The parts of that time drained whole units each, so together no more than this.
        let drained = capped((units(until - at) * limit.drain()).ceil(), charged);
        let used = self.used(now, limit);
        let less = (charged - drained).min(used);
        if less > 0 {
            self.debt = used - less;
            self.at = until;
        }
    }

    /// Microseconds until `hits` more fit: denied at every microsecond before, allowed at it.
    #[must_use]
    pub fn wait_us(&self, now: Micros, limit: &Limit, booked: u64, hits: u64) -> Micros {
        if limit.never_fits(hits) {
            return limit.window_us();
        }
        let room = limit.capacity() - hits.saturating_mul(limit.cost()).min(limit.capacity());
        self.down_to(now, limit, booked, room)
    }

    /// Microseconds until the bucket is empty, at most the window.
    #[must_use]
    pub fn empty_us(&self, now: Micros, limit: &Limit, booked: u64) -> Micros {
        self.down_to(now, limit, booked, 0).min(limit.window_us())
    }

    /// When the bucket is empty.
    #[must_use]
    pub fn expires_us(&self, limit: &Limit) -> Micros {
        self.at.saturating_add(time_to_drain(self.debt, limit))
    }

    /// Whether the bucket was empty when it was last written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.debt == 0
    }

    fn used(&self, now: Micros, limit: &Limit) -> u64 {
        self.debt - drained(now.saturating_sub(self.at), limit, self.debt)
    }

    /// Microseconds until at most `room` units are left of the content and `booked`.
    fn down_to(&self, now: Micros, limit: &Limit, booked: u64, room: u64) -> Micros {
        // Booking writes, and so counts the draining from `now` on; without it the time since the last write counts too.
        let (from, debt) = if booked == 0 {
            (self.at, self.debt)
        } else {
            let used = self.used(now, limit).saturating_add(booked);
            (self.at.max(now), used.min(UNITS_MAX))
        };
        match debt.checked_sub(room) {
            None | Some(0) => 0,
            // A clock that stepped back adds to the time that the drain itself takes.
            Some(need) => from
                .saturating_add(time_to_drain(need, limit))
                .saturating_sub(now)
                .min(WAIT_US_MAX),
        }
    }
}
