//! The rules of a request, one by one.

use ratekeeper::limiter::{
    Algorithm, Charge, Counters, Limit, Mode, Outcome, Prior, State, Verdict, decide, give_back,
};

use crate::limiter_oracle::{NOW, Random, SECOND, Scenario, seeds};

fn limit(requests: u32) -> Limit {
    Limit::new(Algorithm::SlidingWindow, requests, SECOND, None)
}

fn charge(counter: usize, requests: u32, hits: u64, mode: Mode) -> Charge {
    Charge {
        counter,
        limit: limit(requests),
        hits,
        mode,
        shadow: false,
        quota: false,
    }
}

fn consume(counter: usize, requests: u32, hits: u64) -> Charge {
    charge(counter, requests, hits, Mode::Consume)
}

fn shadow(charge: Charge) -> Charge {
    Charge {
        shadow: true,
        ..charge
    }
}

fn quota(charge: Charge) -> Charge {
    Charge {
        quota: true,
        ..charge
    }
}

struct Case {
    counters: Vec<Option<State>>,
}

impl Case {
    fn used(used: &[u64]) -> Self {
        let state = |hits: &u64| {
            let mut state = State::new(Algorithm::SlidingWindow);
            state.charge(NOW - 10, &limit(100), *hits);
            (*hits > 0).then_some(state)
        };
        Self {
            counters: used.iter().map(state).collect(),
        }
    }

    fn decide(&mut self, prior: Prior, charges: &[Charge]) -> (Outcome, Vec<Verdict>) {
        let mut verdicts = vec![];
        let outcome = decide(NOW, charges, &mut self.counters, prior, &mut verdicts);
        (outcome, verdicts)
    }

    /// Denied?, (over, remaining) of each charge, and what the counters hold afterwards.
    fn check(mut self, charges: &[Charge], denied: bool, rows: &[(bool, u64)], after: &[u64]) {
        let (outcome, verdicts) = self.decide(Prior::default(), charges);
        let got: Vec<_> = verdicts.iter().map(|v| (v.over, v.remaining)).collect();
        assert_eq!((outcome.denied, got.as_slice()), (denied, rows));
        self.holds(after);
    }

    fn holds(&self, after: &[u64]) {
        let used = |i| Counters::get(&self.counters, i).map_or(0, |s| s.level(NOW, &limit(100)).used);
        assert_eq!((0..after.len()).map(used).collect::<Vec<_>>(), after);
    }
}

#[test]
fn charges_see_the_ones_before_them_on_the_same_counter() {
    Case::used(&[0]).check(
        &[consume(0, 10, 4), consume(0, 10, 4)],
        false,
        &[(false, 6), (false, 2)],
        &[8],
    );
    let third = [consume(0, 10, 4), consume(0, 10, 4), consume(0, 10, 4)];
    Case::used(&[0]).check(&third, true, &[(false, 10), (false, 6), (true, 2)], &[0]);
    let other_size = [consume(0, 10, 4), consume(0, 5, 2), consume(0, 5, 1)];
    Case::used(&[0]).check(&other_size, true, &[(false, 10), (true, 1), (false, 1)], &[0]);
}

#[test]
fn any_enforced_over_denies_all_consumes_and_no_record_or_refund() {
    let full = consume(0, 10, 1);
    Case::used(&[10, 3]).check(
        &[consume(1, 10, 2), full],
        true,
        &[(false, 7), (true, 0)],
        &[10, 3],
    );
    let record = charge(1, 10, 5, Mode::Record);
    Case::used(&[10, 3]).check(&[record, full], true, &[(false, 2), (true, 0)], &[10, 8]);
    let refund = charge(1, 10, 2, Mode::Refund);
    Case::used(&[10, 3]).check(&[full, refund], true, &[(true, 0), (false, 9)], &[10, 1]);
    // A record above the limit denies too, and so does a peek at a counter that is above it.
    let above = charge(0, 10, 11, Mode::Record);
    Case::used(&[0, 3]).check(
        &[above, consume(1, 10, 1)],
        true,
        &[(true, 0), (false, 7)],
        &[11, 3],
    );
    let peek = charge(0, 10, 0, Mode::Peek);
    Case::used(&[11, 3]).check(
        &[peek, consume(1, 10, 1)],
        true,
        &[(true, 0), (false, 7)],
        &[11, 3],
    );
    Case::used(&[10, 3]).check(
        &[peek, consume(1, 10, 1)],
        false,
        &[(false, 0), (false, 6)],
        &[10, 4],
    );
}

#[test]
fn refunds_count_only_for_later_requests() {
    let refund_first = [charge(0, 10, 5, Mode::Refund), consume(0, 10, 1)];
    Case::used(&[10]).check(&refund_first, true, &[(false, 5), (true, 0)], &[5]);
    Case::used(&[3]).check(&[charge(0, 10, 50, Mode::Refund)], false, &[(false, 10)], &[0]);
    let mut gone = Case::used(&[3]);
    gone.decide(Prior::default(), &[charge(0, 10, 3, Mode::Refund)]);
    assert_eq!(gone.counters, [None], "an emptied counter stays");
    let mut absent = Case::used(&[]);
    absent.decide(
        Prior::default(),
        &[charge(0, 10, 3, Mode::Refund), charge(1, 10, 0, Mode::Peek)],
    );
    assert!(absent.counters.is_empty(), "a refund or peek created a counter");
}

