//! Audits of limiters that keep their promise, and of some that don't.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::encoding::{Request, decode};
use crate::stub::{Answer, Stub};
use crate::support::load;

/// A log of charges by key: exact in any rolling window if it is given the right limit and window.
fn window_log(limit: u32, window: Duration) -> impl Fn(&[u8]) -> Answer + Send + Sync + 'static {
    let logs = Mutex::new(HashMap::<String, Vec<(Instant, u32)>>::new());
    move |message| {
        let request: Request = decode(message);
        let hits = request.hits_addend.max(1);
        let value = request.descriptors[0].entries[0].value.clone();
        let mut logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let log = logs.entry(value).or_default();
        log.retain(|(at, _)| now.duration_since(*at) < window);
        if log.iter().map(|(_, hits)| hits).sum::<u32>() + hits > limit {
            return Answer::OverLimit;
        }
        log.push((now, hits));
        Answer::Ok
    }
}

const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn a_strict_limiter_passes_and_is_used_up() {
    let stub = Stub::start(window_log(20, WINDOW));
    let report = load(
        &[&stub],
        "--duration 2s --keys 5 --in-flight 4 --audit --limit 20 --window 0.5",
    );
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let audit = report.audit.expect("asked for");
    assert_eq!((audit.keys, audit.broken_keys), (5, 0));
    assert!((0.9..=1.0).contains(&audit.utilisation_of_possible), "{audit:?}");
    assert!(audit.listed.iter().all(|key| key.fullest_hits <= 20), "{audit:?}");
    assert_eq!(audit.admissions, report.totals.counts.ok);
    assert!(report.totals.counts.over_limit > 0);
}

#[test]
fn weights_count_as_hits() {
    let stub = Stub::start(window_log(50, WINDOW));
    let line = "--duration 1s --distribution one --weights 1-9 --audit --limit 50 --window 0.5";
    let audit = load(&[&stub], line).audit.expect("asked for");
    assert_eq!(audit.broken_keys, 0, "{audit:?}");
    assert!(audit.admitted_hits > audit.admissions, "{audit:?}");
    assert!(audit.listed[0].fullest_hits > 40, "{audit:?}");
}

#[test]
fn two_instances_that_do_not_share_a_count_are_found_out() {
    let (one, other) = (
        Stub::start(window_log(20, WINDOW)),
        Stub::start(window_log(20, WINDOW)),
    );
    let report = load(
        &[&one, &other],
        "--duration 1s --keys 2 --audit --limit 20 --window 0.5",
    );
    let audit = report.audit.expect("asked for");
    assert_eq!(audit.broken_keys, 2, "{audit:?}");
    assert!(audit.listed[0].fullest_hits > 30, "{audit:?}");
    assert_eq!(report.failures.len(), 1);
}

#[test]
fn one_hit_too_many_is_enough() {
    let stub = Stub::start(window_log(21, WINDOW));
    let report = load(&[&stub], "--duration 1s --keys 2 --audit --limit 20 --window 0.5");
    let audit = report.audit.expect("asked for");
    assert_eq!(audit.broken_keys, 2, "{audit:?}");
    assert_eq!(audit.listed[0].fullest_hits, 21, "{audit:?}");
}

#[test]
fn a_window_that_is_a_tenth_too_short_is_found_out() {
    let stub = Stub::start(window_log(20, Duration::from_millis(450)));
    let report = load(
        &[&stub],
        "--duration 2s --distribution one --audit --limit 20 --window 0.5",
    );
    assert_eq!(report.audit.map(|audit| audit.broken_keys), Some(1));
}

#[test]
fn the_warm_up_is_audited_too() {
    let stub = Stub::start(window_log(20, Duration::from_secs(60)));
    let line = "--warmup 500ms --duration 500ms --distribution one --audit --limit 20 --window 60";
    let report = load(&[&stub], line);
    assert_eq!(report.totals.counts.ok, 0);
    assert_eq!(report.audit.map(|audit| audit.admitted_hits), Some(20));
}
