//! Every algorithm against a naive oracle, over random histories of whole requests: all modes, several charges a request,
//! limits of different size on one counter, clocks that step back, hits up to 2^63, windows from a second to 100 years.

use ratekeeper::limiter::{Algorithm, Charge, Counters, Limit, Mode, Prior, State, decide};

use crate::limiter_oracle::{
    Aligned, Answer, Draining, Exact, Log, NOW, Naive, Random, SECOND, Scenario, answer, seeds,
};

const OPERATIONS_MIN: usize = 50_000;
const REQUESTS: usize = 400;

fn random_prior(random: &mut Random) -> Prior {
    if !random.one_in(5) {
        return Prior::default();
    }
    let quota_limits = u32::try_from(random.below(3)).unwrap();
    Prior {
        denied: random.one_in(2),
        quota_limits,
        quota_over: u32::try_from(random.below(u64::from(quota_limits) + 1)).unwrap(),
        never_deny: random.one_in(3),
    }
}

fn ours(now: u64, charges: &[Charge], counters: &mut Vec<Option<State>>, prior: Prior) -> Answer {
    let mut verdicts = vec![];
    let outcome = decide(now, charges, counters, prior, &mut verdicts);
    let rows = verdicts
        .iter()
        .map(|v| (v.over, v.used.into(), v.remaining.into(), v.wait_us.into()));
    (rows.collect(), outcome.denied)
}

/// Histories until at least 50,000 charges agree in every number.
fn agree<N: Naive + Default>(algorithm: Algorithm, fits: impl Fn(&Scenario) -> bool) {
    let (mut operations, mut denials, mut histories) = (0, 0, 0);
    for seed in seeds(400) {
        let random = &mut Random::new(seed);
        let scenario = Scenario::random(random, algorithm);
        if !fits(&scenario) {
            continue;
        }
        let (mut now, mut counters) = (scenario.start, vec![None; scenario.counters]);
        let mut naive = vec![N::default(); scenario.counters];
        for i in 0..REQUESTS {
            now = scenario.advance(random, now);
            let charges = scenario.charges(random);
            let prior = random_prior(random);
            let before = counters.clone();
            let ours = ours(now, &charges, &mut counters, prior);
            let theirs = answer(now, &charges, &mut naive, prior);
            assert_eq!(
                ours, theirs,
                "seed {seed}, request {i} at {now}: {charges:#?} {prior:?} on {before:?}"
            );
            if ours.1
                && charges
                    .iter()
                    .all(|c| matches!(c.mode, Mode::Consume | Mode::Peek))
            {
                assert_eq!(
                    counters, before,
                    "seed {seed}, request {i}: a denied request wrote"
                );
            }
            check_expiry(&counters, &scenario.limits[0], now);
            operations += charges.len();
            denials += usize::from(ours.1);
        }
        histories += 1;
    }
    assert!(operations >= OPERATIONS_MIN, "{operations} operations");
    assert!(
        denials > histories * 20,
        "{denials} denials in {histories} histories"
    );
}

/// A counter may be dropped at its expiry and not a microsecond before.
fn check_expiry(counters: &Vec<Option<State>>, limit: &Limit, now: u64) {
    for state in (0..counters.len()).filter_map(|i| Counters::get(counters, i)) {
        let expires = state.expires_us(limit);
        assert_eq!(state.level(expires, limit).used, 0, "{state:?}");
        if expires > now {
            assert!(state.level(expires - 1, limit).used > 0, "{state:?}");
        }
        if let State::SlidingWindow(window) = state {
            assert!(window.entries().len() <= 127, "{window:?}");
        }
    }
}

#[test]
fn sliding_window_equals_a_log() {
    agree::<Log>(Algorithm::SlidingWindow, |_| true);
}

#[test]
fn fixed_window_equals_a_log() {
    agree::<Aligned>(Algorithm::FixedWindow, |_| true);
}

#[test]
fn token_bucket_equals_exact_numbers_where_nothing_is_rounded() {
    // The drain is whole if the exact one is.
    agree::<Exact>(Algorithm::TokenBucket, |s| {
        s.limits
            .iter()
            .all(|l| Exact::drain(l).is_multiple_of(l.window_us().into()))
    });
}

#[test]
fn local_bucket_equals_a_leaky_bucket() {
    agree::<Draining>(Algorithm::LocalBucket, |_| true);
}

