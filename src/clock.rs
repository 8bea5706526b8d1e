//! The only place that reads a clock.
//!
//! A [`Clock`] gives microseconds since the Unix epoch. [`Clock::system`] reads the wall clock once, at the start, and adds
//! monotonic time from then on: a wall clock that is set forward or back while the process runs moves no window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch. Cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin_us: u64, started: Instant },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock's one home")]
    #[must_use]
    pub fn system() -> Self {
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::System {
            origin_us: micros(origin),
            started: Instant::now(),
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
            Source::System { origin_us, started } => {
                // In 64 bits: this is on the way of every request, and a process ends before they do.
                let elapsed = started.elapsed();
                origin_us + elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros())
            }
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
