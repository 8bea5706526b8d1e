//! Giving back by place, against plain logs in which a charge that was given back never was: what is used is never below what
//! the log says, now and at every later moment, and no rolling window holds more than the limit.

mod audit;
mod buckets;

use ratekeeper::limiter::{Algorithm, Limit, Micros, State};

use crate::limiter_oracle::{NOW, Random, SECOND, seeds};

/// A charge that may be given back.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Charged {
    at: Micros,
    hits: u64,
    limit: Limit,
}

/// One counter of a window algorithm, and what should count.
struct Case {
    algorithm: Algorithm,
    window: Micros,
    limits: Vec<Limit>,
    state: State,
    kept: Vec<Charged>,
    /// What may be given back, also after it has left.
    open: Vec<Charged>,
    /// Refunds: the latest time so far, and what they took.
    refunded: Vec<(Micros, u64)>,
    now: Micros,
    latest: Micros,
    steps_back: bool,
    /// Nothing has moved hits to a later place.
    exact: bool,
    place: String,
}

/// What a run has covered: a test that never meets the case proves nothing.
#[derive(Default, Debug)]
struct Covered {
    give_backs: usize,
    effective: usize,
    below_newer: usize,
    exact: usize,
}

impl Case {
    fn random(random: &mut Random, algorithm: Algorithm, seed: u64) -> Self {
        let window = random.pick(&[500, SECOND, 60 * SECOND, 3_600 * SECOND]);
        let small = random.one_in(2);
        let limits = (0..=random.below(2)).map(|_| {
            let requests = if small {
                random.pick(&[1, 3, 10, 60, 125])
            } else {
                random.pick(&[5, 125, 126, 300, 10_000])
            };
            Limit::new(algorithm, requests, window, None)
        });
        Self {
            algorithm,
            window,
            limits: limits.collect(),
            state: State::new(algorithm),
            kept: vec![],
            open: vec![],
            refunded: vec![],
            now: NOW + random.below(window),
            latest: 0,
            steps_back: false,
            exact: small,
            place: format!("seed {seed}"),
        }
    }

    fn counts(&self, charged: &Charged, at: Micros) -> bool {
        if self.algorithm == Algorithm::FixedWindow {
            charged.at / self.window == at / self.window
        } else {
            charged.at + self.window > at
        }
    }

    /// What was written by a later time has forgotten what had left: a clock that steps back does not bring it back.
    fn wrote(&mut self) {
        let (fixed, window, now) = (self.algorithm == Algorithm::FixedWindow, self.window, self.now);
        self.kept.retain(|it| {
            if fixed {
                it.at / window >= now / window
            } else {
                it.at + window > now
            }
        });
        if self.state.is_empty() {
            self.state = State::new(self.algorithm);
            if self.steps_back {
                // None of these are in a counter that is gone. Should the clock go back to where they were charged, it can't tell
                // new hits from them: two faults within the time of a give-back, which is not promised.
                self.open.clear();
            }
        }
    }

    fn advance(&mut self, random: &mut Random) {
        let w = self.window;
        if self.steps_back && random.one_in(30) {
            self.now -= random.below(w * 2);
            self.exact = false;
        } else {
            let upto = random.pick(&[1, 1, 2, 3, w / 300, w / 125, w / 50, w / 10, w, w + 1]);
            self.now += random.below(upto);
        }
        self.latest = self.latest.max(self.now);
    }

    fn charge(&mut self, random: &mut Random, records: bool) {
        let limit = random.pick(&self.limits);
        let part = random.pick(&[1, 4, 50]);
        let hits = 1 + random.below(u64::from(limit.requests()) / part);
        if records || self.state.level(self.now, &limit).fits(hits) {
            self.state.charge(self.now, &limit, hits);
            self.wrote();
            let at = self.now;
            self.kept.push(Charged { at, hits, limit });
            self.open.push(Charged { at, hits, limit });
            self.exact &= !is_full(&self.state);
        }
    }

    fn refund(&mut self, random: &mut Random) {
        let (limit, hits) = (self.limits[0], 1 + random.below(5));
        let before = self.state.level(self.now, &limit).used;
        if before > 0 {
            self.state.refund(self.now, &limit, hits);
            let taken = before - self.state.level(self.now, &limit).used;
            self.refunded.push((self.latest, taken));
            self.exact = false;
            self.wrote();
        }
    }

    /// Mostly one of the last charges.
    fn give_back(&mut self, random: &mut Random, covered: &mut Covered) {
        let back = random.pick(&[1, 2, 2, 3, 8, 60]);
        let Some(index) = self.open.len().checked_sub(1 + random.below(back) as usize) else {
            return;
        };
        let gone = self.open.remove(index);
        if let Some(index) = self.kept.iter().position(|it| *it == gone) {
            self.kept.remove(index);
        }
        let before = self.state.level(self.now, &gone.limit).used;
        self.state.give_back(self.now, &gone.limit, gone.hits, gone.at);
        covered.give_backs += 1;
        covered.below_newer += usize::from(self.open.get(index).is_some_and(|next| next.at > gone.at));
        covered.effective += usize::from(self.state.level(self.now, &gone.limit).used < before);
        self.wrote();
        self.invariants();
        self.check(covered);
    }

