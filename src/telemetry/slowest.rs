//! The slowest request of late.

use std::sync::atomic::{AtomicU64, Ordering};

const MINUTE_US: u64 = 60_000_000;

/// The longest time in microseconds of the current minute and of the one before it. A histogram can only say that something
/// took longer than its last bucket; this says how long.
#[derive(Debug, Default)]
pub(super) struct Slowest {
    current_us: AtomicU64,
    previous_us: AtomicU64,
    /// Which minute the current one is, counted since the Unix epoch.
    minute: AtomicU64,
}

impl Slowest {
    /// Notes what one request took. Nearly always one load.
    pub(super) fn note(&self, took_us: u64) {
        if took_us > self.current_us.load(Ordering::Relaxed) {
            self.current_us.fetch_max(took_us, Ordering::Relaxed);
        }
    }

    /// Begins a new minute if it is time to. To be called by one task, some times a minute; `now_us` is since the Unix epoch.
    pub(super) fn turn_over(&self, now_us: u64) {
        let now = now_us / MINUTE_US;
        let last = self.minute.swap(now, Ordering::Relaxed);
        if now != last {
            let ended_us = self.current_us.swap(0, Ordering::Relaxed);
            // At the start, and after a suspension, what was noted is of no minute that counts, or of this one.
            let kept_us = if now == last + 1 || last == 0 { ended_us } else { 0 };
            self.previous_us.store(kept_us, Ordering::Relaxed);
        }
    }

    /// The longest of both minutes.
    pub(super) fn longest_us(&self) -> u64 {
        let current_us = self.current_us.load(Ordering::Relaxed);
        current_us.max(self.previous_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_request_is_shown_for_its_minute_and_the_next() {
        let slowest = Slowest::default();
        slowest.note(7);
        slowest.turn_over(100 * MINUTE_US + 1);
        assert_eq!(
            slowest.longest_us(),
            7,
            "noted before the first look at the clock"
        );
        slowest.note(5);
        slowest.note(50);
        slowest.note(20);
        slowest.turn_over(100 * MINUTE_US + 30_000_000);
        assert_eq!(slowest.longest_us(), 50);
        slowest.turn_over(101 * MINUTE_US);
        slowest.note(10);
        assert_eq!(slowest.longest_us(), 50, "of the minute before");
        slowest.turn_over(102 * MINUTE_US);
        assert_eq!(slowest.longest_us(), 10);
        slowest.note(99);
        slowest.turn_over(110 * MINUTE_US);
        assert_eq!(slowest.longest_us(), 0, "nobody looked for minutes");
    }
}
