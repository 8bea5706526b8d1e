//! One run: a service on servers of its own, a load, and a fault in the middle.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tempfile::TempDir;

use super::fault::{Fault, Site};
use super::row::Row;
use super::samples::{self, Page, Sampler};
use crate::support::service::Service;
use crate::support::{self, built, rk_load};

/// Before the fault, and after it.
const BEFORE: Duration = Duration::from_millis(1_500);
const AFTER: Duration = Duration::from_millis(2_500);
/// For the beginning and the end of the fault themselves: a process is waited for and started.
const SLACK: Duration = Duration::from_millis(500);

const RATE: &str = "2000";
const KEYS: &str = "10000";
/// The first key gets a tenth of all requests, the 20th still 10 a second.
const DISTRIBUTION: &str = "zipf:1";
/// The limits of the first 20 keys, (hits, seconds), in turn. All are exhausted; the longest windows span the whole fault.
const HOT: [(u64, u64); 5] = [(150, 1), (5, 1), (10, 2), (20, 10), (8, 3)];
const HOT_KEYS: usize = 20;
/// The limit of all other keys: never reached.
const COLD: (u64, u64) = (30, 1);

/// How long a fault lasts.
fn lasts() -> Duration {
    let soak = std::env::var_os("RATEKEEPER_SOAK").is_some();
    Duration::from_secs(if soak { 30 } else { 3 })
}

/// Runs it and says what came of it.
pub fn run<S: Site>(fault: &Fault<S>) -> Row {
    std::sync::LazyLock::force(&built::SERVICE);
    rk_load::prepare();
    let alone = rk_load::alone();
    let mut site = (fault.site)();
    let policies = support::policies(&[("load.yaml", &policy())]);
    let settings = site.settings();
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let service = Arc::new(Service::start_release(policies.path(), &settings));
    service.wait_connected();

    let sampler = Sampler::start(&service);
    let (_limits, arguments) = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let load = rk_load::start_holding(alone, &[service.grpc_port()], &arguments);
    std::thread::sleep(BEFORE);
    let begun = Instant::now();
    (fault.begin)(&mut site);
    endure(fault, &mut site, begun + lasts());
    (fault.end)(&mut site);
    let ended = Instant::now();
    let report = load.finish();

    let page = Page::read(service.http_address()).expect("the service answers");
    let samples = sampler.finish();
    let row = Row {
        name: fault.name,
        losses: fault.losses,
        page,
        report,
        starved: samples::starved(&samples),
        without_store: samples::without_store(&samples),
        in_use_after: samples::in_use(&samples, ended).map(|at| at - ended),
        in_use_after_promotion: site
            .promoted()
            .and_then(|promoted| Some(samples::in_use(&samples, ended)?.saturating_duration_since(promoted))),
    };
    if !row.broken().is_empty() {
        println!("{}\n{}", fault.name, row.report.summary);
        print_seconds(&row);
        print_log(fault.name, &service);
    }
    row
}

/// Lets the fault last.
fn endure<S>(fault: &Fault<S>, site: &mut S, until: Instant) {
    if fault.ends_itself {
        return;
    }
    while let Some((pause, again)) = fault.again
        && Instant::now() + pause < until
    {
        again(site);
        std::thread::sleep(pause);
    }
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// The client's view, second by second.
fn print_seconds(row: &Row) {
    for second in row.report.json["series"].as_array().into_iter().flatten() {
        let (number, p99, max) = (&second["second"], &second["p99_us"], &second["max_us"]);
        println!("  {} | second {number}: p99 {p99} µs, max {max} µs", row.name);
    }
}

/// The last lines of the service's log: what it made of the fault.
fn print_log(name: &str, service: &Service) {
    let output = service.output();
    let lines: Vec<&str> = output.lines().collect();
    for line in &lines[lines.len().saturating_sub(12)..] {
        println!("  {name} | {line}");
    }
}

/// Each limit and whose it is.
fn limits() -> impl Iterator<Item = (usize, (u64, u64))> {
    (0..HOT_KEYS).map(|key| (key, HOT[key % HOT.len()]))
}

fn policy() -> String {
    let rule = |(limit, window): (u64, u64)| {
        format!("rate_limit: {{unit: second, unit_multiplier: {window}, requests_per_unit: {limit}}}")
    };
    let hot: String = limits()
        .map(|(key, limit)| format!("  - {{key: user, value: '{key}', {}}}\n", rule(limit)))
        .collect();
    format!(
        "domain: load\ndescriptors:\n{hot}  - {{key: user, {}}}\n",
        rule(COLD)
    )
}

/// What the generator is told; the file with the limits must live as long.
fn arguments() -> (TempDir, Vec<String>) {
    let duration = BEFORE + lasts() + AFTER + SLACK;
    let dir = tempfile::tempdir().expect("no temporary directory");
    let file = dir.path().join("limits.json");
    write_limits(&file);
    let (limit, window) = COLD;
    let arguments = format!(
        "--domain load --descriptor user={{key}} --keys {KEYS} --distribution {DISTRIBUTION} --rate {RATE} --connections 4 \
         --grpc-timeout 20ms --give-up-after 1s --duration {}ms --audit --limit {limit} --window {window} --audit-limits {}",
        duration.as_millis(),
        file.display(),
    );
    (dir, arguments.split(' ').map(str::to_owned).collect())
}

fn write_limits(file: &Path) {
    let of = |(key, (limit, window)): (usize, (u64, u64))| {
        (key.to_string(), json!({"limit": limit, "window": window}))
    };
    let map: Map<String, serde_json::Value> = limits().map(of).collect();
    let text = serde_json::to_string(&map).expect("a JSON value is printable");
    support::write(file, &text);
}
