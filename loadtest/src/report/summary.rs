//! The report for people: a screenful of text.

use std::fmt::{self, Write};

use super::Report;
use crate::audit::AuditReport;
use crate::machine::ProcessUse;
use crate::measure::Percentiles;

/// Keys listed with their fullest window.
const KEYS_MAX: usize = 5;

/// The text, with a line feed at its end.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    let _ = write_all(&mut text, report);
    text
}

fn write_all(out: &mut String, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    let counts = &totals.counts;
    writeln!(
        out,
        "requests   {} in {} s, {} decided/s",
        totals.sent, report.duration_s, totals.decided_per_s
    )?;
    let (ok, over) = (counts.ok, counts.over_limit);
    let (errors, unanswered) = (counts.errors, counts.unanswered);
    writeln!(
        out,
        "           {ok} ok, {over} over limit, {errors} errors, {unanswered} unanswered"
    )?;
    for (cause, count) in &counts.causes {
        writeln!(out, "           {count} × {cause}")?;
    }
    if totals.unsent + totals.late + totals.resent > 0 {
        let (unsent, late, resent) = (totals.unsent, totals.late, totals.resent);
        writeln!(
            out,
            "           {unsent} unsent, {late} sent late, {resent} sent again"
        )?;
    }
    writeln!(
        out,
        "latency µs       p50       p90       p99     p99.9    p99.99       max"
    )?;
    for (name, figures) in &report.latency {
        row(out, name, figures)?;
    }
    row(out, "(lag)", &report.lag)?;
    let links = &report.connections;
    if links.lost + links.failed > 0 {
        writeln!(
            out,
            "connections  {} lost, {} tries failed",
            links.lost, links.failed
        )?;
    }
    usage(out, "generator", &report.generator)?;
    for server in &report.servers {
        usage(out, &format!("server {}", server.pid), server)?;
    }
    if let Some(found) = &report.audit {
        audit(out, found)?;
    }
    for failure in &report.failures {
        writeln!(out, "FAILED     {failure}")?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, figures: &Percentiles) -> fmt::Result {
    if figures.count == 0 {
        return Ok(());
    }
    write!(out, "  {name:<11}")?;
    let Percentiles {
        p50_us,
        p90_us,
        p99_us,
        p99_9_us,
        p99_99_us,
        max_us,
        ..
    } = *figures;
    for (index, value) in [p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us]
        .into_iter()
        .enumerate()
    {
        let width = if index == 0 { 7 } else { 10 };
        write!(out, "{value:>width$.0}")?;
    }
    writeln!(out)
}

fn usage(out: &mut String, name: &str, used: &ProcessUse) -> fmt::Result {
    let ProcessUse {
        cpu_us_per_request,
        cores,
        peak_rss_mib,
        ..
    } = used;
    writeln!(
        out,
        "{name:<12} {cpu_us_per_request:.2} µs CPU a request, {cores:.2} cores, peak {peak_rss_mib:.1} MiB"
    )
}

fn audit(out: &mut String, found: &AuditReport) -> fmt::Result {
    let (keys, broken) = (found.keys, found.broken_keys);
    let (used, possible) = (100.0 * found.utilisation, 100.0 * found.utilisation_of_possible);
    writeln!(
        out,
        "audit      {keys} keys, {broken} broken; {} hits admitted,",
        found.admitted_hits
    )?;
    writeln!(
        out,
        "           {used:.1} % of L·T/W, {possible:.1} % of L·⌈T/W⌉; fullest windows:"
    )?;
    for key in found.listed.iter().take(KEYS_MAX) {
        let (hits, limit, window) = (key.fullest_hits, key.limit.limit, key.limit.window);
        let mark = if key.broken { "  BROKEN" } else { "" };
        let begin = key.fullest_begin_s;
        writeln!(
            out,
            "           key {}: {hits} of {limit} in {window} s from {begin:.3} s on{mark}",
            key.key
        )?;
    }
    if found.unlimited_admissions > 0 {
        writeln!(
            out,
            "           {} admissions of keys without a limit",
            found.unlimited_admissions
        )?;
    }
    Ok(())
}
