//! Which key the next request is about.

use std::str::FromStr;

use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Zipf};

use crate::num;

/// How requests spread over the keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// All keys alike.
    Uniform,
    /// Always key 0.
    One,
    /// One after the other, over and over; threads begin at their share, so that together they pass over all.
    Sequence,
    /// Key k with a probability proportional to 1 / (k + 1)^s.
    Zipf(f64),
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "one" => Ok(Self::One),
            None if text == "sequence" => Ok(Self::Sequence),
            None if text == "zipf" => Ok(Self::Zipf(1.0)),
            Some(("zipf", exponent)) => match exponent.parse::<f64>() {
                Ok(exponent) if exponent >= 0.0 && exponent.is_finite() => Ok(Self::Zipf(exponent)),
                _ => Err(format!("{exponent}: the exponent must be a number of at least 0")),
            },
            _ => Err(format!(
                "{text}: expected uniform, one, sequence, zipf or zipf:EXPONENT"
            )),
        }
    }
}

/// Draws keys from `0..count`.
#[derive(Debug, Clone)]
pub struct Keys {
    count: u32,
    law: Law,
}

#[derive(Debug, Clone)]
enum Law {
    Even,
    Zipf(Zipf<f64>),
    /// The next key.
    Sequence(u32),
}

impl Keys {
    /// `count` is at least 1 (0 is taken as 1).
    pub fn new(distribution: Distribution, count: u32) -> Self {
        let count = count.max(1);
        let law = match distribution {
            Distribution::Uniform | Distribution::One => Law::Even,
            Distribution::Sequence => Law::Sequence(0),
            Distribution::Zipf(exponent) => {
                Zipf::new(f64::from(count), exponent).map_or(Law::Even, Law::Zipf)
            }
        };
        let count = if distribution == Distribution::One {
            1
        } else {
            count
        };
        Self { count, law }
    }

    /// A sequence that begins at the share of this one of `of` threads; other distributions are left as they are.
    pub fn for_thread(mut self, index: usize, of: usize) -> Self {
        if let Law::Sequence(next) = &mut self.law {
            let first = u64::from(self.count) * index as u64 / of.max(1) as u64;
            *next = u32::try_from(first).unwrap_or(0);
        }
        self
    }

    /// The next key.
    pub fn draw(&mut self, random: &mut impl Rng) -> u32 {
        match &mut self.law {
            Law::Zipf(zipf) => {
                let rank = num::whole(zipf.sample(random));
                u32::try_from(rank).map_or(0, |rank| rank.saturating_sub(1).min(self.count - 1))
            }
            Law::Sequence(next) => {
                let key = *next;
                *next = (key + 1) % self.count;
                key
            }
            Law::Even if self.count == 1 => 0,
            Law::Even => random.random_range(0..self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    /// Draws so often, and says how often each key came.
    fn histogram(distribution: Distribution, keys: u32, draws: u32) -> Vec<f64> {
        let mut keys = Keys::new(distribution, keys);
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = vec![0.0; keys.count as usize];
        for _ in 0..draws {
            counts[keys.draw(&mut random) as usize] += 1.0;
        }
        counts
    }

    #[test]
    fn zipf_follows_its_law() {
        for exponent in [0.5, 1.0, 1.2] {
            let draws = 400_000;
            let counts = histogram(Distribution::Zipf(exponent), 100, draws);
            let weight = |key: u32| f64::from(key + 1).powf(-exponent);
            let sum: f64 = (0..100).map(weight).sum();
            // Pearson's chi-square over 99 degrees of freedom: above 170 with a probability below 1e-5.
            let off = |(key, count): (u32, &f64)| {
                let expected = f64::from(draws) * weight(key) / sum;
                (count - expected).powi(2) / expected
            };
            let chi: f64 = (0..100).zip(&counts).map(off).sum();
            assert!(chi < 170.0, "exponent {exponent}: chi-square {chi}");
        }
    }

    #[test]
    fn uniform_and_one() {
        let counts = histogram(Distribution::Uniform, 10, 100_000);
        assert!(
            counts.iter().all(|count| (count - 10_000.0).abs() < 500.0),
            "{counts:?}"
        );
        assert_eq!(histogram(Distribution::One, 10, 100), [100.0]);
    }

    #[test]
    fn a_sequence_passes_over_all_keys() {
        assert_eq!(histogram(Distribution::Sequence, 5, 15), [3.0; 5]);
        let mut second = Keys::new(Distribution::Sequence, 10).for_thread(1, 2);
        let mut random = SmallRng::seed_from_u64(1);
        let keys: Vec<_> = (0..6).map(|_| second.draw(&mut random)).collect();
        assert_eq!(keys, [5, 6, 7, 8, 9, 0]);
    }

    #[test]
    fn names() {
        assert_eq!("uniform".parse(), Ok(Distribution::Uniform));
        assert_eq!("zipf:1.2".parse(), Ok(Distribution::Zipf(1.2)));
        for bad in ["", "zipf:", "zipf:-1", "zipf:inf", "zipf:NaN", "normal", "one:2"] {
            assert!(bad.parse::<Distribution>().is_err(), "{bad}");
        }
    }
}
