//! Counters of one limit.

use metrics::{Counter, Unit, counter, describe_counter};

use super::striped::Striped;

const HITS: &str = "ratekeeper_limit_hits_total";
const OVER: &str = "ratekeeper_limit_over_limit_hits_total";
const NEAR: &str = "ratekeeper_limit_near_limit_hits_total";
const WITHIN: &str = "ratekeeper_limit_within_limit_hits_total";
const SHADOW: &str = "ratekeeper_limit_shadow_mode_hits_total";
const REFUNDED: &str = "ratekeeper_limit_refunded_hits_total";

pub(super) fn describe() {
    describe_counter!(HITS, Unit::Count, "Hits that asked for this limit");
    describe_counter!(OVER, Unit::Count, "Hits above the limit");
    describe_counter!(
        NEAR,
        Unit::Count,
        "Hits above the near-limit ratio, within the limit"
    );
    describe_counter!(WITHIN, Unit::Count, "Hits within the limit");
    describe_counter!(SHADOW, Unit::Count, "Hits above a limit in shadow mode");
    describe_counter!(REFUNDED, Unit::Count, "Hits given back");
}

/// What became of one charge.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The limit in hits.
    pub limit: u64,
    /// Hits asked for.
    pub hits: u64,
    /// The counter after the charge.
    pub used: u64,
    /// The charge was above the limit.
    pub over: bool,
    /// The hits are on the counter, also above the limit.
    pub recorded: bool,
    /// The limit stops nothing.
    pub shadow: bool,
}

/// The names in the order of the counts.
const NAMES: [&str; 6] = [HITS, OVER, NEAR, WITHIN, SHADOW, REFUNDED];
const HITS_AT: usize = 0;
const OVER_AT: usize = 1;
const NEAR_AT: usize = 2;
const WITHIN_AT: usize = 3;
const SHADOW_AT: usize = 4;
const REFUNDED_AT: usize = 5;

/// Counters of one limit: an increment is an addition that no other thread waits for. The registry learns them when it is asked.
#[derive(Debug)]
pub struct LimitSeries {
    near_ratio: f32,
    counts: Striped<6>,
    shown: [Counter; 6],
}

impl LimitSeries {
    pub(super) fn new(domain: &str, limit: &str, near_ratio: f32) -> Self {
        let series =
            |name: &'static str| counter!(name, "domain" => domain.to_owned(), "limit" => limit.to_owned());
        Self {
            near_ratio,
            counts: Striped::default(),
            shown: NAMES.map(series),
        }
    }

    /// Brings up to date what the registry holds.
    pub(super) fn show(&self) {
        for (counter, count) in self.shown.iter().zip(self.counts.sums()) {
            counter.absolute(count);
        }
    }

    /// Counts a charge by the reference server's table, its single-precision near limit included.
    pub fn observe(&self, it: Observed) {
        let near_from = near_limit(it.limit, self.near_ratio);
        if it.over {
            let before = if it.recorded {
                it.used.saturating_sub(it.hits)
            } else {
                it.limit
            };
            let over = if before >= it.limit {
                it.hits
            } else {
                it.used.saturating_sub(it.limit).min(it.hits)
            };
            let near = if before < it.limit {
                it.limit - near_from.max(before).min(it.limit)
            } else {
                0
            };
            let shadow = if it.shadow { over } else { 0 };
            self.counts.add([
                (HITS_AT, it.hits),
                (OVER_AT, over),
                (NEAR_AT, near),
                (SHADOW_AT, shadow),
            ]);
        } else {
            let near = if it.used > near_from {
                let before = it.used.saturating_sub(it.hits);
                if before >= near_from {
                    it.hits
                } else {
                    it.used - near_from
                }
            } else {
                0
            };
            self.counts
                .add([(HITS_AT, it.hits), (WITHIN_AT, it.hits), (NEAR_AT, near)]);
        }
    }

    /// Counts hits that were given back.
    pub fn refund(&self, hits: u64) {
        self.counts.add([(REFUNDED_AT, hits)]);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn near_limit(limit: u64, ratio: f32) -> u64 {
    (limit as f32 * ratio).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::near_limit;

    #[test]
    fn the_near_limit_is_single_precision_as_the_references() {
        let of = |limit, ratio| near_limit(limit, ratio);
        assert_eq!(of(10, 0.7), 7);
        for (limit, near) in [(8, 6), (15, 12), (20, 16), (99, 79), (1, 0)] {
            assert_eq!(of(limit, 0.8), near);
        }
    }
}
