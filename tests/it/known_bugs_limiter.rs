//! Bugs that were found in published limiters, each as a test by its name. Here those of the pure algorithms.

use ratekeeper::limiter::{
    Algorithm, Charge, Counters, Level, Limit, Micros, Mode, Prior, State, Verdict, decide,
};

use crate::limiter_oracle::{NOW, SECOND};

const ALL: [Algorithm; 4] = [
    Algorithm::SlidingWindow,
    Algorithm::FixedWindow,
    Algorithm::TokenBucket,
    Algorithm::LocalBucket,
];
const BUCKETS: [Algorithm; 2] = [Algorithm::TokenBucket, Algorithm::LocalBucket];
/// The start of an aligned window of up to an hour.
const START: Micros = NOW - NOW % (3_600 * SECOND);

/// A counter and the limit it is asked with.
struct Subject {
    limit: Limit,
    counters: Vec<Option<State>>,
}

impl Subject {
    fn new(algorithm: Algorithm, requests: u32, window: Micros) -> Self {
        Self {
            limit: Limit::new(algorithm, requests, window, None),
            counters: vec![],
        }
    }

    fn bucket(algorithm: Algorithm, rate: u32, burst: u32) -> Self {
        Self {
            limit: Limit::new(algorithm, rate, SECOND, Some(burst)),
            counters: vec![],
        }
    }

    fn ask(&mut self, now: Micros, hits: u64, mode: Mode) -> Verdict {
        let charge = Charge {
            counter: 0,
            limit: self.limit,
            hits,
            mode,
            shadow: false,
            quota: false,
        };
        let mut verdicts = vec![];
        decide(
            now,
            &[charge],
            &mut self.counters,
            Prior::default(),
            &mut verdicts,
        );
        verdicts[0]
    }

    fn consume(&mut self, now: Micros, hits: u64) -> bool {
        !self.ask(now, hits, Mode::Consume).over
    }

    /// How many of `tries` single hits pass.
    fn storm(&mut self, now: Micros, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(self.consume(now, 1))).sum()
    }

    fn level(&self, now: Micros) -> Level {
        let empty = State::new(self.limit.algorithm());
        Counters::get(&self.counters, 0)
            .unwrap_or(&empty)
            .level(now, &self.limit)
    }
}

#[test]
fn bug_01_same_timestamp_collapses() {
    for algorithm in ALL {
        for requests in [100, 1_000] {
            let mut in_one_us = Subject::new(algorithm, requests, 60 * SECOND);
            assert_eq!(in_one_us.storm(START, 10_000), requests, "{algorithm:?}");
            let mut in_one_ms = Subject::new(algorithm, requests, 60 * SECOND);
            let passed: u32 = (0..10_000)
                .map(|i| u32::from(in_one_ms.consume(START + i / 10, 1)))
                .sum();
            assert_eq!(passed, requests, "{algorithm:?}");
        }
    }
}

#[test]
fn bug_02_rejected_hits_are_counted() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, SECOND);
        assert!(subject.consume(START, 8));
        let before = subject.counters.clone();
        for i in 0..1_000 {
            assert!(!subject.consume(START + i / 1_000, 9), "{algorithm:?}");
        }
        assert_eq!(subject.counters, before, "{algorithm:?}");
        // A steady abuser recovers as if it had never been denied.
        for i in 0..10 {
            subject.storm(START + i * SECOND / 10, 100);
        }
        assert!(subject.consume(START + 2 * SECOND, 1), "{algorithm:?}");
    }
}

#[test]
fn bug_03_checks_for_empty_instead_of_enough() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, SECOND);
        assert!(subject.consume(START, 9));
        for hits in [2, 5, 10, 1_000_000, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            assert!(!subject.consume(START, hits), "{algorithm:?} {hits}");
            assert_eq!(subject.level(START).remaining_hits(), 1);
        }
        assert!(subject.consume(START, 1));
    }
}

#[test]
fn bug_06_clock_skew_switches_the_limiter_off() {
    // Two gateways, one behind the other by `skew`, take turns for ten seconds at 200 hits a second.
    for algorithm in ALL {
        for skew in [0, SECOND / 20, SECOND / 10, SECOND, 3_600 * SECOND] {
            let mut subject = Subject::new(algorithm, 10, SECOND);
            let mut passed = 0;
            for i in 0..2_000 {
                let now = START + 3_600 * SECOND + i * SECOND / 200;
                passed += u32::from(subject.consume(if i % 2 == 0 { now } else { now - skew }, 1));
            }
            assert!(passed <= 110, "{algorithm:?}: {passed} passed with {skew} us");
            assert!(passed >= 10);
        }
    }
}

#[test]
fn bug_07_clock_too_coarse() {
    for algorithm in [
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
        Algorithm::LocalBucket,
    ] {
        // 120 ms across the edge of a second.
        let mut subject = Subject::new(algorithm, 10, SECOND);
        let from = START + SECOND - 60_000;
        let passed: u32 = (0..120).map(|ms| subject.storm(from + ms * 1_000, 10)).sum();
        let refilled = u32::from(algorithm != Algorithm::SlidingWindow);
        assert_eq!(passed, 10 + refilled, "{algorithm:?}");
    }
}

