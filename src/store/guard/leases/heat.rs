//! How often counters without a lease are asked: a fixed number of places, which counters may share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::deny_cache::place_of;
use super::per_second;
use crate::limiter::Micros;

const PLACES: usize = 1 << 14;
/// The length of a period: 2^14 µs, some 16 ms.
const PERIOD_BITS: u32 = 14;
/// Askings in a period that make a counter hot.
const HOT: u64 = 8;

/// By place: the period in the upper half, askings in that period in the lower.
#[derive(Debug)]
pub(super) struct Heat(Box<[AtomicU64]>);

impl Default for Heat {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Heat {
    /// Counts an asking of `hits`; if the counter of this hash is hot, the hits a second that it is asked for, about. Two threads
    /// at once may count one.
    pub fn add(&self, hash: u64, hits: u64, now: Micros) -> Option<f64> {
        let place = &self.0[place_of(hash, PLACES)];
        let period = (now >> PERIOD_BITS) << 32;
        let known = place.load(Ordering::Relaxed);
        let askings = if known >> 32 << 32 == period {
            (known & u64::from(u32::MAX)) + 1
        } else {
            1
        };
        place.store(period | askings.min(u64::from(u32::MAX)), Ordering::Relaxed);
        (askings >= HOT).then(|| {
            let passed = now & ((1 << PERIOD_BITS) - 1);
            per_second(askings * hits, passed.max(1 << (PERIOD_BITS - 2)))
        })
    }
}
