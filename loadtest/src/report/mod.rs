mod progress;
mod summary;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::audit::AuditReport;
use crate::client::LinkStats;
use crate::machine::{Machine, ProcessUse};
use crate::measure::{Counts, Latencies, Percentiles, Row, Tally};
use crate::num;

pub use progress::Progress;
pub use summary::summary;

/// Everything a run found; its JSON is the contract with other programs, so names carry units.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `rk-load` and its version.
    pub tool: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Where it ran.
    pub machine: Machine,
    /// The measured time in seconds.
    pub duration_s: f64,
    /// The time before it.
    pub warmup_s: f64,
    /// Measured requests.
    pub totals: Totals,
    /// From the intended moment to the answer, by outcome: `decided`, `ok`, `over_limit`.
    pub latency: BTreeMap<&'static str, Percentiles>,
    /// Of decided requests: (quantile, microseconds).
    pub latency_curve: Vec<(f64, f64)>,
    /// From the intended moment to the sending: above some 100 µs the generator itself is slow.
    pub lag: Percentiles,
    /// Connections over the whole run.
    pub connections: LinkStats,
    /// What this process used.
    pub generator: ProcessUse,
    /// What the servers used, those that were still there in the end.
    pub servers: Vec<ProcessUse>,
    /// By second, warm-up included.
    pub series: Vec<Row>,
    /// If asked for.
    pub audit: Option<AuditReport>,
    /// Why the exit code is 1; empty if it is 0.
    pub failures: Vec<String>,
}

/// Counts of the measured time.
#[derive(Debug, Clone, Serialize)]
pub struct Totals {
    /// Sent requests by how they ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// All of them.
    pub sent: u64,
    /// Decided requests per second.
    pub decided_per_s: f64,
    /// Due by the schedule, but never sent: too many in flight, or no connection.
    pub unsent: u64,
    /// Sent more than a millisecond late.
    pub late: u64,
    /// Sent again because the server had refused to look at them.
    pub resent: u64,
}

impl Totals {
    /// From what was measured in `seconds`.
    pub fn new(tally: &Tally, seconds: f64) -> Self {
        let per_s = num::ratio(num::fraction(tally.counts.decided()), seconds);
        Self {
            counts: tally.counts.clone(),
            sent: tally.counts.sent(),
            decided_per_s: num::rounded(per_s, 1),
            unsent: tally.unsent,
            late: tally.late,
            resent: tally.resent,
        }
    }
}

/// The figures of the report's `latency`.
pub fn latencies(tally: &Tally, decided: &Latencies) -> BTreeMap<&'static str, Percentiles> {
    let all = [
        ("decided", decided),
        ("ok", &tally.ok),
        ("over_limit", &tally.over_limit),
    ];
    all.into_iter()
        .map(|(name, latencies)| (name, latencies.percentiles()))
        .collect()
}

/// Why a run failed, if it did.
pub fn failures(totals: &Totals, audit: Option<&AuditReport>, fail_on_error: bool) -> Vec<String> {
    let mut failures = Vec::new();
    if let Some(audit) = audit {
        if audit.broken_keys > 0 {
            failures.push(format!(
                "{} keys were granted more than their limit",
                audit.broken_keys
            ));
        }
        if audit.forgotten_admissions > 0 {
            failures.push(format!(
                "{} admissions were too many to audit",
                audit.forgotten_admissions
            ));
        }
    }
    let Counts {
        errors, unanswered, ..
    } = totals.counts;
    if fail_on_error && errors + unanswered + totals.unsent > 0 {
        let unsent = totals.unsent;
        failures.push(format!(
            "{errors} errors, {unanswered} unanswered, {unsent} unsent requests"
        ));
    }
    failures
}
