//! Tables for docs/performance.md.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Head, digits};
use crate::compare::curves::{CURVES, Measured};
use crate::compare::{Figures, METRICS, Metric, Outcome, Spread};
use crate::scenario::{Drive, Scenario};

/// Nothing to show.
const NONE: &str = "–";

/// The whole comparison.
pub fn servers_markdown(head: &Head, outcome: &Outcome) -> String {
    let mut out = heading(head);
    let figures = Figures(outcome);
    overview(&mut out, figures);
    for scenario in &outcome.scenarios {
        table(&mut out, figures, scenario);
    }
    for remark in &outcome.remarks {
        let _ = writeln!(out, "- {remark}");
    }
    out
}

fn heading(head: &Head) -> String {
    let mut out = String::new();
    for (name, value) in head.lines() {
        let code = if name == "command" { "`" } else { "" };
        let _ = writeln!(out, "- {name}: {code}{value}{code}");
    }
    out
}

fn table(out: &mut String, figures: Figures, scenario: &Scenario) {
    let base = &figures.0.base;
    let has_redis = |metric: &&Metric| {
        let mut servers = figures.0.servers.iter();
        !metric.name.starts_with("Redis")
            || servers.any(|server| figures.spread(&scenario.name, server, **metric).is_some())
    };
    let metrics: Vec<_> = METRICS.iter().filter(has_redis).collect();
    let _ = writeln!(out, "\n**{}** (`{}`)\n", scenario.title, scenario.name);
    let names: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
    let _ = writeln!(
        out,
        "| server | rate of `{base}` | the same by CPU | p99.9 of `{base}` | {} | remarks |",
        names.join(" | ")
    );
    let _ = writeln!(out, "|{}", "---|".repeat(metrics.len() + 5));
    for server in &figures.0.servers {
        if figures.samples(&scenario.name, server).next().is_none() {
            continue;
        }
        let ratios = [
            figures.ratio(&scenario.name, server, Metric::RATE),
            figures.ratio_by_cpu(&scenario.name, server),
            figures.ratio(&scenario.name, server, Metric::P99_9),
        ];
        let values = metrics.iter().map(|metric| {
            let spread = figures.spread(&scenario.name, server, **metric);
            spread.map_or_else(|| "–".to_owned(), |spread| digits(spread.median))
        });
        let cells: Vec<_> = ratios.into_iter().map(ratio).chain(values).collect();
        let remarks = remarks(figures, scenario, server);
        let _ = writeln!(out, "| {server} | {} | {remarks} |", cells.join(" | "));
    }
}

/// Scenarios down, servers across: ratios of rates, in open loop of p99.9.
fn overview(out: &mut String, figures: Figures) {
    let outcome = figures.0;
    let others: Vec<_> = outcome
        .servers
        .iter()
        .filter(|server| **server != outcome.base)
        .collect();
    let names: Vec<_> = others.iter().map(|name| name.as_str()).collect();
    let _ = writeln!(
        out,
        "\n| ratio to `{}` in the same round | of | {} |",
        outcome.base,
        names.join(" | ")
    );
    let _ = writeln!(out, "|{}", "---|".repeat(names.len() + 2));
    for scenario in &outcome.scenarios {
        let (name, metric) = match scenario.drive {
            Drive::Closed => ("requests/s", Metric::RATE),
            _ => ("p99.9", Metric::P99_9),
        };
        let cells = names
            .iter()
            .map(|server| ratio(figures.ratio(&scenario.name, server, metric)));
        let cells: Vec<_> = cells.collect();
        if cells.iter().any(|cell| cell != NONE) {
            let _ = writeln!(out, "| {} | {name} | {} |", scenario.title, cells.join(" | "));
        }
    }
}

fn ratio(ratio: Option<Spread>) -> String {
    ratio.map_or_else(|| NONE.to_owned(), spread)
}

fn spread(spread: Spread) -> String {
    format!("**{:.2}** ({:.2} … {:.2})", spread.median, spread.min, spread.max)
}

/// What a reader has to know of a row.
pub fn remarks(figures: Figures, scenario: &Scenario, server: &str) -> String {
    let samples: Vec<_> = figures
        .0
        .samples
        .iter()
        .filter(|sample| sample.scenario == scenario.name && sample.server == server)
        .collect();
    let mut remarks = Vec::new();
    let failed: u64 = samples.iter().map(|sample| sample.failed).sum();
    let unsent: u64 = samples.iter().map(|sample| sample.unsent).sum();
    for (count, name) in [(failed, "failed"), (unsent, "unsent")] {
        if count > 0 {
            remarks.push(format!("{count} {name}"));
        }
    }
    if samples
        .iter()
        .any(|sample| sample.asked_per_s.is_none() && sample.load_cores > 0.97 && sample.server_cores < 0.9)
    {
        remarks.push("the load's core was full first".to_owned());
    }
    let denied = Spread::of(samples.iter().map(|sample| sample.denied)).map_or(0.0, |denied| denied.median);
    if denied > 0.005 {
        remarks.push(format!("{:.0} % denied", 100.0 * denied));
    }
    remarks.join(", ")
}

/// A table for each curve: a row for each x, columns for the series.
pub fn curves_markdown(head: &Head, points: &[Measured], remarks: &[String]) -> String {
    let mut out = heading(head);
    for curve in CURVES {
        let of_curve: Vec<_> = points.iter().filter(|point| point.curve == curve.name).collect();
        if of_curve.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n**{}**. {}\n", curve.title, curve.about);
        let mut series: Vec<&str> = Vec::new();
        for point in &of_curve {
            if !series.contains(&point.series.as_str()) {
                series.push(&point.series);
            }
        }
        let columns = series
            .iter()
            .map(|name| format!("{name}: requests/s, CPU µs, p99 µs"));
        let _ = writeln!(
            out,
            "| {} | {} |",
            curve.x,
            columns.collect::<Vec<_>>().join(" | ")
        );
        let _ = writeln!(out, "|{}", "---|".repeat(series.len() + 1));
        let xs: BTreeSet<u64> = of_curve.iter().map(|point| point.x).collect();
        for x in xs {
            let cells = series.iter().map(|name| {
                let point = of_curve
                    .iter()
                    .find(|point| point.x == x && point.series == *name);
                point.map_or_else(|| "–".to_owned(), |point| measured(point))
            });
            let x = curve
                .names
                .iter()
                .find(|(value, _)| *value == x)
                .map_or_else(|| x.to_string(), |(_, name)| (*name).to_owned());
            let _ = writeln!(out, "| {x} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
    for remark in remarks {
        let _ = writeln!(out, "\n- {remark}");
    }
    out
}

fn measured(point: &Measured) -> String {
    let sample = &point.sample;
    let mut text = format!(
        "{}, {}, {}",
        digits(sample.per_s),
        digits(sample.cpu_us),
        digits(sample.p99_us)
    );
    if let Some(bytes) = point.bytes_per_key {
        let _ = write!(text, "; {bytes:.0} B a key");
    }
    if let Some(redis) = sample.redis_cpu_us {
        let _ = write!(text, "; Redis {} µs", digits(redis));
    }
    if point.ready_s >= 1.0 {
        let _ = write!(text, "; ready in {:.1} s", point.ready_s);
    }
    if sample.denied > 0.005 {
        let _ = write!(text, "; {:.0} % denied", 100.0 * sample.denied);
    }
    if sample.failed > 0 {
        let _ = write!(text, "; {} failed", sample.failed);
    }
    text
}
