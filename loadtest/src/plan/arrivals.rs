//! When the next request is meant to be sent, whatever became of the ones before it.

use rand::Rng;
use rand_distr::{Distribution, Exp1};

use crate::clock::{Nanos, SECOND_NS};
use crate::num;

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pattern {
    /// Independent clients: exponential gaps.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// The schedule of one thread.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pattern: Pattern,
    gap_ns: f64,
    /// Kept as a fraction: gaps rounded to nanoseconds would add up to a wrong rate.
    next_ns: f64,
}

impl Arrivals {
    /// `rate` per second (above 0) from `start` on; `phase` in 0..1 shifts equal gaps, so that threads take turns.
    pub fn new(pattern: Pattern, rate: f64, start: Nanos, phase: f64) -> Self {
        let gap_ns = num::fraction(SECOND_NS) / rate;
        Self {
            pattern,
            gap_ns,
            next_ns: num::fraction(start) + gap_ns * phase,
        }
    }

    /// The next intended moment; never before the one before it.
    pub fn next(&mut self, random: &mut impl Rng) -> Nanos {
        match self.pattern {
            Pattern::Uniform => {
                let at = self.next_ns;
                self.next_ns += self.gap_ns;
                num::whole(at)
            }
            Pattern::Poisson => {
                let gap: f64 = Exp1.sample(random);
                self.next_ns += gap * self.gap_ns;
                num::whole(self.next_ns)
            }
        }
    }

    /// The mean time between two.
    pub fn gap(&self) -> Nanos {
        num::whole(self.gap_ns)
    }

    /// How many more are due in `from..until`; of Poisson arrivals the expected number.
    pub fn due(&self, from: Nanos, until: Nanos) -> u64 {
        let from = self.next_ns.max(num::fraction(from));
        num::whole(((num::fraction(until) - from) / self.gap_ns).ceil())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn gaps(pattern: Pattern, count: usize) -> Vec<f64> {
        let mut random = SmallRng::seed_from_u64(3);
        let mut arrivals = Arrivals::new(pattern, 30_000.0, 500, 0.0);
        let times: Vec<Nanos> = (0..count).map(|_| arrivals.next(&mut random)).collect();
        times
            .windows(2)
            .map(|pair| num::fraction(pair[1] - pair[0]))
            .collect()
    }

    #[test]
    fn equal_gaps_keep_the_rate() {
        let gaps = gaps(Pattern::Uniform, 30_001);
        assert!(gaps.iter().all(|gap| (33_332.0..=33_334.0).contains(gap)));
        assert!((gaps.iter().sum::<f64>() - 1e9).abs() < 2.0);
    }

    #[test]
    fn what_is_left() {
        let arrivals = Arrivals::new(Pattern::Uniform, 1_000.0, 0, 0.0);
        assert_eq!(arrivals.due(0, SECOND_NS), 1_000);
        assert_eq!(arrivals.due(SECOND_NS / 4, SECOND_NS), 750);
        assert_eq!(arrivals.due(SECOND_NS, SECOND_NS), 0);
        assert_eq!(arrivals.due(2 * SECOND_NS, SECOND_NS), 0);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let gaps = gaps(Pattern::Poisson, 200_000);
        let mean = gaps.iter().sum::<f64>() / 200_000.0;
        assert!((mean / 33_333.3 - 1.0).abs() < 0.01, "mean {mean}");
        // Of exponential gaps e^-1 are longer than the mean, e^-3 than three means.
        for (means, share) in [(1.0, 0.3679), (3.0, 0.0498)] {
            let longer = gaps.iter().filter(|gap| **gap > means * 33_333.3).count();
            let longer = num::fraction(longer as u64) / 200_000.0;
            assert!((longer - share).abs() < 0.005, "above {means} means: {longer}");
        }
    }
}