    fn invariants(&self) {
        let State::SlidingWindow(window) = &self.state else {
            return;
        };
        let entries: Vec<_> = window.entries().collect();
        assert!(
            entries.len() != 1 && entries.len() <= 127,
            "{}: {entries:?}",
            self.place
        );
        assert!(
            entries
                .windows(2)
                .all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1),
            "{}: {entries:?}",
            self.place
        );
    }

    /// What is used now and at every later moment at which that can change.
    fn check(&self, covered: &mut Covered) {
        let limit = self.limits[0];
        let tick = self.limits.iter().map(Limit::tick_us).max().unwrap_or(1);
        let mut moments = vec![self.now, self.now + 1];
        let ends = self.kept.iter().map(|it| it.at + self.window);
        moments.extend(ends.flat_map(|end| [end - 1, end]));
        if let State::SlidingWindow(window) = &self.state {
            let ends = window.entries().map(|(score, _)| score + self.window);
            moments.extend(ends.flat_map(|end| [end - 1, end]));
        }
        for moment in moments.into_iter().filter(|moment| *moment >= self.now) {
            let used = self.state.level(moment, &limit).used;
            let kept = self.kept.iter().filter(|it| self.counts(it, moment));
            let kept: u64 = kept.map(|it| it.hits).sum();
            let refunded = self
                .refunded
                .iter()
                .filter(|it| it.0 + self.window + tick > moment);
            let refunded: u64 = refunded.map(|it| it.1).sum();
            let place = &self.place;
            assert!(
                used + refunded >= kept,
                "{place}, now {}: {used} used at {moment}, but {kept} were kept and {refunded} refunded: {:?} {:?}",
                self.now,
                self.kept,
                self.state
            );
            if self.exact {
                assert_eq!(used, kept, "{place}, now {}, at {moment}", self.now);
                covered.exact += 1;
            }
        }
    }
}

fn is_full(state: &State) -> bool {
    matches!(state, State::SlidingWindow(window) if window.entries().len() == 127)
}

/// Random interleavings on one counter.
fn histories(algorithm: Algorithm, refunds: bool, steps_back: bool) -> Covered {
    let mut covered = Covered::default();
    for seed in seeds(250) {
        let random = &mut Random::new(seed);
        let mut case = Case::random(random, algorithm, seed);
        let records = random.one_in(2);
        case.steps_back = steps_back && random.one_in(2);
        for step in 0..200 {
            case.place = format!("seed {seed}, step {step}");
            case.advance(random);
            match random.below(10) {
                0..=4 => case.charge(random, false),
                5 if records => case.charge(random, true),
                6 if refunds => case.refund(random),
                _ => case.give_back(random, &mut covered),
            }
        }
    }
    println!("{covered:?}");
    assert!(
        covered.give_backs > 5_000 && covered.effective > 2_000 && covered.below_newer > 500,
        "{covered:?}"
    );
    covered
}

#[test]
fn a_sliding_window_never_counts_less_than_what_was_kept() {
    histories(Algorithm::SlidingWindow, false, true);
}

#[test]
fn to_125_a_sliding_window_counts_exactly_what_was_kept() {
    let covered = histories(Algorithm::SlidingWindow, false, false);
    assert!(covered.exact > 20_000, "{covered:?}");
}

#[test]
fn with_refunds_a_sliding_window_counts_what_was_kept_less_those() {
    histories(Algorithm::SlidingWindow, true, true);
}

#[test]
fn a_fixed_window_never_counts_less_than_what_was_kept() {
    histories(Algorithm::FixedWindow, false, true);
    histories(Algorithm::FixedWindow, true, true);
    let covered = histories(Algorithm::FixedWindow, false, false);
    assert!(covered.exact > 5_000, "{covered:?}");
}

/// What a refund would do wrong: the example of two hits, by the microsecond.
#[test]
fn the_hit_of_somebody_else_stays() {
    let limit = Limit::new(Algorithm::SlidingWindow, 1, SECOND, None);
    let two = Limit::new(Algorithm::SlidingWindow, 2, SECOND, None);
    let mut state = State::new(Algorithm::SlidingWindow);
    state.charge(NOW, &limit, 1);
    state.charge(NOW + 5, &two, 1);
    let mut by_refund = state.clone();
    by_refund.refund(NOW + 6, &limit, 1);
    assert_eq!(by_refund.level(NOW + SECOND, &limit).used, 0, "too little");
    state.give_back(NOW + 6, &limit, 1, NOW);
    assert_eq!(state.level(NOW + SECOND + 4, &limit).used, 1);
    assert_eq!(state.level(NOW + SECOND + 5, &limit).used, 0);
    // Nothing was booked at these.
    for at in [NOW, NOW + 4, NOW + 6, 0, (1 << 53) - 1] {
        let before = state.clone();
        state.give_back(NOW + 6, &limit, 1, at);
        assert_eq!(state, before, "{at}");
    }
    state.give_back(NOW + 6, &limit, u64::MAX, NOW + 5);
    assert!(state.is_empty());
}