#[test]
fn bug_08_idle_credit_above_the_burst() {
    for algorithm in BUCKETS {
        let mut subject = Subject::bucket(algorithm, 1, 10);
        assert!(subject.consume(START, 1));
        for idle in [8, 9, 10, 11, 1_000_000] {
            assert_eq!(
                subject.storm(START + idle * 100 * SECOND, 100),
                10,
                "{algorithm:?} after {idle}"
            );
        }
    }
}

#[test]
fn bug_10_denied_by_one_limit_still_burns_the_other() {
    for algorithm in ALL {
        let charge = |counter, requests, window| {
            let limit = Limit::new(algorithm, requests, window, None);
            Charge::consume(counter, limit, 1)
        };
        let charges = [charge(0, 1_000, 3_600 * SECOND), charge(1, 10, SECOND)];
        let mut counters = vec![None, None];
        for _ in 0..500 {
            decide(START, &charges, &mut counters, Prior::default(), &mut vec![]);
        }
        let [hour, second] = [0, 1].map(|i| {
            counters[i]
                .as_ref()
                .map_or(0, |s| s.level(START, &charges[i].limit).used_hits())
        });
        assert_eq!((hour, second), (10, 10), "{algorithm:?}");
    }
}

#[test]
fn bug_14_expired_hits_still_count() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, SECOND);
        assert_eq!(subject.storm(START, 10), 10);
        assert_eq!(
            subject.ask(START + SECOND, 10, Mode::Peek).used,
            0,
            "{algorithm:?}"
        );
        assert!(subject.consume(START + SECOND, 10), "{algorithm:?}");
    }
}

#[test]
fn bug_15_impossible_request_is_told_a_time() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, 60 * SECOND);
        for used in [0, 3, 10] {
            subject.ask(START, used, Mode::Consume);
            for hits in [11, 1 << 32, u64::MAX] {
                // Not a time at which it would fit: the window, and a way to tell.
                assert!(subject.limit.never_fits(hits));
                assert_eq!(
                    subject.ask(START, hits, Mode::Consume).wait_us,
                    60 * SECOND,
                    "{algorithm:?}"
                );
                assert!(!subject.consume(START + 60 * SECOND, hits));
            }
        }
    }
}

#[test]
fn bug_16_refund_is_credited_twice() {
    for algorithm in ALL {
        // Hit and refund in turn: never room for more than the limit at once.
        let mut subject = Subject::new(algorithm, 10, SECOND);
        for _ in 0..100 {
            subject.ask(START, 10, Mode::Refund);
        }
        assert_eq!(subject.storm(START, 100), 10, "{algorithm:?}");
        subject.ask(START + 1, u64::MAX, Mode::Refund);
        assert_eq!(subject.counters, [None], "an emptied counter stays");
        subject.ask(START + 1, u64::MAX, Mode::Refund);
        assert_eq!(subject.storm(START + 1, 100), 10, "{algorithm:?}");
    }
    for algorithm in BUCKETS {
        // The time before a refund drains once, not once more after it.
        let mut subject = Subject::bucket(algorithm, 10, 10);
        assert!(subject.consume(START, 10));
        subject.ask(START + SECOND / 2, 2, Mode::Refund);
        assert_eq!(subject.storm(START + SECOND / 2, 100), 7, "{algorithm:?}");
    }
}

#[test]
fn bug_22_changed_limit_forgets_or_refills() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, SECOND);
        assert!(subject.consume(START, 10));
        // Raised: what was used stays used. A bucket stays as full, in parts of itself.
        subject.limit = Limit::new(algorithm, 20, SECOND, None);
        let part = if BUCKETS.contains(&algorithm) { 0 } else { 10 };
        assert_eq!(subject.storm(START, 100), part, "{algorithm:?}");
        // Lowered: nothing until enough has left, and then the new limit.
        subject.limit = Limit::new(algorithm, 5, SECOND, None);
        assert_eq!(subject.storm(START, 100), 0, "{algorithm:?}");
        assert_eq!(subject.storm(START + SECOND, 100), 5, "{algorithm:?}");
    }
}

#[test]
fn bug_26_reading_changes_the_counter() {
    for algorithm in ALL {
        let mut subject = Subject::new(algorithm, 10, SECOND);
        subject.ask(START, 5, Mode::Peek);
        assert!(
            subject.counters.iter().all(Option::is_none),
            "{algorithm:?}: a peek made a counter"
        );
        assert!(subject.consume(START, 4));
        let before = subject.counters.clone();
        for i in 0..100 {
            assert_eq!(subject.ask(START + i, 1, Mode::Peek).remaining, 6);
            subject.ask(START + i * SECOND, 1, Mode::Peek);
        }
        assert_eq!(subject.counters, before, "{algorithm:?}");
    }
}

#[test]
fn bug_27_twice_the_limit_across_a_boundary() {
    for requests in [10, 1_000] {
        for before in [1, SECOND / 200, SECOND / 2, SECOND - 1] {
            let mut subject = Subject::new(Algorithm::SlidingWindow, requests, SECOND);
            let passed = subject.storm(START + SECOND - before, 5_000);
            let more = subject.storm(START + 2 * SECOND - before - 1, 5_000);
            assert_eq!((passed, more), (requests, 0), "{before}");
        }
    }
    // The aligned window does let it pass: that is what it promises.
    let mut fixed = Subject::new(Algorithm::FixedWindow, 10, SECOND);
    assert_eq!(
        fixed.storm(START + SECOND - 1, 100) + fixed.storm(START + SECOND, 100),
        20
    );
}
