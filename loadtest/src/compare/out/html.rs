//! One page that needs nothing else: tables and plots.

use std::fmt::Write;

use super::markdown::remarks;
use super::svg::escaped;
use super::{Bars, Head, Lines, Series, digits};
use crate::compare::curves::{CURVES, Curve, Measured};
use crate::compare::{Figures, METRICS, Metric, Outcome, Sample};
use crate::scenario::{Drive, Scenario};

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:.6em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}\
td:first-child,th:first-child,td:last-child{text-align:left}small{color:#666}.legend span{margin-right:1.2em}\
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}svg{max-width:100%;height:auto}";

/// The comparison of servers.
pub fn servers_html(head: &Head, outcome: &Outcome) -> String {
    let figures = Figures(outcome);
    let mut out = open("Side by side", head);
    let base = escaped(&outcome.base);
    let _ = write!(
        out,
        "<p>Ratios are to <b>{base}</b> in the same round: median (lowest … highest). By CPU: of requests per second of CPU \
         time. Other figures are medians over the rounds.</p>"
    );
    let closed = |scenario: &&Scenario| scenario.drive == Drive::Closed;
    let scenarios: Vec<_> = outcome.scenarios.iter().filter(closed).collect();
    let _ = write!(
        out,
        "<h2>Requests/s, closed loop</h2>{}",
        bars(figures, &scenarios, false).svg()
    );
    let _ = write!(
        out,
        "<h2>Ratio to {base}, closed loop</h2>{}",
        bars(figures, &scenarios, true).svg()
    );
    for scenario in &outcome.scenarios {
        let _ = write!(
            out,
            "<h2>{} <small>{}</small></h2>",
            escaped(&scenario.title),
            escaped(&scenario.name)
        );
        table(&mut out, figures, scenario);
        out.push_str(&latencies(figures, scenario).svg());
    }
    list(&mut out, &outcome.remarks);
    out + "</body></html>\n"
}

fn open(title: &str, head: &Head) -> String {
    let mut out = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1><ul>"
    );
    for (name, value) in head.lines() {
        let _ = write!(out, "<li>{name}: <code>{}</code></li>", escaped(value));
    }
    out + "</ul>"
}

fn list(out: &mut String, remarks: &[String]) {
    out.push_str("<ul>");
    for remark in remarks {
        let _ = write!(out, "<li>{}</li>", escaped(remark));
    }
    out.push_str("</ul>");
}

fn bars(figures: Figures, scenarios: &[&Scenario], ratio: bool) -> Bars {
    let outcome = figures.0;
    let group = |scenario: &&Scenario| {
        let bar = |server: &String| match ratio {
            true => figures.ratio(&scenario.name, server, Metric::RATE),
            false => figures.spread(&scenario.name, server, Metric::RATE),
        };
        (scenario.name.clone(), outcome.servers.iter().map(bar).collect())
    };
    Bars {
        y: if ratio {
            "ratio".to_owned()
        } else {
            "requests/s".to_owned()
        },
        series: outcome.servers.clone(),
        groups: scenarios.iter().map(group).collect(),
    }
}

fn table(out: &mut String, figures: Figures, scenario: &Scenario) {
    out.push_str("<table><tr><th>server<th>ratio of rates<th>the same by CPU<th>ratio of p99.9");
    for metric in METRICS {
        let _ = write!(out, "<th>{}", metric.name);
    }
    out.push_str("<th>remarks</tr>");
    for server in &figures.0.servers {
        if figures.samples(&scenario.name, server).next().is_none() {
            continue;
        }
        let _ = write!(out, "<tr><td>{}", escaped(server));
        let ratios = [
            figures.ratio(&scenario.name, server, Metric::RATE),
            figures.ratio_by_cpu(&scenario.name, server),
            figures.ratio(&scenario.name, server, Metric::P99_9),
        ];
        for ratio in ratios {
            let text = ratio.map_or_else(
                || "–".to_owned(),
                |spread| format!("{:.2} ({:.2} … {:.2})", spread.median, spread.min, spread.max),
            );
            let _ = write!(out, "<td>{text}");
        }
        for metric in METRICS {
            let spread = figures.spread(&scenario.name, server, metric);
            let text = spread.map_or_else(|| "–".to_owned(), |spread| digits(spread.median));
            let _ = write!(out, "<td>{text}");
        }
        let _ = write!(out, "<td>{}</tr>", remarks(figures, scenario, server));
    }
    out.push_str("</table>");
}

/// Latency by quantile of each server's median round: x is 1 / (1 - quantile), so that each nine is as wide.
fn latencies(figures: Figures, scenario: &Scenario) -> Lines {
    let series = figures.0.servers.iter().filter_map(|server| {
        let sample: &Sample = figures.middle(&scenario.name, server)?;
        let points = sample.curve.iter().filter(|(quantile, _)| *quantile <= 0.99995);
        Some(Series {
            name: server.clone(),
            points: points
                .map(|(quantile, micros)| (1.0 / (1.0 - quantile), *micros))
                .collect(),
        })
    });
    let ticks = [
        (1.0, "0"),
        (2.0, "p50"),
        (10.0, "p90"),
        (100.0, "p99"),
        (1e3, "p99.9"),
        (1e4, "p99.99"),
    ];
    Lines {
        x: "quantile".to_owned(),
        y: "latency µs".to_owned(),
        log_x: true,
        log_y: true,
        ticks: ticks.map(|(at, name)| (at, name.to_owned())).to_vec(),
        series: series.collect(),
    }
}

/// The curves.
pub fn curves_html(head: &Head, points: &[Measured], remarks: &[String]) -> String {
    let mut out = open("Cost curves", head);
    for curve in CURVES {
        let of_curve: Vec<_> = points.iter().filter(|point| point.curve == curve.name).collect();
        if of_curve.is_empty() {
            continue;
        }
        let _ = write!(
            out,
            "<h2>{}</h2><p>{}</p>",
            escaped(curve.title),
            escaped(curve.about)
        );
        let cpu: fn(&Measured) -> f64 = |point| point.sample.cpu_us;
        let rate: fn(&Measured) -> f64 = |point| point.sample.per_s;
        let p99: fn(&Measured) -> f64 = |point| point.sample.p99_us;
        for (name, of) in [("CPU µs a request", cpu), ("requests/s", rate), ("p99 µs", p99)] {
            out.push_str(&lines(&curve, &of_curve, name, of).svg());
        }
    }
    list(&mut out, remarks);
    out + "</body></html>\n"
}

fn lines(curve: &Curve, points: &[&Measured], name: &str, of: fn(&Measured) -> f64) -> Lines {
    let mut series: Vec<Series> = Vec::new();
    for point in points {
        let place = (crate::num::fraction(point.x), of(point));
        match series.iter_mut().find(|series| series.name == point.series) {
            Some(series) => series.points.push(place),
            None => series.push(Series {
                name: point.series.clone(),
                points: vec![place],
            }),
        }
    }
    let ticks = curve
        .names
        .iter()
        .map(|(x, name)| (crate::num::fraction(*x), (*name).to_owned()));
    Lines {
        x: curve.x.to_owned(),
        y: name.to_owned(),
        log_x: curve.log_x,
        log_y: false,
        ticks: ticks.collect(),
        series,
    }
}
