//! Every lap, one line each: what the tables and plots are made of.

use std::fmt::Write;

use crate::compare::curves::Measured;
use crate::compare::{Outcome, Sample};

const FIGURES: &str = "asked_per_s,per_s,cpu_us_per_request,p50_us,p99_us,p99_9_us,peak_mib,redis_cpu_us_per_request,\
                       decided,denied_share,failed,unsent,server_cores,load_cores";

/// All laps of a comparison.
pub fn servers_csv(outcome: &Outcome) -> String {
    let mut out = format!("scenario,server,round,{FIGURES}\n");
    for sample in &outcome.samples {
        let Sample {
            scenario,
            server,
            round,
            ..
        } = sample;
        // Writing into a string can't fail.
        let _ = writeln!(
            out,
            "{},{},{round},{}",
            cell(scenario),
            cell(server),
            figures(sample)
        );
    }
    out
}

/// All points of all curves.
pub fn curves_csv(points: &[Measured]) -> String {
    let mut out = format!("curve,series,x,bytes_per_key,ready_s,{FIGURES}\n");
    for point in points {
        let _ = writeln!(
            out,
            "{},{},{},{},{:.3},{}",
            point.curve,
            cell(&point.series),
            point.x,
            optional(point.bytes_per_key),
            point.ready_s,
            figures(&point.sample)
        );
    }
    out
}

fn figures(sample: &Sample) -> String {
    let Sample {
        per_s,
        cpu_us,
        p50_us,
        p99_us,
        p99_9_us,
        peak_mib,
        ..
    } = sample;
    format!(
        "{},{per_s},{cpu_us},{p50_us},{p99_us},{p99_9_us},{peak_mib},{},{},{:.4},{},{},{},{}",
        optional(sample.asked_per_s),
        optional(sample.redis_cpu_us),
        sample.decided,
        sample.denied,
        sample.failed,
        sample.unsent,
        sample.server_cores,
        sample.load_cores
    )
}

fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Quoted where it has to be.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
