//! HDR histograms of nanoseconds, and the few numbers that reports quote from them.

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::num;

/// Below this all values are alike; above, three digits are kept.
const LOWEST_NS: u64 = 1_000;
/// Longer ones are recorded as this: an hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// A histogram of latencies.
#[derive(Debug, Clone)]
pub struct Latencies<C: Counter = u64>(Histogram<C>);

impl<C: Counter> Latencies<C> {
    /// Empty, exact to `digits` significant digits (1 to 5).
    pub fn new(digits: u8) -> Self {
        let exact = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, digits.clamp(1, 5));
        // The bounds above are valid; without them the histogram would grow by itself.
        Self(
            exact
                .or_else(|_| Histogram::new(3))
                .unwrap_or_else(|_| unreachable!("3 digits are valid")),
        )
    }

    /// Records one.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, the only way this can fail.
        let _ = self.0.add(&other.0);
    }

    /// The value that the share `quantile` (0 to 1) does not exceed, in nanoseconds; 0 if empty.
    pub fn quantile(&self, quantile: f64) -> u64 {
        if self.0.is_empty() {
            0
        } else {
            self.0.value_at_quantile(quantile).min(self.0.max())
        }
    }

    /// The greatest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The usual figures.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| num::micros(self.quantile(quantile));
        Percentiles {
            count: self.0.len(),
            mean_us: num::rounded(self.0.mean() / 1e3, 1),
            min_us: if self.0.is_empty() {
                0.0
            } else {
                num::micros(self.0.min())
            },
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: num::micros(self.max()),
        }
    }

    /// Points of the distribution for a plot, (quantile, microseconds), denser towards the tail.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let points = self.0.iter_quantiles(4);
        points
            .map(|point| {
                (
                    point.quantile_iterated_to(),
                    num::micros(point.value_iterated_to()),
                )
            })
            .collect()
    }
}

/// What a report says of a distribution; microseconds, 0 if it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub count: u64,
    pub mean_us: f64,
    pub min_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub p99_99_us: f64,
    pub max_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_values() {
        let mut latencies = Latencies::<u64>::new(3);
        (1..=10_000).rev().for_each(|us| latencies.record(us * 1_000));
        let found = latencies.percentiles();
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.001;
        assert_eq!(found.count, 10_000);
        assert!(near(found.mean_us, 5_000.5), "{found:?}");
        assert!(
            near(found.p50_us, 5_000.0) && near(found.p90_us, 9_000.0),
            "{found:?}"
        );
        assert!(
            near(found.p99_us, 9_900.0) && near(found.p99_9_us, 9_990.0),
            "{found:?}"
        );
        assert!(
            near(found.p99_99_us, 9_999.0) && near(found.max_us, 10_000.0),
            "{found:?}"
        );
    }

    #[test]
    fn merging_is_like_recording_together() {
        let (mut one, mut other) = (Latencies::<u64>::new(3), Latencies::<u64>::new(3));
        let mut both = Latencies::<u64>::new(3);
        for value in 0..1_000u64 {
            let nanos = value * value * 977;
            if value % 3 == 0 {
                one.record(nanos)
            } else {
                other.record(nanos)
            }
            both.record(nanos);
        }
        one.merge(&other);
        assert_eq!(one.percentiles(), both.percentiles());
        assert_eq!(one.curve(), both.curve());
    }

    #[test]
    fn empty_and_endless() {
        let mut latencies = Latencies::<u32>::new(2);
        assert_eq!(latencies.percentiles().p99_us, 0.0);
        assert!(latencies.curve().is_empty());
        latencies.record(u64::MAX);
        assert!(latencies.quantile(0.5) > HIGHEST_NS / 2);
    }
}
