//! The numbers of one limit, with what the algorithms need from them worked out once, when a policy is compiled.

use super::{local_bucket, sliding_window, token_bucket};

/// Microseconds: a length of time, or a point in time since an origin that the algorithm names. Points are below 2^53, so
/// that a Lua script can hold them in a double.
pub type Micros = u64;

/// The longest window: 100 years of 365 days, in microseconds.
pub const WINDOW_US_MAX: Micros = 100 * 365 * 86_400 * 1_000_000;

/// The most hits that one record books: more is capped, so that no single message fills a counter for good.
pub const RECORD_HITS_MAX: u64 = 1 << 32;

/// The most units that a counter shared by instances holds; recorded overshoot stops here, far below 2^53.
pub const UNITS_MAX: u64 = 1 << 52;

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Never more than the limit in any rolling window.
    SlidingWindow,
    /// Windows aligned to the epoch; up to twice the limit across a boundary.
    FixedWindow,
    /// A bucket that drains steadily, shared by all instances.
    TokenBucket,
    /// A bucket of this process alone (`scope: local`).
    LocalBucket,
}

impl Algorithm {
    /// Its name, as policy files have it where they do.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::TokenBucket => "token_bucket",
            Self::LocalBucket => "local_bucket",
        }
    }
}

/// What becomes of a limit while the store that counts it is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStoreError {
    /// It is counted on this instance's share.
    #[default]
    Local,
    /// It lets everything pass.
    Allow,
    /// It denies everything.
    Deny,
    /// It denies everything (`strict: true`), and must also not be held by a store whose counters may be lost: for one
    /// window after a new primary was found empty.
    Strict,
}

/// One limit, ready for use: at most `requests` hits per window, with what the algorithm derives from that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    algorithm: Algorithm,
    requests: u32,
    burst: u32,
    window_us: Micros,
    /// Units that one hit takes: 1 for the windows.
    cost: u64,
    /// Units that the limit holds. At most 2^62, so a sum that saturates never looks like a fit.
    capacity: u64,
    pace: Pace,
}

/// The number that only one algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    /// Sliding window: hits less than this many microseconds apart may share an entry.
    Tick(Micros),
    /// Token bucket: units that drain in a microsecond.
    Drain(f64),
    /// The others need none.
    None,
}

impl Limit {
    /// The limit of `requests` hits per `window_us`.
    ///
    /// The window is brought into 1 to [`WINDOW_US_MAX`]. `burst` is what a bucket holds when full, by default `requests`;
    /// the windows ignore it. With `requests` or `burst` 0 no hit ever fits. A local bucket's burst is lowered to what drains
    /// in 2^62 ns (146 years).
    #[must_use]
    pub fn new(algorithm: Algorithm, requests: u32, window_us: u64, burst: Option<u32>) -> Self {
        let window_us = window_us.clamp(1, WINDOW_US_MAX);
        let wanted = if requests == 0 {
            0
        } else {
            burst.unwrap_or(requests)
        };
        let (burst, cost, capacity, pace) = match algorithm {
            Algorithm::SlidingWindow => {
                let tick = sliding_window::tick_us(requests, window_us);
                (requests, 1, requests.into(), Pace::Tick(tick))
            }
            Algorithm::FixedWindow => (requests, 1, requests.into(), Pace::None),
            Algorithm::TokenBucket => {
                let (cost, drain) = token_bucket::cost_and_drain(requests, window_us, wanted);
                (wanted, cost, cost * u64::from(wanted), Pace::Drain(drain))
            }
            Algorithm::LocalBucket => {
                let (cost, burst) = local_bucket::cost_and_burst(requests, window_us, wanted);
                (burst, cost, cost * u64::from(burst), Pace::None)
            }
        };
        Self {
            algorithm,
            requests,
            burst,
            window_us,
            cost,
            capacity,
            pace,
        }
    }

    /// How this limit counts.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Hits per window.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The window's length.
    #[must_use]
    pub fn window_us(&self) -> Micros {
        self.window_us
    }

    /// Hits that fit at once into an empty counter: the bucket's size, or `requests` for a window.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Units that one hit takes.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Units that the limit holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The most units that a counter of this limit takes before records stop adding to it.
    #[must_use]
    pub fn units_max(&self) -> u64 {
        match self.algorithm {
            Algorithm::LocalBucket => local_bucket::UNITS_MAX,
            _ => UNITS_MAX,
        }
    }

    /// Whether `hits` can't fit into an empty counter.
    #[must_use]
    pub fn never_fits(&self, hits: u64) -> bool {
        hits > u64::from(self.burst)
    }

    /// The level of a counter that uses `used` units.
    pub(super) fn level(&self, used: u64) -> Level {
        Level {
            used,
            cost: self.cost,
            capacity: self.capacity,
        }
    }

    /// The width of a tick, 1 for anything but a sliding window.
    #[must_use]
    pub fn tick_us(&self) -> Micros {
        match self.pace {
            Pace::Tick(tick) => tick,
            _ => 1,
        }
    }

    /// Units that drain in a microsecond, 0 for anything but a token bucket.
    #[must_use]
    pub fn drain(&self) -> f64 {
        match self.pace {
            Pace::Drain(drain) => drain,
            _ => 0.0,
        }
    }
}

/// How full a counter is, in the units of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units used now; above `capacity` after a record.
    pub used: u64,
    /// Units that one hit takes, at least 1.
    pub cost: u64,
    /// Units that the limit holds.
    pub capacity: u64,
}

impl Level {
    /// The level after `booked` more units.
    #[must_use]
    pub fn plus(self, booked: u64) -> Self {
        Self {
            used: self.used.saturating_add(booked),
            ..self
        }
    }

    /// Whether `hits` more fit whole; with 0 hits: whether the counter is not above its limit.
    #[must_use]
    pub fn fits(&self, hits: u64) -> bool {
        hits.saturating_mul(self.cost).saturating_add(self.used) <= self.capacity
    }

    /// Hits used, a part of one counting whole.
    #[must_use]
    pub fn used_hits(&self) -> u64 {
        self.used.div_ceil(self.cost)
    }

    /// Whole hits that still fit.
    #[must_use]
    pub fn remaining_hits(&self) -> u64 {
        self.capacity.saturating_sub(self.used) / self.cost
    }
}
