//! Runs against servers that behave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::encoding::{Request, decode};
use crate::stub::{Answer, Stub};
use crate::support::load;

#[test]
fn closed_loop_counts_what_the_server_saw() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let stub = Stub::start(move |_| {
        if counter.fetch_add(1, Ordering::Relaxed).is_multiple_of(4) {
            Answer::OverLimit
        } else {
            Answer::Ok
        }
    });
    let line = "--duration 1s --threads 2 --connections 3 --in-flight 8";
    let report = load(&[&stub], line);
    let counts = &report.totals.counts;
    assert_eq!(counts.sent(), seen.load(Ordering::Relaxed));
    assert_eq!(counts.errors + counts.unanswered, 0, "{counts:?}");
    assert!(
        counts.over_limit * 3 <= counts.ok + 3 && counts.over_limit > 0,
        "{counts:?}"
    );
    assert_eq!(report.connections.opened, 3);
    assert_eq!(report.latency["decided"].count, counts.sent());
    assert_eq!(report.latency["ok"].count, counts.ok);
    let in_series: u64 = report.series.iter().map(|row| row.counts.sent()).sum();
    assert_eq!(in_series, counts.sent());
    assert!(report.generator.cpu_us_per_request > 0.0);
}

#[test]
fn requests_say_what_the_options_say() {
    let stub = Stub::start(|message| {
        let request: Request = decode(message);
        let values: Vec<_> = request
            .descriptors
            .iter()
            .flat_map(|each| &each.entries)
            .collect();
        let number = values[0]
            .value
            .strip_prefix("user-")
            .and_then(|key| key.parse::<u32>().ok());
        let as_asked = request.domain == "d"
            && request.descriptors.len() == 2
            && number.is_some_and(|key| key < 50)
            && values[1].value == "GET"
            && values[2].value == format!("{:04}", number.unwrap_or(0))
            && (2..=3).contains(&request.hits_addend);
        if as_asked { Answer::Ok } else { Answer::Status(3) }
    });
    let line = "--duration 300ms --domain d --descriptor id=user-{key},method=GET --descriptor id={key:4} \
                --weights 2-3 --keys 50 --distribution zipf:1.1";
    let counts = load(&[&stub], line).totals.counts;
    assert!(counts.ok > 100 && counts.errors == 0, "{counts:?}");
}

#[test]
fn open_loop_keeps_its_rate() {
    let stub = Stub::start(|_| Answer::Ok);
    for (arrivals, off) in [("uniform", 2.0), ("poisson", 250.0)] {
        let line = format!("--duration 2s --warmup 500ms --threads 2 --rate 2000 --arrivals {arrivals}");
        let totals = load(&[&stub], &line).totals;
        let due = totals.sent + totals.unsent;
        assert!(
            (f64::from(u32::try_from(due).expect("few")) - 4_000.0).abs() <= off,
            "{totals:?}"
        );
        assert_eq!(totals.counts.ok, totals.sent, "{totals:?}");
    }
}

#[test]
fn open_loop_does_not_hide_a_stall() {
    // A server that thinks for 300 ms once: everything due meanwhile waits, and must say so.
    let seen = AtomicU64::new(0);
    let stub = Stub::start(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed) == 200 {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        Answer::Ok
    });
    let line = "--duration 1s --rate 1000 --arrivals uniform --connections 1 --in-flight 1";
    let report = load(&[&stub], line);
    let latency = report.latency["decided"];
    // 300 of 1,000 requests were due in the stall; half of those waited for more than 150 ms.
    assert!(latency.p90_us > 100_000.0, "{latency:?}");
    assert!(report.totals.late > 200, "{:?}", report.totals);
}

#[test]
fn several_targets_take_turns() {
    let seen = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
    let servers = seen.clone().map(|counter| {
        Stub::start(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Answer::Ok
        })
    });
    load(
        &[&servers[0], &servers[1]],
        "--duration 500ms --rate 2000 --arrivals uniform",
    );
    let [one, other] = seen.map(|counter| counter.load(Ordering::Relaxed));
    // What is due at once goes to one of them: after a standstill some dozens do.
    assert!(one > 400 && other > 400, "{one} and {other}");
}
