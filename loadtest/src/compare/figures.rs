//! Spreads over rounds, and ratios to the base within each round.

use super::{Outcome, Sample};

/// Lowest, median and highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The lowest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { min, median, max })
    }

    /// One over it.
    pub fn inverse(self) -> Self {
        Self {
            min: 1.0 / self.max,
            median: 1.0 / self.median,
            max: 1.0 / self.min,
        }
    }
}

/// A figure of a sample.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As tables name it, with its unit.
    pub name: &'static str,
    /// Its value, if there is one.
    pub of: fn(&Sample) -> Option<f64>,
}

/// All figures that tables show.
pub const METRICS: [Metric; 7] = [
    Metric {
        name: "requests/s",
        of: |sample| Some(sample.per_s),
    },
    Metric {
        name: "CPU µs a request",
        of: |sample| Some(sample.cpu_us),
    },
    Metric {
        name: "p50 µs",
        of: |sample| Some(sample.p50_us),
    },
    Metric {
        name: "p99 µs",
        of: |sample| Some(sample.p99_us),
    },
    Metric {
        name: "p99.9 µs",
        of: |sample| Some(sample.p99_9_us),
    },
    Metric {
        name: "peak MiB",
        of: |sample| Some(sample.peak_mib),
    },
    Metric {
        name: "Redis CPU µs a request",
        of: |sample| sample.redis_cpu_us,
    },
];

impl Metric {
    /// Decided requests per second.
    pub const RATE: Self = METRICS[0];
    /// CPU time of the server a request.
    pub const CPU: Self = METRICS[1];
    /// The latency that one request of a thousand exceeds.
    pub const P99_9: Self = METRICS[4];
}

/// Looks figures up in an outcome.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a>(pub &'a Outcome);

impl<'a> Figures<'a> {
    /// The samples of a scenario and a server, by round.
    pub fn samples(&self, scenario: &'a str, server: &'a str) -> impl Iterator<Item = &'a Sample> + use<'a> {
        let all = self.0.samples.iter();
        all.filter(move |sample| sample.scenario == scenario && sample.server == server)
    }

    /// A figure over all rounds.
    pub fn spread(&self, scenario: &'a str, server: &'a str, metric: Metric) -> Option<Spread> {
        Spread::of(self.samples(scenario, server).filter_map(metric.of))
    }

    /// A figure over the base's in the same round, over all rounds.
    pub fn ratio(&self, scenario: &'a str, server: &'a str, metric: Metric) -> Option<Spread> {
        let ratio = |sample: &Sample| {
            let mut base = self.samples(scenario, &self.0.base);
            let base = base.find(|base| base.round == sample.round)?;
            let (part, whole) = ((metric.of)(sample)?, (metric.of)(base)?);
            (whole > 0.0).then_some(part / whole)
        };
        Spread::of(self.samples(scenario, server).filter_map(ratio))
    }

    /// Requests per second of CPU time over the base's: what the ratio of rates would be on a core without other work.
    pub fn ratio_by_cpu(&self, scenario: &'a str, server: &'a str) -> Option<Spread> {
        self.ratio(scenario, server, Metric::CPU).map(Spread::inverse)
    }

    /// The sample whose rate is the median of its rounds: its latency curve is the one to plot.
    pub fn middle(&self, scenario: &'a str, server: &'a str) -> Option<&'a Sample> {
        let mut samples: Vec<_> = self.samples(scenario, server).collect();
        samples.sort_by(|one, other| one.per_s.total_cmp(&other.per_s));
        samples.get(samples.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread =
            |values: &[f64]| Spread::of(values.iter().copied()).map(|all| (all.min, all.median, all.max));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0, f64::NAN]), Some((1.0, 2.5, 4.0)));
    }

    #[test]
    fn ratios_are_within_a_round() {
        let sample = |server: &str, round, per_s| Sample {
            scenario: "s".to_owned(),
            server: server.to_owned(),
            round,
            per_s,
            ..Sample::default()
        };
        let outcome = Outcome {
            scenarios: Vec::new(),
            servers: vec!["base".to_owned(), "other".to_owned()],
            base: "base".to_owned(),
            samples: vec![
                sample("base", 1, 100.0),
                sample("other", 1, 50.0),
                sample("base", 2, 200.0),
                sample("other", 2, 150.0),
                sample("other", 3, 1.0), // the base's third lap failed
            ],
            remarks: Vec::new(),
        };
        let ratio = Figures(&outcome)
            .ratio("s", "other", METRICS[0])
            .expect("two rounds");
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.625, 0.75));
    }
}
