//! The only place that reads a clock: monotonic nanoseconds since an origin that all threads share.

use std::time::{Duration, Instant};

/// A point in time of the run, in nanoseconds since the clock's origin.
pub type Nanos = u64;

/// Nanoseconds in a second.
pub const SECOND_NS: Nanos = 1_000_000_000;

/// A monotonic clock; copies share the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at 0 now.
    #[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since the origin.
    #[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
    pub fn now(&self) -> Nanos {
        nanos(Instant::now().duration_since(self.origin))
    }

    /// The same moment as tokio's timers want it.
    pub fn instant(&self, at: Nanos) -> tokio::time::Instant {
        (self.origin + Duration::from_nanos(at)).into()
    }
}

/// A duration in nanoseconds, at most 584 years.
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