/// Where the drain is rounded: never less in the bucket than the truth, and at most four units a write more.
#[test]
fn token_bucket_stays_on_the_safe_side_of_exact_numbers() {
    let mut operations = 0;
    for seed in seeds(200) {
        let random = &mut Random::new(seed);
        let scenario = Scenario::random(random, Algorithm::TokenBucket);
        let (mut now, mut state, mut exact) = (NOW, State::new(Algorithm::TokenBucket), Exact::default());
        for i in 0..REQUESTS {
            now = scenario.advance(random, now);
            let c = scenario.charges(random)[0];
            let window = u128::from(c.limit.window_us());
            let (ours, truth) = (state.level(now, &c.limit), exact.content(now, &c.limit));
            let units = u128::from(ours.used) * window;
            assert!(
                units >= truth,
                "seed {seed}, step {i}: {units} below {truth}, {c:?}"
            );
            assert!(
                units <= truth + 4 * (exact.writes + 1) * window,
                "seed {seed}, step {i}: {units} far above {truth}, {c:?}"
            );
            match c.mode {
                Mode::Refund => {
                    state.refund(now, &c.limit, c.hits);
                    exact.take(now, &c.limit, c.hits.into());
                }
                Mode::Consume if !ours.fits(c.hits) => {}
                Mode::Peek => {}
                Mode::Consume | Mode::Record => {
                    state.charge(now, &c.limit, c.hits.min(1 << 32));
                    exact.add(now, &c.limit, c.hits.min(1 << 32).into());
                }
            }
            operations += 1;
        }
    }
    assert!(operations >= OPERATIONS_MIN);
}

/// Up to 125 a plain log of time stamps, without entries, ticks or merging, decides the same.
#[test]
fn sliding_window_to_125_is_exact_to_the_microsecond() {
    let mut operations = 0;
    for seed in seeds(30) {
        let random = &mut Random::new(seed);
        let window = random.pick(&[1, 7, 1_000, SECOND, 60 * SECOND]);
        let limit = Limit::new(
            Algorithm::SlidingWindow,
            u32::try_from(random.below(126)).unwrap(),
            window,
            None,
        );
        let (mut now, mut state) = (NOW, State::new(Algorithm::SlidingWindow));
        let mut log: Vec<u64> = vec![];
        for _ in 0..2_000 {
            let upto = random.pick(&[1, 2, 3, window / 100, window / 20, window]);
            now += random.below(upto);
            log.retain(|at| at + window > now);
            assert_eq!(state.level(now, &limit).used, log.len() as u64, "seed {seed}");
            let hits = random.pick(&[1, 1, 2, 3, 10]);
            if random.one_in(20) {
                state.refund(now, &limit, hits);
                log.truncate(log.len().saturating_sub(usize::try_from(hits).unwrap()));
            } else if state.level(now, &limit).fits(hits) {
                state.charge(now, &limit, hits);
                log.extend((0..hits).map(|_| now));
            }
            operations += 1;
        }
    }
    assert!(operations >= OPERATIONS_MIN);
}

/// In every rolling window, by a clock that only loses time: admitted less refunded is at most the limit. Above 125 what is
/// denied would have been above the limit in a window longer by a tick.
#[test]
fn sliding_window_holds_in_every_rolling_window() {
    let mut operations = 0;
    for seed in seeds(50) {
        let random = &mut Random::new(seed);
        let window = random.pick(&[1_000, SECOND, 60 * SECOND]);
        let requests = random.pick(&[1, 5, 125, 126, 500, 10_000]);
        let limit = Limit::new(Algorithm::SlidingWindow, requests, window, None);
        let tick = if requests > 125 { window.div_ceil(125) } else { 0 };
        let (mut truth, mut lost, mut state) = (NOW, 0, State::new(Algorithm::SlidingWindow));
        let mut events: Vec<(u64, i128)> = vec![];
        for i in 0..1_000 {
            let upto = random.pick(&[1, 2, window / 500, window / 100, window / 10]);
            truth += random.below(upto);
            lost += if seed.is_multiple_of(2) && random.one_in(100) {
                random.below(window)
            } else {
                0
            };
            let now = truth - lost;
            let level = state.level(now, &limit);
            let in_the_last = |span: u64| {
                events
                    .iter()
                    .filter(|e| e.0 + span > truth)
                    .map(|e| e.1)
                    .sum::<i128>()
            };
            let hits = random.pick(&[1, 1, 2, u64::from(requests / 20 + 1), u64::from(requests / 3 + 1)]);
            let audit_denials = seed % 4 == 1;
            if random.one_in(20) && !audit_denials {
                state.refund(now, &limit, hits);
                let back = level.used - state.level(now, &limit).used;
                events.push((truth, -i128::from(back)));
            } else if level.fits(hits) {
                state.charge(now, &limit, hits);
                events.push((truth, hits.into()));
            } else if audit_denials && hits <= requests.into() {
                let longer = in_the_last(window + tick);
                assert!(
                    longer + i128::from(hits) > requests.into(),
                    "seed {seed}, step {i}: denied at {longer}"
                );
            }
            let admitted = events
                .iter()
                .filter(|e| e.0 + window > truth)
                .map(|e| e.1)
                .sum::<i128>();
            assert!(
                admitted <= requests.into(),
                "seed {seed}, step {i}: {admitted} of {requests}"
            );
            operations += 1;
        }
    }
    assert!(operations >= OPERATIONS_MIN);
}
