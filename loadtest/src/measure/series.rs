//! What happened second by second.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Counts, Latencies};
use crate::num;

/// Digits of the latencies of a single second: 10 KB each instead of 100.
const DIGITS: u8 = 2;

/// One second of one thread; requests belong to the second in which they ended.
#[derive(Debug, Clone)]
pub struct Second {
    /// Whole seconds since the start, warm-up included.
    pub index: u64,
    /// By outcome.
    pub counts: Counts,
    /// Of the decided ones.
    pub latencies: Latencies<u32>,
}

impl Second {
    /// Nothing happened yet.
    pub fn new(index: u64) -> Self {
        Self {
            index,
            counts: Counts::default(),
            latencies: Latencies::new(DIGITS),
        }
    }
}

/// All threads' seconds together.
#[derive(Debug, Clone, Default)]
pub struct Series {
    seconds: BTreeMap<u64, Second>,
}

impl Series {
    /// Adds a thread's second.
    pub fn add(&mut self, second: Second) {
        match self.seconds.get_mut(&second.index) {
            Some(same) => {
                same.counts.merge(&second.counts);
                same.latencies.merge(&second.latencies);
            }
            None => {
                self.seconds.insert(second.index, second);
            }
        }
    }

    /// The newest second that was reported, for the progress bar.
    pub fn newest(&self) -> Option<&Second> {
        self.seconds.values().next_back()
    }

    /// One row for each second up to the last in which anything ended, empty ones included.
    pub fn rows(&self, warmup_s: f64) -> Vec<Row> {
        let end = self.seconds.keys().next_back().map_or(0, |last| last + 1);
        let empty = Second::new(0);
        let row = |index| {
            let second = self.seconds.get(&index).unwrap_or(&empty);
            Row {
                second: index,
                warmup: num::fraction(index) < warmup_s,
                counts: second.counts.clone(),
                p50_us: num::micros(second.latencies.quantile(0.5)),
                p99_us: num::micros(second.latencies.quantile(0.99)),
                p99_9_us: num::micros(second.latencies.quantile(0.999)),
                max_us: num::micros(second.latencies.max()),
            }
        };
        (0..end).map(row).collect()
    }
}

/// A second as reports show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Row {
    pub second: u64,
    /// Began in the warm-up: not part of the totals.
    pub warmup: bool,
    #[serde(flatten)]
    pub counts: Counts,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;

    #[test]
    fn threads_add_up_and_quiet_seconds_show() {
        let mut series = Series::default();
        for (index, micros) in [(0, 100), (3, 200), (0, 300)] {
            let mut second = Second::new(index);
            second.counts.add(Outcome::Ok);
            second.latencies.record(micros * 1_000);
            series.add(second);
        }
        let rows = series.rows(0.5);
        assert_eq!(
            rows.iter().map(|row| row.counts.ok).collect::<Vec<_>>(),
            [2, 0, 0, 1]
        );
        assert_eq!(
            rows.iter().map(|row| row.warmup).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert!((rows[0].max_us - 300.0).abs() < 5.0, "{rows:?}");
        assert_eq!(rows[1].p99_us, 0.0);
    }
}
