//! What one lap found, and the part of `rk-load`'s JSON that it comes from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::num;

/// Figures of one lap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The scenario's name.
    pub scenario: String,
    /// The server's name.
    pub server: String,
    /// From 1.
    pub round: u32,
    /// The rate that was asked for, in open loop.
    pub asked_per_s: Option<f64>,
    /// Decided requests per second.
    pub per_s: f64,
    /// CPU time of the server's processes a request, in µs.
    pub cpu_us: f64,
    /// Latency, in µs.
    pub p50_us: f64,
    /// Latency, in µs.
    pub p99_us: f64,
    /// Latency, in µs.
    pub p99_9_us: f64,
    /// Of the server's processes together, in MiB.
    pub peak_mib: f64,
    /// CPU time of Redis a request, in µs.
    pub redis_cpu_us: Option<f64>,
    /// Decided requests.
    pub decided: u64,
    /// Share of denied among the decided.
    pub denied: f64,
    /// Errors and unanswered requests.
    pub failed: u64,
    /// Due by the schedule and not sent in time, e.g. because the generator had no core.
    pub unsent: u64,
    /// CPU time / time of the server's processes.
    pub server_cores: f64,
    /// CPU time / time of the generator: near 1 on a core of its own, it and not the server was the limit.
    pub load_cores: f64,
    /// (quantile, µs).
    pub curve: Vec<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
struct Spool {
    totals: Totals,
    latency: BTreeMap<String, Percentiles>,
    latency_curve: Vec<(f64, f64)>,
    generator: Used,
    servers: Vec<Used>,
}

#[derive(Debug, Deserialize)]
struct Totals {
    ok: u64,
    over_limit: u64,
    errors: u64,
    unanswered: u64,
    unsent: u64,
    decided_per_s: f64,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p50_us: f64,
    p99_us: f64,
    p99_9_us: f64,
}

#[derive(Debug, Deserialize)]
struct Used {
    pid: u32,
    cpu_us_per_request: f64,
    cores: f64,
    peak_rss_mib: f64,
}

/// A sample from what `rk-load --json` wrote; `redis` is the process id of Redis, all others are servers.
///
/// # Errors
/// A file that is missing or of another form.
pub fn spool(path: &Path, redis: Option<u32>) -> Result<Sample, String> {
    let name = path.display();
    let json = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let spool: Spool = serde_json::from_slice(&json).map_err(|error| format!("{name}: {error}"))?;
    let (stores, servers): (Vec<_>, Vec<_>) = spool.servers.iter().partition(|used| Some(used.pid) == redis);
    let sum = |of: fn(&Used) -> f64| servers.iter().map(|used| of(used)).sum();
    let decided_latency = spool.latency.get("decided");
    let latency = |of: fn(&Percentiles) -> f64| decided_latency.map_or(0.0, of);
    let Totals { ok, over_limit, .. } = spool.totals;
    let decided = ok + over_limit;
    Ok(Sample {
        per_s: spool.totals.decided_per_s,
        cpu_us: sum(|used| used.cpu_us_per_request),
        p50_us: latency(|figures| figures.p50_us),
        p99_us: latency(|figures| figures.p99_us),
        p99_9_us: latency(|figures| figures.p99_9_us),
        peak_mib: sum(|used| used.peak_rss_mib),
        redis_cpu_us: stores.first().map(|used| used.cpu_us_per_request),
        decided,
        denied: num::ratio(num::fraction(over_limit), num::fraction(decided)),
        failed: spool.totals.errors + spool.totals.unanswered,
        unsent: spool.totals.unsent,
        server_cores: sum(|used| used.cores),
        load_cores: spool.generator.cores,
        curve: spool.latency_curve,
        ..Sample::default()
    })
}
