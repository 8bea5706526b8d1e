//! A wait is exact: denied at every microsecond before it, allowed at it. And the numbers at the edges.

use proptest::prelude::*;
use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior, State, Verdict, decide};

use crate::limiter_oracle::{DAY, NOW, Random, SECOND, Scenario, YEAR, seeds};

const ALL: [Algorithm; 4] = [
    Algorithm::SlidingWindow,
    Algorithm::FixedWindow,
    Algorithm::TokenBucket,
    Algorithm::LocalBucket,
];
const EXACT: [Algorithm; 3] = [
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
    Algorithm::LocalBucket,
];

fn charge(limit: Limit, hits: u64, mode: Mode) -> Charge {
    Charge {
        counter: 0,
        limit,
        hits,
        mode,
        shadow: false,
        quota: false,
    }
}

fn one(now: Micros, state: &mut Vec<Option<State>>, charge: Charge) -> Verdict {
    let mut verdicts = vec![];
    decide(now, &[charge], state, Prior::default(), &mut verdicts);
    verdicts[0]
}

/// Checks the wait of `hits` on a counter that denies them.
fn check_wait(state: &State, now: Micros, limit: &Limit, hits: u64, seed: u64) {
    let wait = state.wait_us(now, limit, 0, hits);
    if limit.never_fits(hits) {
        assert_eq!(wait, limit.window_us(), "seed {seed}");
        return;
    }
    assert!(wait > 0, "seed {seed}: {state:?}");
    // Governor's time ends at 2^63 ns, and a wait of 2^53 us or more is only a bound.
    if now + wait < (1 << 53) - 1 {
        assert!(
            !state.level(now + wait - 1, limit).fits(hits),
            "seed {seed}: fits before {wait}: {state:?}"
        );
        assert!(
            state.level(now + wait, limit).fits(hits),
            "seed {seed}: denied at {wait}: {state:?}"
        );
    }
}

#[test]
fn a_denied_charge_fits_exactly_when_its_wait_is_over() {
    for algorithm in EXACT {
        let mut waits = 0;
        for seed in seeds(150) {
            let random = &mut Random::new(seed);
            let scenario = Scenario::random(random, algorithm);
            let (mut now, mut state) = (scenario.start, State::new(algorithm));
            for _ in 0..200 {
                now = scenario.advance(random, now);
                let c = scenario.charges(random)[0];
                match c.mode {
                    Mode::Refund => state.refund(now, &c.limit, c.hits),
                    Mode::Record => state.charge(now, &c.limit, c.hits.min(1_000)),
                    Mode::Peek if state.level(now, &c.limit).fits(0) => {}
                    Mode::Peek => {
                        check_wait(&state, now, &c.limit, 0, seed);
                        waits += 1;
                    }
                    Mode::Consume if state.level(now, &c.limit).fits(c.hits) => {
                        state.consume(now, &c.limit, c.hits);
                        assert_eq!(state.wait_us(now, &c.limit, 0, 0), 0);
                    }
                    Mode::Consume => {
                        check_wait(&state, now, &c.limit, c.hits, seed);
                        waits += 1;
                    }
                }
            }
        }
        assert!(waits > 5_000, "{algorithm:?}: {waits} waits");
    }
}

/// The wait of a record is that of the counter with the record booked.
#[test]
fn a_record_above_the_limit_waits_for_its_own_hits_too() {
    for algorithm in EXACT {
        let limit = Limit::new(algorithm, 10, SECOND, None);
        let mut state = vec![None];
        one(NOW, &mut state, charge(limit, 6, Mode::Consume));
        let v = one(NOW + 7, &mut state, charge(limit, 6, Mode::Record));
        assert_eq!((v.over, v.used, v.remaining), (true, 12, 0), "{algorithm:?}");
        let v_again = state[0].as_ref().unwrap().wait_us(NOW + 7, &limit, 0, 6);
        assert_eq!(v.wait_us, v_again, "{algorithm:?}");
        assert!(
            one(
                NOW + 7 + v.wait_us - 1,
                &mut state.clone(),
                charge(limit, 6, Mode::Consume)
            )
            .over
        );
        assert!(!one(NOW + 7 + v.wait_us, &mut state, charge(limit, 6, Mode::Consume)).over);
    }
}

