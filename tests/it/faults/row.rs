//! What came of a fault, and what it must have been.

use std::fmt::Write as _;
use std::time::Duration;

use super::samples::Page;
use crate::support::rk_load::Report;

/// Of all requests, so many are decided by the service within 20 ms.
const IN_TIME: f64 = 0.9995;
const CLIENT_P99_9_MS: f64 = 25.0;
/// From the store's return, and from the promotion of another node.
const IN_USE_WITHIN: Duration = Duration::from_secs(1);
const IN_USE_AFTER_PROMOTION_WITHIN: Duration = Duration::from_secs(2);

/// What neither the generator's lag (at the 99.9th percentile) nor the service's waits for a core come to unless others are busy.
const HELD_UP_LAG_MS: f64 = 3.0;
const HELD_UP: Duration = Duration::from_millis(30);

/// One fault.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// How often the store lost its data.
    pub losses: u64,
    /// The service's metrics in the end.
    pub page: Page,
    /// The client's view.
    pub report: Report,
    /// The longest that the service's threads waited for a core in 40 ms: above that they were held up by others.
    pub starved: Duration,
    /// How long some decisions were made without the store.
    pub without_store: Duration,
    /// From the end of the fault until the store decided nearly all again; none if it never did.
    pub in_use_after: Option<Duration>,
    /// The same from a node's promotion on.
    pub in_use_after_promotion: Option<Duration>,
}

impl Row {
    fn client_ms(&self, name: &str) -> f64 {
        let value = &self.report.json["latency"]["decided"][name];
        value.as_f64().expect("a number of microseconds") / 1_000.0
    }

    /// How late the generator itself sent, at the 99.9th percentile: what the machine was short of, not the service.
    fn lag_ms(&self) -> f64 {
        let value = &self.report.json["lag"]["p99_9_us"];
        value.as_f64().expect("a number of microseconds") / 1_000.0
    }

    /// Decisions that took the service at most so long.
    fn within(&self, seconds: &str) -> f64 {
        let name = format!("ratekeeper_request_duration_seconds_bucket{{le=\"{seconds}\"}}");
        self.page.sum(&name)
    }

    fn decided(&self) -> f64 {
        self.page.sum("ratekeeper_request_duration_seconds_count")
    }

    fn in_time(&self) -> f64 {
        self.within("0.02") / self.decided()
    }

    fn late(&self) -> f64 {
        self.decided() - self.within("0.1")
    }

    fn slowest_ms(&self) -> f64 {
        self.page.sum("ratekeeper_request_duration_max_seconds") * 1_000.0
    }

    fn without(&self) -> f64 {
        self.page.sum("ratekeeper_decisions_without_store_total{")
    }

    /// How many times its limit the fullest window of any key held.
    fn fullest(&self) -> f64 {
        let listed = self.report.json["audit"]["listed"].as_array();
        let first = listed.and_then(|keys| keys.first()).expect("keys were audited");
        let number = |name: &str| first[name].as_f64().expect("a number");
        number("fullest_hits") / number("limit")
    }

    /// How many times its limit a window may hold: once; twice if anything was decided on shares; and once more for each loss
    /// of data. `docs/redis.md` says why.
    fn bound(&self) -> f64 {
        let shares = if self.without() > 0.0 { 1 } else { 0 };
        (1 + shares + self.losses) as f64
    }

    /// Whether others kept the generator or the service from their cores: times then say little about the service.
    pub fn was_held_up(&self) -> bool {
        self.lag_ms() > HELD_UP_LAG_MS || self.starved > HELD_UP
    }