#[test]
fn a_shadow_limit_stops_nothing_and_is_charged_only_what_fits() {
    let over = shadow(consume(0, 10, 1));
    Case::used(&[10, 3]).check(
        &[over, consume(1, 10, 1)],
        false,
        &[(true, 0), (false, 6)],
        &[10, 4],
    );
    let fits = shadow(consume(1, 10, 1));
    Case::used(&[10, 3]).check(
        &[fits, consume(0, 10, 1)],
        true,
        &[(false, 7), (true, 0)],
        &[10, 3],
    );
}

#[test]
fn quota_limits_deny_only_together() {
    let (full, room) = (quota(consume(0, 10, 1)), quota(consume(1, 10, 1)));
    Case::used(&[10, 3]).check(&[full, room], false, &[(true, 0), (false, 6)], &[10, 4]);
    Case::used(&[10, 10]).check(&[full, room], true, &[(true, 0), (true, 0)], &[10, 10]);
    Case::used(&[10, 3]).check(
        &[full, consume(1, 10, 1)],
        true,
        &[(true, 0), (false, 7)],
        &[10, 3],
    );
    // A limit that is both counts as a quota limit that is never over.
    let both = shadow(room);
    Case::used(&[10, 10]).check(&[full, both], false, &[(true, 0), (true, 0)], &[10, 10]);
}

#[test]
fn two_parts_decide_as_one() {
    let quota_full = quota(consume(0, 10, 1));
    let first = |quota_limits| Prior {
        quota_limits,
        ..Prior::default()
    };
    // The first part alone would deny; a quota limit to come keeps it from that.
    let (outcome, _) = Case::used(&[10]).decide(first(0), &[quota_full]);
    assert_eq!(
        outcome,
        Outcome {
            denied: true,
            would_deny: true,
            quota_limits: 1,
            quota_over: 1
        }
    );
    let (outcome, _) = Case::used(&[10]).decide(first(1), &[quota_full]);
    assert_eq!(
        outcome,
        Outcome {
            denied: false,
            would_deny: false,
            quota_limits: 1,
            quota_over: 1
        }
    );
    let second = Prior {
        quota_limits: 1,
        quota_over: 1,
        ..Prior::default()
    };
    assert!(Case::used(&[10]).decide(second, &[quota_full]).0.denied);
    assert!(!Case::used(&[9]).decide(second, &[quota_full]).0.denied);
    // Denied before: nothing is consumed, records are booked.
    let mut case = Case::used(&[3]);
    let denied = Prior {
        denied: true,
        ..Prior::default()
    };
    let (outcome, verdicts) = case.decide(denied, &[consume(0, 10, 1), charge(1, 10, 2, Mode::Record)]);
    assert!(outcome.denied && !verdicts[0].over && verdicts[0].remaining == 7);
    case.holds(&[3, 2]);
    // Global shadow mode: verdicts stay, what fits is booked.
    let mut case = Case::used(&[10, 3]);
    let never = Prior {
        never_deny: true,
        ..Prior::default()
    };
    let (outcome, verdicts) = case.decide(never, &[consume(0, 10, 1), consume(1, 10, 1)]);
    assert!(!outcome.denied && verdicts[0].over && !verdicts[1].over);
    case.holds(&[10, 4]);
}

/// Local charges are taken first; when the store denies they are given back, and it shows as if it had been one request.
#[test]
fn giving_back_equals_a_denial_in_one_part() {
    let mut gave = 0;
    for algorithm in [
        Algorithm::LocalBucket,
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
    ] {
        for seed in seeds(100) {
            let random = &mut Random::new(seed);
            let scenario = Scenario::random(random, algorithm);
            let mut counters = vec![None; scenario.counters];
            let mut now = scenario.start;
            // Hits of different ticks may share an entry; then it is not known whose place it is, and they stay.
            let one_place = scenario
                .limits
                .iter()
                .all(|limit| limit.tick_us() == scenario.limits[0].tick_us());
            for _ in 0..20 {
                now = scenario.advance(random, now).max(now);
                let mut charges = scenario.charges(random);
                charges.retain(|c| matches!(c.mode, Mode::Consume | Mode::Peek));
                let (mut in_two, mut in_one) = (vec![], vec![]);
                let mut other = counters.clone();
                if decide(now, &charges, &mut other, Prior::default(), &mut in_two).denied {
                    continue;
                }
                let denied = Prior {
                    denied: true,
                    ..Prior::default()
                };
                let before = counters.clone();
                decide(now, &charges, &mut counters, denied, &mut in_one);
                assert_eq!(counters, before, "seed {seed}");
                give_back(now, now, &charges, &mut other, &mut in_two);
                assert_eq!(in_one, in_two, "seed {seed}");
                for charge in &charges {
                    let level = |of: &Vec<Option<State>>| {
                        Counters::get(of, charge.counter).map_or(0, |s| s.level(now, &charge.limit).used)
                    };
                    if one_place {
                        assert_eq!(level(&counters), level(&other), "seed {seed}");
                        gave += 1;
                    }
                    assert!(level(&counters) <= level(&other), "seed {seed}");
                }
                decide(now, &charges, &mut counters, Prior::default(), &mut in_one);
            }
        }
    }
    assert!(gave > 2_000, "{gave}");
}
