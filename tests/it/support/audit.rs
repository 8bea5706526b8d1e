//! Checks admissions against the promise of a limit, from the client's side.

use std::time::{Duration, Instant};

/// One request that was let through: the decision fell between these two moments.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    pub sent: Instant,
    pub received: Instant,
}

/// The most admissions that fell, beyond doubt, into one rolling window: those that were sent after its beginning and
/// received before its end. A limit holds only if this is never above it. Slow answers can hide an excess, but never
/// make one up.
pub fn most_in_any_window(admissions: &[Admission], window: Duration) -> usize {
    let mut by_sent = admissions.to_vec();
    by_sent.sort_by_key(|admission| admission.sent);
    let in_window_from = |first: usize| {
        let start = by_sent[first].sent;
        let later = by_sent[first..]
            .iter()
            .take_while(|admission| admission.sent < start + window);
        later
            .filter(|admission| admission.received < start + window)
            .count()
    };
    // The fullest window can always be moved to begin with an admission.
    (0..by_sent.len()).map(in_window_from).max().unwrap_or(0)
}

#[test]
fn the_audit_counts_what_lies_inside_a_window_and_nothing_else() {
    let start = Instant::now();
    let at = |sent_ms, received_ms| Admission {
        sent: start + Duration::from_millis(sent_ms),
        received: start + Duration::from_millis(received_ms),
    };
    let window = Duration::from_millis(1_000);
    assert_eq!(most_in_any_window(&[], window), 0);
    // Across the boundary of an aligned window.
    assert_eq!(
        most_in_any_window(&[at(900, 910), at(1_000, 1_010), at(1_890, 1_899)], window),
        3
    );
    // The third may have been decided after the window.
    assert_eq!(
        most_in_any_window(&[at(0, 10), at(500, 510), at(990, 1_000)], window),
        2
    );
    // The first may have been decided before it.
    assert_eq!(
        most_in_any_window(&[at(0, 600), at(500, 510), at(1_100, 1_110)], window),
        2
    );
}
