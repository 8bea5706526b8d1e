//! The Redis server's time, as far as this instance knows it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limiter::Micros;

/// The last `TIME` seen, and when. What it tells is never ahead of the server: the reply took time to come, and the server's
/// clock went on meanwhile.
#[derive(Debug, Default)]
pub struct RedisTime {
    /// The server's time less ours, plus 2^62 to stay positive; 0 before anything was seen.
    offset: AtomicU64,
}

const BIAS: u64 = 1 << 62;
/// What is later than any reply comes is a clock that was set back.
const STEP_BACK_US: Micros = 500_000;

impl RedisTime {
    /// Notes a `TIME` that came with a reply received at `now` of this process's monotonic clock. A reply that was read late
    /// tells less than is known already and is passed over, unless the server's clock itself was set back.
    pub fn saw(&self, redis_us: Micros, now: Micros) {
        let seen = (BIAS + redis_us).saturating_sub(now);
        let known = self.offset.load(Ordering::Relaxed);
        if seen >= known || known - seen > STEP_BACK_US {
            self.offset.store(seen, Ordering::Relaxed);
        }
    }

    /// The server's time at `now`, at the latest; `None` before anything was seen.
    #[must_use]
    pub fn at(&self, now: Micros) -> Option<Micros> {
        let offset = self.offset.load(Ordering::Relaxed);
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
        assert_eq!(time.at(60), Some(1_050), "a reply that was read late");
        time.saw(500, 1_000_000);
        assert_eq!(time.at(1_000_001), Some(501), "a server behind our clock");
    }
}
