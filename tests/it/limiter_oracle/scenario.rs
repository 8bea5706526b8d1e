//! Random requests, for whatever holds an algorithm against something else: seeded, so that a failure can be run again.

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode};

pub const SECOND: Micros = 1_000_000;
pub const DAY: Micros = 86_400 * SECOND;
pub const YEAR: Micros = 365 * DAY;
/// Some time in 2026.
pub const NOW: Micros = 1_790_000_000_000_000;

/// Seeds of the random histories: `RATEKEEPER_TEST_SEED` moves them. Each failure names its own.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let from = std::env::var("RATEKEEPER_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let from: u64 = from.unwrap_or(1);
    println!("seeds {from}..{}", from + count);
    from..from + count
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `below` - 1.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What a history is made of.
pub struct Scenario {
    pub limits: Vec<Limit>,
    pub counters: usize,
    pub window: Micros,
    pub steps_back: bool,
    /// Little but records, at short intervals: fills a sliding window's list.
    records: bool,
    /// Where time starts, and the latest that it gets.
    pub start: Micros,
    latest: Micros,
}

impl Scenario {
    /// One to three counters, up to three limits of one algorithm and window on each.
    pub fn random(random: &mut Random, algorithm: Algorithm) -> Self {
        let spread = random.below(100 * YEAR - SECOND);
        let window = random
            .pick(&[
                SECOND,
                SECOND,
                60 * SECOND,
                3_600 * SECOND,
                DAY,
                7 * DAY,
                YEAR,
                100 * YEAR,
            ])
            .min(SECOND + spread);
        let limits = (0..=random.below(3)).map(|_| {
            let any = u32::try_from(random.below(1 << 32)).unwrap();
            let requests = random.pick(&[
                0,
                1,
                2,
                5,
                10,
                60,
                125,
                126,
                127,
                1_000,
                1_000_000,
                u32::MAX,
                any,
                any % 300,
            ]);
            let burst = random.pick(&[None, None, Some(0), Some(1), Some(7), Some(1_000), Some(any)]);
            Limit::new(algorithm, requests, window, burst)
        });
        let local = algorithm == Algorithm::LocalBucket;
        Self {
            limits: limits.collect(),
            counters: 1 + usize::try_from(random.below(3)).unwrap(),
            window,
            // This process's own clock starts with it and never steps back.
            steps_back: random.one_in(2) && !local,
            records: random.one_in(6),
            start: if local { 1 } else { NOW },
            latest: if local { (1 << 62) / 1_000 } else { (1 << 53) - 1 },
        }
    }

    /// Lets time pass: nothing, a microsecond, parts of the window, several windows, or a step back.
    pub fn advance(&self, random: &mut Random, now: Micros) -> Micros {
        if self.steps_back && random.one_in(40) {
            return now.saturating_sub(random.below(self.window * 2)).max(1);
        }
        if self.records && !random.one_in(20) {
            return (now + random.below(self.window / 200)).min(self.latest);
        }
        let w = self.window;
        let upto = random.pick(&[
            1,
            2,
            2,
            3,
            w / 1_000,
            w / 125,
            w / 125,
            w / 60,
            w / 10,
            w / 10,
            w,
            w + 1,
            2 * w,
        ]);
        (now + random.below(upto)).min(self.latest)
    }

    pub fn charges(&self, random: &mut Random) -> Vec<Charge> {
        let most = random.pick(&[1, 1, 2, 3, 6]);
        (0..=random.below(most)).map(|_| self.charge(random)).collect()
    }

    fn charge(&self, random: &mut Random) -> Charge {
        let limit = random.pick(&self.limits);
        let l = u64::from(limit.burst());
        let part = 1 + random.below(l / 3 + 1);
        let hits = random.pick(&[
            1,
            1,
            1,
            2,
            3,
            5,
            0,
            part,
            part,
            l,
            l + 1,
            u32::MAX.into(),
            1_000_000_000,
            1 << 63,
        ]);
        use Mode::{Consume, Peek, Record, Refund};
        let mode = random.pick(&[
            Consume, Consume, Consume, Consume, Consume, Consume, Record, Peek, Refund,
        ]);
        let mode = if self.records && !random.one_in(10) {
            Record
        } else {
            mode
        };
        // A recorded overshoot of the largest kind shuts a counter for long: seldom.
        let hits = if mode == Record && !random.one_in(8) {
            hits.min(3)
        } else {
            hits
        };
        Charge {
            counter: usize::try_from(random.below(self.counters as u64)).unwrap(),
            limit,
            hits,
            mode,
            shadow: random.one_in(10),
            quota: random.one_in(6),
        }
    }
}
