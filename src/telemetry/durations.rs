//! How long decisions took, as a histogram.
//!
//! The exporter's own histogram keeps each value until it is folded: an allocation every few hundred requests, and a walk over all of
//! them every second. Here a value is two additions, and the page's lines are written when somebody asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::striped::Striped;

/// Name and meaning on the metrics page.
pub(super) const NAME: &str = "ratekeeper_request_duration_seconds";
const HELP: &str = "Time from a decoded request to its answer";

/// Upper ends of the buckets in microseconds, inclusive.
const ENDS_US: [u64; 13] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 50_000, 100_000,
];

/// Counts by bucket, and the sum of all in microseconds.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// The first seven buckets and, last, the sum: nearly all requests touch this line alone.
    short: Striped<8>,
    /// The others, the unbounded one last.
    long: Striped<7>,
}

impl Durations {
    /// Counts one that took `took_us` microseconds.
    pub(super) fn record(&self, took_us: u64) {
        let bucket = ENDS_US.iter().take_while(|end| took_us > **end).count();
        if bucket < 7 {
            self.short.add([(bucket, 1), (7, took_us)]);
        } else {
            self.short.add([(7, took_us)]);
            self.long.add([(bucket - 7, 1)]);
        }
    }

    /// Appends the lines of the metrics page, with labels that all metrics have.
    #[expect(clippy::cast_precision_loss, reason = "the page's numbers are floats")]
    pub(super) fn render(&self, labels: &BTreeMap<String, String>, page: &mut String) {
        let (short, long) = (self.short.sums(), self.long.sums());
        let mut shared = String::new();
        // Writing into a String can't fail, here and below.
        for (name, value) in labels {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(shared, "{name}=\"{value}\",");
        }
        let _ = writeln!(page, "# HELP {NAME} {HELP}\n# TYPE {NAME} histogram");
        let mut count = 0;
        let ends = ENDS_US.iter().map(|end| (*end as f64 / 1e6).to_string());
        let counts = short[..7].iter().chain(&long);
        for (end, more) in ends.chain(["+Inf".to_owned()]).zip(counts) {
            count += more;
            let _ = writeln!(page, "{NAME}_bucket{{{shared}le=\"{end}\"}} {count}");
        }
        let own = shared.trim_end_matches(',');
        let own = if own.is_empty() {
            String::new()
        } else {
            format!("{{{own}}}")
        };
        let _ = writeln!(page, "{NAME}_sum{own} {}", short[7] as f64 / 1e6);
        let _ = writeln!(page, "{NAME}_count{own} {count}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_upper_end_and_all_below() {
        let durations = Durations::default();
        for took_us in [0, 25, 26, 2_500, 2_501, 20_000, 100_000, 100_001] {
            durations.record(took_us);
        }
        let mut page = String::new();
        let labels = BTreeMap::from([("zone".to_owned(), "a\"b".to_owned())]);
        durations.render(&labels, &mut page);
        let value = |of: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(of));
            line.unwrap_or_else(|| panic!("{of} in {page}")).to_owned()
        };
        for (le, count) in [
            ("0.000025", 2),
            ("0.00005", 3),
            ("0.0025", 4),
            ("0.005", 5),
            ("0.02", 6),
            ("0.1", 7),
            ("+Inf", 8),
        ] {
            let line = format!("{NAME}_bucket{{zone=\"a\\\"b\",le=\"{le}\"}} ");
            assert_eq!(value(&line), count.to_string(), "up to {le}");
        }
        assert_eq!(value(&format!("{NAME}_count{{zone=\"a\\\"b\"}} ")), "8");
        assert_eq!(value(&format!("{NAME}_sum{{zone=\"a\\\"b\"}} ")), "0.225053");
    }
}
