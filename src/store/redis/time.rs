//! The Redis server's time, as far as this instance knows it.

use std::sync::{Mutex, PoisonError};

use crate::limiter::Micros;

/// How long the best that was seen is believed: two clocks drift apart by less than a millisecond meanwhile.
const EPOCH_US: Micros = 5_000_000;
/// Replies in a row that all tell this much less than the best one: no late reading, but a clock that was set back.
const STEPS_BACK_MAX: u32 = 3;
const STEP_BACK_US: u64 = 100_000;
/// Keeps differences of clocks above 0.
const BIAS: u64 = 1 << 62;

/// The last `TIME`s seen, and when. What they tell is not ahead of the server, but for the drift of an epoch: each reply took
/// time to come, and the one that took least tells most.
#[derive(Debug, Default)]
pub struct RedisTime(Mutex<Seen>);

/// The server's time less ours, plus [`BIAS`]; 0 before anything was seen.
#[derive(Debug, Default)]
struct Seen {
    epoch: u64,
    best: u64,
    best_before: u64,
    steps_back: u32,
}

impl RedisTime {
    /// Notes a `TIME` that came with a reply received at `now` of this process's monotonic clock.
    pub fn saw(&self, redis_us: Micros, now: Micros) {
        let offset = (BIAS + redis_us).saturating_sub(now);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now / EPOCH_US != seen.epoch {
            seen.epoch = now / EPOCH_US;
            seen.best_before = std::mem::take(&mut seen.best);
        }
        if offset + STEP_BACK_US < seen.best.max(seen.best_before) {
            seen.steps_back += 1;
            if seen.steps_back >= STEPS_BACK_MAX {
                *seen = Seen {
                    epoch: seen.epoch,
                    best: offset,
                    ..Seen::default()
                };
            }
        } else {
            seen.steps_back = 0;
            seen.best = seen.best.max(offset);
        }
    }

    /// Forgets all: it is another server from now on.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// The server's time at `now`; `None` before anything was seen.
    #[must_use]
    pub fn at(&self, now: Micros) -> Option<Micros> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = seen.best.max(seen.best_before);
        (offset != 0).then(|| (offset + now).saturating_sub(BIAS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_with_our_clock_from_the_last_time_seen() {
        let time = RedisTime::default();
        assert_eq!(time.at(5), None);
        time.saw(1_000, 10);
        assert_eq!(time.at(10), Some(1_000));
        assert_eq!(time.at(35), Some(1_025));
        time.saw(1_030, 60);
        assert_eq!(time.at(60), Some(1_050), "a reply that was read late tells less");
    }

    #[test]
    fn a_server_that_drifts_behind_is_followed() {
        let time = RedisTime::default();
        let mut now = 0;
        for _ in 0..100 {
            now += EPOCH_US / 4;
            time.saw(now + 1_000_000 - now / 10_000, now);
        }
        let ahead = time.at(now).unwrap_or(0) - (now + 1_000_000 - now / 10_000);
        assert!(ahead <= 2 * EPOCH_US / 10_000, "{ahead} µs ahead");
    }

    #[test]
    fn a_clock_that_was_set_back_is_believed_after_a_few_replies() {
        let time = RedisTime::default();
        time.saw(900_000_000, 1_000);
        for reply in 1..=3 {
            time.saw(500_000_000 + reply, 1_000 + reply);
        }
        assert_eq!(time.at(1_003), Some(500_000_003));
    }
}
