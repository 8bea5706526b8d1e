//! The only place that reads a clock.
//!
//! A [`Clock`] gives microseconds since the Unix epoch. [`Clock::system`] reads the wall clock once, at the start, and adds
//! monotonic time from then on: a wall clock that is set forward or back while the process runs moves no window. Time that the
//! machine sleeps counts: what was booked ahead before must not be spent after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Monotonic, and counts while the machine sleeps. The standard library's does not on Linux.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// Microseconds since the Unix epoch. Cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// What to add to the steady clock.
    System {
        origin_us: u64,
    },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock's one home")]
    #[must_use]
    pub fn system() -> Self {
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::System {
            origin_us: micros(origin).saturating_sub(steady_us()),
        })
    }

    /// A clock that stands still until [`Clock::set`] moves it.
    #[must_use]
    pub fn manual(now_us: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now_us))))
    }

    /// The time in microseconds since the Unix epoch.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        match &self.0 {
            Source::System { origin_us } => origin_us + steady_us(),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Sets a manual clock; the system's clock can't be set and ignores it.
    pub fn set(&self, now_us: u64) {
        if let Source::Manual(now) = &self.0 {
            now.store(now_us, Ordering::Relaxed);
        }
    }
}

/// Microseconds since the machine's start. A steady clock is never negative, and its microseconds outlast every process.
fn steady_us() -> u64 {
    let time = clock_gettime(STEADY);
    time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_set() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        assert_eq!(clock.now_us(), 5);
        clock.set(3);
        assert_eq!(other.now_us(), 3);
    }

    #[test]
    fn the_system_clock_never_steps_back() {
        let clock = Clock::system();
        let first = clock.now_us();
        assert!(clock.now_us() >= first);
        assert!(
            first > 1_700_000_000_000_000,
            "the machine's clock stands before 2023"
        );
    }
}