#[test]
fn round_numbers_come_back_to_the_microsecond() {
    for (requests, window) in [
        (1, SECOND),
        (10, SECOND),
        (60, 60 * SECOND),
        (100, 3_600 * SECOND),
        (5, DAY),
    ] {
        for algorithm in EXACT {
            let limit = Limit::new(algorithm, requests, window, None);
            let mut state = State::new(algorithm);
            state.consume(NOW, &limit, requests.into());
            let one_hit = if algorithm == Algorithm::SlidingWindow {
                window
            } else {
                window / u64::from(requests)
            };
            assert_eq!(state.wait_us(NOW, &limit, 0, 1), one_hit, "{limit:?}");
            assert_eq!(state.empty_us(NOW, &limit, 0), window, "{limit:?}");
            assert_eq!(state.expires_us(&limit), NOW + window, "{limit:?}");
            assert!(
                state.level(NOW + window, &limit).fits(requests.into()),
                "{limit:?}"
            );
        }
    }
}

#[test]
fn a_limit_of_zero_lets_nothing_pass_and_recovers_from_records() {
    for algorithm in ALL {
        for limit in [
            Limit::new(algorithm, 0, SECOND, None),
            Limit::new(algorithm, 0, SECOND, Some(5)),
        ] {
            let mut state = vec![None];
            let v = one(NOW, &mut state, charge(limit, 1, Mode::Consume));
            assert_eq!((v.over, v.used, v.remaining), (true, 0, 0), "{limit:?}");
            assert!(v.wait_us <= SECOND && v.wait_us > 0);
            assert!(!one(NOW, &mut state, charge(limit, 0, Mode::Peek)).over);
            assert_eq!(state, [None], "{limit:?}: wrote");
            assert!(one(NOW, &mut state, charge(limit, 1, Mode::Record)).over);
            assert!(one(NOW, &mut state, charge(limit, 0, Mode::Peek)).over);
            assert!(
                !one(NOW + SECOND, &mut state, charge(limit, 0, Mode::Peek)).over,
                "{limit:?}"
            );
        }
    }
    let no_burst = Limit::new(Algorithm::TokenBucket, 10, SECOND, Some(0));
    assert!(one(NOW, &mut vec![], charge(no_burst, 1, Mode::Consume)).over);
}

#[test]
fn a_fixed_window_always_shows_the_time_to_its_end() {
    let limit = Limit::new(Algorithm::FixedWindow, 2, 60 * SECOND, None);
    let start = NOW - NOW % (60 * SECOND);
    for (at, to_end) in [(0, 60 * SECOND), (1, 60 * SECOND - 1), (60 * SECOND - 1, 1)] {
        let mut state = vec![None];
        for (hits, mode) in [
            (0, Mode::Peek),
            (1, Mode::Refund),
            (3, Mode::Consume),
            (1, Mode::Consume),
            (9, Mode::Record),
        ] {
            assert_eq!(
                one(start + at, &mut state, charge(limit, hits, mode)).wait_us,
                to_end,
                "{mode:?} at {at}"
            );
        }
    }
}

/// The reference server's arithmetic: every hit is counted first, then compared.
#[test]
fn a_fixed_window_that_records_counts_as_the_reference_does() {
    let mut operations = 0;
    for seed in seeds(50) {
        let random = &mut Random::new(seed);
        let unit = random.pick(&[1, 60, 3_600, 86_400, 604_800, 2_592_000, 31_536_000]);
        let requests = u32::try_from(random.below(50)).unwrap();
        let limit = Limit::new(Algorithm::FixedWindow, requests, unit * SECOND, None);
        let (mut now, mut state) = (NOW, vec![None]);
        let (mut key, mut counter) = (0, 0);
        for _ in 0..1_000 {
            now += random.below(unit * SECOND / 10);
            let seconds = now / SECOND;
            let hits = random.pick(&[1, 1, 1, 2, 5, 0, 20]);
            if key != seconds / unit * unit {
                (key, counter) = (seconds / unit * unit, 0);
            }
            counter += hits;
            let mode = if hits == 0 { Mode::Peek } else { Mode::Record };
            let v = one(now, &mut state, charge(limit, hits, mode));
            assert_eq!(v.over, counter > requests.into(), "seed {seed}");
            assert_eq!(
                v.remaining,
                u64::from(requests).saturating_sub(counter),
                "seed {seed}"
            );
            assert_eq!(v.wait_us.div_ceil(SECOND), unit - (seconds % unit), "seed {seed}");
            operations += 1;
        }
    }
    assert_eq!(operations, 50_000);
}

