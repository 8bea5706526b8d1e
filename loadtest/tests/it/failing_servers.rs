//! Runs against servers that don't behave: nothing is lost from the counts, and every run ends in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::stub::{Answer, Stub};
use crate::support::load;

/// Every `nth` request gets the answer, the others OK.
fn every(nth: u64, answer: Answer) -> Stub {
    let seen = AtomicU64::new(0);
    Stub::start(move |_| {
        if seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(nth) {
            answer
        } else {
            Answer::Ok
        }
    })
}

#[test]
fn errors_are_counted_by_their_status() {
    for (answer, cause) in [
        (Answer::Status(14), "UNAVAILABLE"),
        (Answer::Status(3), "INVALID_ARGUMENT"),
        (Answer::Malformed, "malformed answer"),
    ] {
        let report = load(&[&every(2, answer)], "--duration 300ms --fail-on-error");
        let counts = &report.totals.counts;
        assert!(
            counts.errors > 10 && counts.ok.abs_diff(counts.errors) <= 1,
            "{counts:?}"
        );
        assert_eq!(counts.causes[cause], counts.errors, "{counts:?}");
        assert_eq!((counts.unanswered, report.failures.len()), (0, 1));
        assert_eq!(report.latency["decided"].count, counts.ok);
    }
}

#[test]
fn silence_is_unanswered_and_bounded() {
    let stub = Stub::start(|_| Answer::Silence);
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    let line = "--duration 1s --rate 500 --arrivals uniform --grpc-timeout 20ms --fail-on-error";
    let report = load(&[&stub], line);
    let took = begun.elapsed();
    let totals = &report.totals;
    // Unsent only if the machine itself stood still for 20 ms.
    assert_eq!(totals.counts.unanswered + totals.unsent, 500, "{totals:?}");
    assert!(totals.unsent < 100, "{totals:?}");
    assert_eq!(totals.counts.causes["timeout"], totals.sent);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.connections.lost, 0, "{:?}", report.connections);
}

#[test]
fn what_can_not_be_sent_is_unsent() {
    let stub = Stub::start(|_| Answer::Silence);
    let line =
        "--duration 1s --rate 1000 --arrivals uniform --connections 1 --in-flight 2 --give-up-after 100ms";
    let totals = load(&[&stub], line).totals;
    // Two at a time for 100 ms each: some 20 in a second.
    assert!((16..=24).contains(&totals.counts.unanswered), "{totals:?}");
    assert_eq!(totals.sent + totals.unsent, 1_000, "{totals:?}");
}

#[test]
fn closed_loop_ends_although_nothing_comes_back() {
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    let stub = Stub::start(|_| Answer::Silence);
    let counts = load(&[&stub], "--duration 500ms --in-flight 3 --connections 2")
        .totals
        .counts;
    assert_eq!((counts.unanswered, counts.sent()), (6, 6), "{counts:?}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn lost_connections_are_opened_again() {
    let stub = every(100, Answer::HangUp);
    let report = load(&[&stub], "--duration 1s --connections 2 --in-flight 4 --seed 5");
    let (links, counts) = (report.connections, &report.totals.counts);
    assert!(links.lost >= 4 && links.opened >= links.lost, "{links:?}");
    assert!(counts.ok > 400, "{counts:?}");
    assert_eq!(counts.causes["connection lost"], counts.unanswered, "{counts:?}");
    assert!(counts.unanswered >= links.lost, "{counts:?}");
}

#[test]
fn refused_requests_are_sent_again() {
    let report = load(&[&every(10, Answer::Refuse)], "--duration 300ms");
    let totals = &report.totals;
    assert!(totals.resent > 10, "{totals:?}");
    assert_eq!(totals.counts.ok, totals.sent, "{totals:?}");
    let always = load(&[&Stub::start(|_| Answer::Refuse)], "--duration 300ms").totals;
    assert_eq!(always.counts.causes["stream reset"], always.sent, "{always:?}");
}
