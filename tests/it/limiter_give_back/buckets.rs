//! Buckets: what drained meanwhile is kept, since without the charge it may not have drained.

use ratekeeper::limiter::{Algorithm, Limit, Micros, State};

use super::{NOW, Random, SECOND, seeds};
use crate::limiter_oracle::{Draining, Exact, Naive};

#[derive(Clone, Copy, Debug)]
enum Op {
    Charge {
        hits: u64,
    },
    /// And the units that it took.
    Refund {
        hits: u64,
        taken: u128,
    },
    /// Given back, or what gave back: time has passed up to here, and does not drain again when a clock has stepped back.
    Nothing,
}

/// What is used at `moment` by the history without what was given back, and by how much the refunds took less there.
fn without<N: Naive + Default>(history: &[(Micros, Op)], moment: Micros, limit: &Limit) -> (u128, u128) {
    let (mut naive, mut less) = (N::default(), 0);
    for (now, op) in history {
        let before = naive.used(*now, limit);
        match op {
            Op::Charge { hits } => naive.add(*now, limit, u128::from(*hits)),
            Op::Refund { hits, taken } => {
                naive.take(*now, limit, u128::from(*hits));
                less += taken.saturating_sub(before - naive.used(*now, limit));
            }
            Op::Nothing => {
                naive.add(*now, limit, 1);
                naive.take(*now, limit, 1);
            }
        }
        if naive.used(*now, limit) == 0 {
            naive = N::default();
        }
    }
    (naive.used(moment, limit), less)
}

fn limit(random: &mut Random, algorithm: Algorithm) -> Limit {
    let window = random.pick(&[1_000, SECOND, 60 * SECOND, 3_600 * SECOND]);
    let requests = random.pick(&[1, 3, 7, 10, 99, 1_000, 999_983]);
    let burst = random.pick(&[None, None, Some(1), Some(5), Some(1_000)]);
    Limit::new(algorithm, requests, window, burst)
}

fn histories<N: Naive + Default>(algorithm: Algorithm) {
    let local = algorithm == Algorithm::LocalBucket;
    let (mut give_backs, mut whole, mut partly) = (0, 0, 0);
    for seed in seeds(150) {
        let random = &mut Random::new(seed);
        let limit = limit(random, algorithm);
        // Not both: a bucket that a refund emptied is forgotten, and with it up to when it has drained.
        let (refunds, steps_back) = random.pick(&[(true, false), (false, !local), (false, false)]);
        let hit_us = limit.window_us() / u64::from(limit.requests()) + 1;
        let mut state = State::new(algorithm);
        let mut history: Vec<(Micros, Op)> = vec![];
        let mut now = if local { SECOND } else { NOW };
        for step in 0..120 {
            if steps_back && random.one_in(30) {
                now -= random.below(2 * limit.window_us());
            }
            let upto = random.pick(&[1, 2, hit_us / 10, hit_us, hit_us * 3, limit.window_us()]);
            now += random.below(upto);
            let used = u128::from(state.level(now, &limit).used);
            let part = random.pick(&[1, 5]);
            let hits = 1 + random.below(u64::from(limit.burst()) / part);
            match random.below(8) {
                0..=3 if state.level(now, &limit).fits(hits) || random.one_in(20) => {
                    state.charge(now, &limit, hits);
                    history.push((now, Op::Charge { hits }));
                }
                4 if refunds && used > 0 => {
                    state.refund(now, &limit, hits);
                    let taken = used - u128::from(state.level(now, &limit).used);
                    history.push((now, Op::Refund { hits, taken }));
                }
                _ => {
                    let back = random.pick(&[1, 1, 2, 3, 8]);
                    let index = history.len().checked_sub(1 + random.below(back) as usize);
                    let Some((at, Op::Charge { hits })) = index.map(|index| history[index]) else {
                        continue;
                    };
                    state.give_back(now, &limit, hits, at);
                    history[index.unwrap()].1 = Op::Nothing;
                    history.push((now, Op::Nothing));
                    let units = u128::from(hits) * N::cost(&limit);
                    let given = used - u128::from(state.level(now, &limit).used);
                    // With a microsecond and a unit for roundings.
                    let elapsed = u128::from(now.saturating_sub(at)) + 1;
                    let drained = elapsed * u128::from(limit.requests()) * N::cost(&limit)
                        / u128::from(limit.window_us());
                    assert!(given <= units, "seed {seed}, step {step}");
                    if now == at && !steps_back {
                        assert_eq!(given, units.min(used), "seed {seed}, step {step}: {limit:?}");
                        whole += 1;
                    } else if !steps_back && !local {
                        let least = units.saturating_sub(drained + 1).min(used);
                        assert!(given >= least, "seed {seed}, step {step}: {given} of {least}");
                    }
                    partly += usize::from(given > 0 && given < units);
                    give_backs += 1;
                }
            }
            if state.is_empty() {
                state = State::new(algorithm);
            }
            for moment in [now, now + 1, now + hit_us, now + limit.window_us() / 3] {
                let used = u128::from(state.level(moment, &limit).used);
                let (kept, refunds) = without::<N>(&history, moment, &limit);
                assert!(
                    used + refunds + u128::from(refunds > 0) >= kept,
                    "seed {seed}, step {step}, now {now}: {used} at {moment}, not {kept} less {refunds}: {limit:?} {history:?}"
                );
            }
        }
    }
    println!("{give_backs} given back, {whole} whole, {partly} in part");
    assert!(give_backs > 2_000 && whole > 100 && partly > 200);
}

#[test]
fn a_token_bucket_never_holds_less_than_what_was_kept() {
    histories::<Exact>(Algorithm::TokenBucket);
}

#[test]
fn a_local_bucket_never_holds_less_than_what_was_kept() {
    histories::<Draining>(Algorithm::LocalBucket);
}

/// Since the charge the bucket was emptied, and the clock has stepped back: what it holds is somebody else's.
#[test]
fn a_bucket_written_last_before_the_charge_does_not_hold_it() {
    let limit = Limit::new(Algorithm::TokenBucket, 10, SECOND, None);
    let mut state = State::new(Algorithm::TokenBucket);
    state.charge(NOW - 5, &limit, 3);
    let before = state.clone();
    state.give_back(NOW - 4, &limit, 3, NOW);
    assert_eq!(state, before);
    state.give_back(NOW - 4, &limit, 1, NOW - 5);
    assert_ne!(state, before);
}