/// Records stop at 2^32 hits each and 2^52 in all: nothing wraps, and the counter comes back to life.
#[test]
fn records_saturate_and_never_wrap() {
    for algorithm in ALL {
        for requests in [0, 1, 125, 126, u32::MAX] {
            let limit = Limit::new(algorithm, requests, SECOND, None);
            let mut state = vec![None];
            for i in 0..5_000 {
                let v = one(NOW + i, &mut state, charge(limit, u64::MAX, Mode::Record));
                assert!(v.over && v.used >= 1, "{limit:?}");
                assert!(v.used <= (1 << 52) + 1);
                assert_eq!(v.remaining, 0);
            }
            let counter = state[0].as_ref().unwrap();
            if let Algorithm::SlidingWindow | Algorithm::FixedWindow = algorithm {
                assert_eq!(
                    counter.expires_us(&limit).div_ceil(SECOND),
                    (NOW + SECOND).div_ceil(SECOND) + u64::from(algorithm == Algorithm::SlidingWindow)
                );
            }
            for mut state in [State::new(algorithm), counter.clone()] {
                for _ in 0..3 {
                    state.charge(NOW, &limit, u64::MAX);
                    assert_eq!(state.level(NOW, &limit).used, limit.units_max());
                }
                // The ends of the numbers: an answer, whatever it is.
                state.charge(u64::MAX, &limit, u64::MAX);
                state.refund(u64::MAX, &limit, u64::MAX);
                let _ = state.wait_us(0, &limit, u64::MAX, u64::MAX);
                let _ = state.empty_us(u64::MAX, &limit, u64::MAX);
            }
        }
    }
}

/// Totals of a busy sliding window start anew long before a double could not hold them, without a change of what is used.
#[test]
fn running_totals_start_anew_without_a_trace() {
    let limit = Limit::new(Algorithm::SlidingWindow, u32::MAX, SECOND, None);
    let mut state = State::new(Algorithm::SlidingWindow);
    let mut now = NOW;
    for _ in 0..20 {
        now += SECOND / 4;
        let before = state.level(now, &limit).used;
        state.charge(now, &limit, 1 << 50);
        assert_eq!(state.level(now, &limit).used, (before + (1 << 50)).min(1 << 52));
        let State::SlidingWindow(window) = &state else {
            unreachable!()
        };
        assert!(window.entries().all(|(_, total)| total < 1 << 53), "{window:?}");
    }
}

#[test]
fn a_foreign_state_reads_as_empty_and_is_replaced() {
    for algorithm in ALL {
        for other in ALL.into_iter().filter(|o| *o != algorithm) {
            let (limit, other_limit) = (
                Limit::new(algorithm, 3, SECOND, None),
                Limit::new(other, 3, SECOND, None),
            );
            let mut state = vec![None];
            one(NOW, &mut state, charge(other_limit, 3, Mode::Consume));
            assert!(
                !one(NOW, &mut state, charge(limit, 3, Mode::Consume)).over,
                "{algorithm:?} on {other:?}"
            );
            assert!(one(NOW, &mut state, charge(limit, 1, Mode::Consume)).over);
            let mut state = vec![Some(State::new(other))];
            assert!(
                one(NOW, &mut state, charge(limit, 4, Mode::Record)).over,
                "{algorithm:?} on {other:?}"
            );
            assert!(one(NOW, &mut state, charge(limit, 1, Mode::Consume)).over);
        }
    }
}

