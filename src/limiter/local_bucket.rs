//! A token bucket of this process alone, by the crate `governor`.
//!
//! What is stored is governor's theoretical arrival time (GCRA, virtual scheduling: ITU-T I.371, annex A): the instant at which
//! the bucket will be empty. A consume is governor's own check on a store that holds this one entry. Governor has no peek, record or
//! refund: they read and move the stored time.
//!
//! Units are nanoseconds of draining. Time is counted from the start of the process, up to 2^63 ns.
//! After a change of the numbers the bucket needs as long to drain as before; with the default burst that is the same
//! fraction of it.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::limit::{Level, Limit, Micros};

/// The most that a bucket holds, in nanoseconds: governor adds without checks, and now + content + burst must stay below 2^64.
pub const UNITS_MAX: u64 = 1 << 62;

/// The latest time, for the same reason.
const TIME_NS_MAX: u64 = 1 << 63;

/// The content of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalBucket {
    /// When the bucket will be empty, in nanoseconds since the process started.
    arrival_ns: u64,
}

/// Nanoseconds that one hit takes to drain, and the burst that the arithmetic can hold. A limit of 0 drains as one hit per
/// window would.
pub(super) fn cost_and_burst(requests: u32, window_us: Micros, burst: u32) -> (u64, u32) {
    let window_ns = window_us.saturating_mul(1_000).min(UNITS_MAX);
    let cost = window_ns.div_ceil(u64::from(requests.max(1)));
    let most = u32::try_from(UNITS_MAX / cost).unwrap_or(u32::MAX);
    (cost, burst.min(most))
}

fn nanos(now: Micros) -> u64 {
    now.saturating_mul(1_000).min(TIME_NS_MAX)
}

impl LocalBucket {
    /// Nanoseconds of draining left at `now`.
    #[must_use]
    pub fn level(&self, now: Micros, limit: &Limit) -> Level {
        limit.level(self.used(now))
    }

    /// Books `hits` if governor lets them pass, and says whether it did.
    pub fn consume(&mut self, now: Micros, limit: &Limit, hits: u64) -> bool {
        let burst = NonZeroU32::new(limit.burst());
        let cells = u32::try_from(hits).ok().and_then(NonZeroU32::new);
        let quota = Quota::with_period(Duration::from_nanos(limit.cost()));
        // Governor multiplies before it compares: more hits than the burst must not reach it.
        let (Some(burst), Some(cells), Some(quota)) = (burst, cells, quota) else {
            return false;
        };
        if cells > burst {
            return false;
        }
        let entry = OneEntry(Cell::new(self.arrival_ns));
        let clock = FromStart::new(nanos(now));
        let limiter =
            RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota.allow_burst(burst), entry, clock);
        let passed = matches!(limiter.check_n(cells), Ok(Ok(())));
        self.arrival_ns = limiter.into_state_store().0.get();
        passed
    }

    /// Books `hits`, at most up to 2^62 ns of draining.
    pub fn charge(&mut self, now: Micros, limit: &Limit, hits: u64) {
        if hits > 0 {
            let more = hits.saturating_mul(limit.cost());
            self.arrival_ns = nanos(now) + self.used(now).saturating_add(more).min(UNITS_MAX);
        }
    }

    /// Takes `hits` back, down to empty at `now`.
    pub fn refund(&mut self, now: Micros, limit: &Limit, hits: u64) {
        self.lower(now, hits.saturating_mul(limit.cost()));
    }

    /// Takes back `hits` that a charge at `at` booked, less what has drained since: without the charge the bucket may have been
    /// empty, with nothing to drain.
    pub fn give_back(&mut self, now: Micros, limit: &Limit, hits: u64, at: Micros) {
        let drained = nanos(now).saturating_sub(nanos(at));
        let less = hits.saturating_mul(limit.cost()).saturating_sub(drained);
        if less > 0 {
            self.lower(now, less);
        }
    }

    /// Microseconds until `hits` more fit: denied at every microsecond before, allowed at it.
    #[must_use]
    pub fn wait_us(&self, now: Micros, limit: &Limit, booked: u64, hits: u64) -> Micros {
        if limit.never_fits(hits) {
            return limit.window_us();
        }
        let room = limit.capacity().saturating_sub(hits.saturating_mul(limit.cost()));
        let used = self.used(now).saturating_add(booked);
        used.saturating_sub(room).div_ceil(1_000)
    }

    /// Microseconds until the bucket is empty, at most the window.
    #[must_use]
    pub fn empty_us(&self, now: Micros, limit: &Limit, booked: u64) -> Micros {
        let used = self.used(now).saturating_add(booked);
        used.div_ceil(1_000).min(limit.window_us())
    }

    /// When the bucket is empty.
    #[must_use]
    pub fn expires_us(&self, _limit: &Limit) -> Micros {
        self.arrival_ns.div_ceil(1_000)
    }

    /// Whether nothing was ever booked, or all was refunded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrival_ns == 0
    }

    fn lower(&mut self, now: Micros, less: u64) {
        let left = self.used(now).saturating_sub(less);
        self.arrival_ns = if left == 0 { 0 } else { nanos(now) + left };
    }

    fn used(&self, now: Micros) -> u64 {
        self.arrival_ns.saturating_sub(nanos(now)).min(UNITS_MAX)
    }
}

/// Governor's view of the entry: a store of one.
struct OneEntry(Cell<u64>);

impl StateStore for OneEntry {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let stored = Some(self.0.get()).filter(|&ns| ns > 0).map(Nanos::new);
        let (outcome, arrival) = measure(stored)?;
        self.0.set(arrival.as_u64());
        Ok(outcome)
    }
}

/// Governor's clock for one check: it asks once for the origin of its time, which is the process's start, then for now.
#[derive(Clone)]
struct FromStart {
    now: Nanos,
    asked: Cell<bool>,
}

impl FromStart {
    fn new(now_ns: u64) -> Self {
        Self {
            now: Nanos::new(now_ns),
            asked: Cell::new(false),
        }
    }
}

impl Clock for FromStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        if self.asked.replace(true) {
            self.now
        } else {
            Nanos::new(0)
        }
    }
}