    /// The promises that did not hold.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.broken_whatever_else_ran();
        broken.extend(self.broken_times());
        broken
    }

    /// Those of times that a machine without a free core breaks by itself.
    pub fn broken_times(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.in_time() < IN_TIME {
            broken.push(format!(
                "{}: {:.3} % decided within 20 ms, must be {} % (the service waited for a core up to {:?} in 40 ms)",
                self.name,
                100.0 * self.in_time(),
                100.0 * IN_TIME,
                self.starved
            ));
        }
        let unsent = self.report.total("unsent");
        if unsent > 0 {
            broken.push(format!("{}: {unsent} unsent, must be 0", self.name));
        }
        let p99_9 = self.client_ms("p99_9_us");
        if p99_9 > CLIENT_P99_9_MS {
            broken.push(format!(
                "{}: client p99.9 is {p99_9:.1} ms, must be {CLIENT_P99_9_MS} at most (the generator's own lag: {:.1} ms; \
                 the service waited for a core up to {:?} in 40 ms)",
                self.name,
                self.lag_ms(),
                self.starved
            ));
        }
        broken
    }

    /// All others.
    pub fn broken_whatever_else_ran(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut holds = |held: bool, what: String| {
            if !held {
                broken.push(format!("{}: {what}", self.name));
            }
        };
        for lost in ["errors", "unanswered"] {
            let count = self.report.total(lost);
            holds(count == 0, format!("{count} {lost}, must be 0"));
        }
        let late = self.late();
        holds(late == 0.0, format!("{late} decisions took more than 100 ms"));
        let (fullest, bound) = (self.fullest(), self.bound());
        holds(
            fullest <= bound,
            format!("a window held {fullest:.2} L, must be {bound} L at most"),
        );
        let forgotten = &self.report.json["audit"]["forgotten_admissions"];
        holds(
            *forgotten == 0,
            format!("{forgotten} admissions were not audited"),
        );
        let back = self.in_use_after;
        holds(
            back.is_some_and(|back| back <= IN_USE_WITHIN),
            format!("store in use {back:?} after its return, must be {IN_USE_WITHIN:?} at most"),
        );
        if let Some(back) = self.in_use_after_promotion {
            holds(
                back <= IN_USE_AFTER_PROMOTION_WITHIN,
                format!(
                    "store in use {back:?} after the promotion, must be {IN_USE_AFTER_PROMOTION_WITHIN:?} at most"
                ),
            );
        }
        broken
    }
}

/// All rows as a table, in Markdown.
pub fn table(topology: &str, rows: &[Row]) -> String {
    let mut out = format!("## {topology}\n\n");
    out.push_str(
        "| fault | requests | errors, unanswered | fullest window (bound) | without the store | for | client p50 / p99 / p99.9 / \
         max, ms | its lag p99.9 | service waited for a core | service ≤ 20 ms | > 100 ms | slowest, ms | in use after | verdict |\n",
    );
    out.push_str("|---|--:|--:|--:|---|--:|---|--:|--:|--:|--:|--:|--:|---|\n");
    for row in rows {
        // Writing to a string can't fail.
        let _ = write_row(&mut out, row);
    }
    out
}

fn write_row(out: &mut String, row: &Row) -> std::fmt::Result {
    let seconds = |time: Option<Duration>| {
        time.map_or("never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    let total = |name| row.report.total(name);
    write!(
        out,
        "| {} | {} | {}, {} | {:.2} L ({} L) |",
        row.name,
        total("sent"),
        total("errors"),
        total("unanswered"),
        row.fullest(),
        row.bound(),
    )?;
    let [p50, p99, p99_9, max] = ["p50_us", "p99_us", "p99_9_us", "max_us"].map(|name| row.client_ms(name));
    let lag = row.lag_ms();
    write!(
        out,
        " {} | {} | {p50:.2} / {p99:.2} / {p99_9:.2} / {max:.2} | {lag:.2} | {:.1} | {:.3} % | {} | {:.1} |",
        row.page.reasons(),
        seconds(Some(row.without_store)),
        1_000.0 * row.starved.as_secs_f64(),
        100.0 * row.in_time(),
        row.late(),
        row.slowest_ms(),
    )?;
    let promotion = row.in_use_after_promotion.map_or_else(String::new, |back| {
        format!(", {} from the promotion", seconds(Some(back)))
    });
    let verdict = if row.broken().is_empty() {
        "holds"
    } else {
        "broken"
    };
    writeln!(out, " {}{promotion} | {verdict} |", seconds(row.in_use_after))
}