#[test]
fn a_state_is_small() {
    assert_eq!(size_of::<State>(), 24);
    for requests in [1, 125, 126, u32::MAX] {
        let limit = Limit::new(Algorithm::SlidingWindow, requests, SECOND, None);
        let mut window = ratekeeper::limiter::sliding_window::SlidingWindow::default();
        for i in 0..100_000 {
            window.charge(NOW + i * 13, &limit, 1);
            assert!(window.entries().len() <= 127);
        }
        assert!(
            window.entries().len() >= 125,
            "{requests}: {}",
            window.entries().len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the level lets pass governor lets pass, and the other way round.
    #[test]
    fn governor_and_the_level_always_agree(
        requests in prop_oneof![0u32..10, Just(u32::MAX), any::<u32>()],
        burst in prop_oneof![Just(None), (0u32..20).prop_map(Some), any::<u32>().prop_map(Some)],
        window in prop_oneof![1u64..5, Just(SECOND), Just(DAY), Just(100 * YEAR)],
        steps in prop::collection::vec((0u64..3, 0u64..1_000_000, prop_oneof![0u64..12, Just(1 << 63), any::<u64>()]), 1..30),
    ) {
        let limit = Limit::new(Algorithm::LocalBucket, requests, window, burst);
        let mut bucket = ratekeeper::limiter::local_bucket::LocalBucket::default();
        let mut now = 0;
        for (kind, after, hits) in steps {
            now += after * (window / 1_000_000).max(1);
            match kind {
                0 => bucket.charge(now, &limit, hits),
                1 => bucket.refund(now, &limit, hits),
                _ => {
                    let (fits, before) = (bucket.level(now, &limit).fits(hits), bucket.clone());
                    let mut booked = before.clone();
                    booked.charge(now, &limit, hits);
                    let passed = bucket.consume(now, &limit, hits);
                    prop_assert_eq!(passed, fits && hits > 0);
                    prop_assert_eq!(bucket, if passed { booked.clone() } else { before });
                    bucket = booked;
                }
            }
        }
    }

    /// At most burst + rate * t in any time t, whatever is asked for and whenever.
    #[test]
    fn a_bucket_never_passes_more_than_burst_and_rate(
        local in any::<bool>(),
        requests in 1u32..2_000,
        burst in 1u32..2_000,
        window in prop_oneof![Just(SECOND), Just(60 * SECOND), 1u64..DAY],
        steps in prop::collection::vec((0u64..1_000, 0u64..400), 1..60),
    ) {
        let algorithm = if local { Algorithm::LocalBucket } else { Algorithm::TokenBucket };
        let limit = Limit::new(algorithm, requests, window, Some(burst));
        let (mut state, mut now) = (State::new(algorithm), NOW);
        let mut passed: Vec<(u64, u64)> = vec![];
        for (after, hits) in steps {
            now += after * window / 10_000;
            if state.level(now, &limit).fits(hits) {
                state.consume(now, &limit, hits);
                passed.push((now, hits));
            }
            let mut sum = 0_u128;
            for (at, hits) in passed.iter().rev() {
                sum += u128::from(*hits);
                let most = u128::from(burst) * u128::from(window) + u128::from(requests) * u128::from(now - at);
                prop_assert!(sum * u128::from(window) <= most);
            }
        }
    }

    /// New numbers find the bucket as full as the old ones left it.
    #[test]
    fn a_change_of_numbers_carries_the_fraction_over(
        old in (1u32..1_000_000, 1u32..1_000_000), new in (1u32..1_000_000, 1u32..1_000_000), part in 0.0..1.0f64,
    ) {
        let window = 60 * SECOND;
        let [old, new] = [old, new].map(|(r, b)| Limit::new(Algorithm::TokenBucket, r, window, Some(b)));
        let mut state = State::new(Algorithm::TokenBucket);
        let hits = (f64::from(old.burst()) * part) as u64;
        state.charge(NOW, &old, hits);
        let fraction = |limit| {
            let level = state.level(NOW, limit);
            level.used as f64 / level.capacity as f64
        };
        prop_assert!((fraction(&old) - fraction(&new)).abs() <= 1.0 / 64.0, "{} {}", fraction(&old), fraction(&new));
    }
}
