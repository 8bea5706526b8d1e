//! The promise itself: in every rolling window, the hits that were admitted and kept are at most the limit.

use ratekeeper::limiter::{Algorithm, Limit, Micros, State};

use super::{Charged, NOW, Random, SECOND, seeds};

struct Audit {
    /// By true time: kept hits, and what refunds took.
    kept: Vec<(Micros, u64)>,
    refunded: Vec<(Micros, u64)>,
}

impl Audit {
    fn most(&self, window: Micros, tick: Micros) -> u64 {
        let sum = |of: &[(Micros, u64)], from: Micros, to: Micros| -> u64 {
            let within = of.iter().filter(|it| it.0 > from && it.0 <= to);
            within.map(|it| it.1).sum()
        };
        let in_window = |end: Micros| {
            let kept = sum(&self.kept, end - window, end);
            kept.saturating_sub(sum(&self.refunded, end - window - tick, end))
        };
        self.kept.iter().map(|it| in_window(it.0)).max().unwrap_or(0)
    }
}

/// Some hundred consumes, half of which are given back a little later, on a clock that only loses time.
fn run(seed: u64, refunds: bool) -> (u64, u64) {
    let random = &mut Random::new(seed);
    let window = random.pick(&[1_000, SECOND, 60 * SECOND]);
    let requests = random.pick(&[1, 2, 5, 125, 126, 500]);
    let limit = Limit::new(Algorithm::SlidingWindow, requests, window, None);
    let tick = limit.tick_us();
    let mut audit = Audit {
        kept: vec![],
        refunded: vec![],
    };
    let mut state = State::new(Algorithm::SlidingWindow);
    let mut open: Vec<(Micros, Charged)> = vec![];
    let (mut truth, mut lost) = (NOW, 0);
    for _ in 0..600 {
        let upto = random.pick(&[1, 2, window / 500, window / 100, window / 20]);
        truth += random.below(upto);
        if seed.is_multiple_of(3) && random.one_in(100) {
            lost += random.below(window);
        }
        let now = truth - lost;
        let hits = random.pick(&[1, 1, 2, u64::from(requests / 10 + 1)]);
        if refunds && random.one_in(12) {
            let before = state.level(now, &limit).used;
            state.refund(now, &limit, hits);
            audit
                .refunded
                .push((truth, before - state.level(now, &limit).used));
        } else if state.level(now, &limit).fits(hits) {
            state.charge(now, &limit, hits);
            let at = now;
            open.push((truth, Charged { at, hits, limit }));
        }
        while open.len() > random.below(4) as usize + 1 {
            let (when, charged) = open.remove(random.below(open.len() as u64) as usize);
            if random.one_in(2) {
                state.give_back(now, &limit, charged.hits, charged.at);
            } else {
                audit.kept.push((when, charged.hits));
            }
        }
    }
    (audit.most(window, tick), requests.into())
}

#[test]
fn no_rolling_window_is_broken_by_giving_back() {
    for refunds in [false, true] {
        let mut filled = 0;
        for seed in seeds(120) {
            let (most, limit) = run(seed, refunds);
            assert!(
                most <= limit,
                "seed {seed}: {most} kept in a window, the limit is {limit}"
            );
            filled += usize::from(most * 10 >= limit * 9);
        }
        assert!(filled > 30, "only {filled} histories came near their limit");
    }
}
