//! A circuit breaker: stops asking a store that does not answer, and asks again now and then.
//!
//! ```text
//! closed ──failures in a row──> open ──time──> one probe ──success──> closed
//!                                 ^──────────────failure──┘
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::limiter::Micros;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 5;
/// Failures closer together than this count as one: the requests of one late call fail together.
const FAILURE_GAP_US: Micros = 1_500;
/// How long it stays open at first; doubled after each probe that failed, up to [`OPEN_US_MAX`].
const OPEN_US: Micros = 50_000;
/// The longest time without a probe.
const OPEN_US_MAX: Micros = 400_000;

/// The breaker of one store. Its states change by atomic operations: a closed one costs a request two loads.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: AtomicU32,
    last_failure: AtomicU64,
    /// When the next probe may go; 0 while closed.
    open_until: AtomicU64,
    open_for: AtomicU64,
    probing: AtomicBool,
    opened: AtomicU64,
}

/// A request that may ask the store. Without a word about the outcome, a probe's place is free again when it is dropped.
#[derive(Debug)]
pub struct Permit<'b> {
    breaker: &'b Breaker,
    probe: bool,
}

impl Breaker {
    /// Whether a request may ask the store at `now`.
    #[must_use]
    pub fn admit(&self, now: Micros) -> Option<Permit<'_>> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Some(Permit {
                breaker: self,
                probe: false,
            });
        }
        let due = now >= until;
        let free = || {
            self.probing
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        (due && free()).then_some(Permit {
            breaker: self,
            probe: true,
        })
    }

    /// Whether the store is not asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open_until.load(Ordering::Relaxed) != 0
    }

    /// How often it opened since the start.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Whether that is one too many.
    fn count_failure(&self, now: Micros) -> bool {
        let last = self.last_failure.load(Ordering::Relaxed);
        if now.abs_diff(last) < FAILURE_GAP_US {
            return false;
        }
        self.last_failure.store(now, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX
    }

    fn open(&self, now: Micros, open_for: Micros) {
        self.open_for.store(open_for, Ordering::Relaxed);
        if self.open_until.swap(now + open_for, Ordering::AcqRel) == 0 {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Permit<'_> {
    /// The store answered.
    pub fn succeeded(self) {
        self.breaker.failures.store(0, Ordering::Relaxed);
        // An answer to a call that was sent before it opened closes it as well: the store is there.
        self.breaker.open_until.store(0, Ordering::Release);
    }

    /// The store did not answer, or not in time.
    pub fn failed(self, now: Micros) {
        let breaker = self.breaker;
        if self.probe {
            let before = breaker.open_for.load(Ordering::Relaxed);
            breaker.open(now, (before * 2).clamp(OPEN_US, OPEN_US_MAX));
        } else if breaker.count_failure(now) && !breaker.is_open() {
            breaker.open(now, OPEN_US);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so often, and returns the time of the last one.
    fn fail(breaker: &Breaker, from: Micros, times: u32) -> Micros {
        let mut now = from;
        for _ in 0..times {
            now += FAILURE_GAP_US;
            breaker.admit(now).expect("admitted").failed(now);
        }
        now
    }

    #[test]
    fn the_requests_of_one_late_call_are_one_failure() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.admit(9_000).expect("closed").failed(9_000);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn failures_in_a_row_open_it_and_single_ones_do_not() {
        let breaker = Breaker::default();
        let mut now = 1;
        for _ in 0..10 {
            now = fail(&breaker, now, FAILURES_MAX - 1);
            breaker.admit(now).expect("closed").succeeded();
        }
        assert!(!breaker.is_open());
        now = fail(&breaker, now, FAILURES_MAX);
        assert!(breaker.is_open() && breaker.admit(now).is_none());
        assert_eq!(breaker.opened(), 1);
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let breaker = Breaker::default();
        let later = fail(&breaker, 1, FAILURES_MAX) + OPEN_US;
        let probe = breaker.admit(later).expect("a probe is due");
        assert!(breaker.admit(later).is_none(), "there is one already");
        probe.failed(later);
        assert!(breaker.admit(later + OPEN_US).is_none(), "the pause has doubled");
        let probe = breaker.admit(later + 2 * OPEN_US).expect("the next probe is due");
        drop(probe);
        let again = breaker
            .admit(later + 2 * OPEN_US)
            .expect("a probe without a word frees its place");
        again.succeeded();
        assert!(!breaker.is_open() && breaker.admit(later).is_some_and(|permit| !permit.probe));
    }

    #[test]
    fn the_pause_is_bounded() {
        let breaker = Breaker::default();
        let mut now = fail(&breaker, 1, FAILURES_MAX);
        for _ in 0..20 {
            now += OPEN_US_MAX;
            breaker.admit(now).expect("a probe is due").failed(now);
        }
        assert_eq!(breaker.open_until.load(Ordering::Relaxed), now + OPEN_US_MAX);
    }
}
