//! The audit of a run: all keys, the broken windows, how much of the limits was used.

use serde::Serialize;

use super::{Admission, History, KeyLimit, Limits, fullest_window};
use crate::clock::Nanos;
use crate::num;

/// At most so many keys are listed, the fullest first.
const LISTED_MAX: usize = 1_000;

/// What the audit found.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    /// Keys with a limit that were asked for.
    pub keys: u64,
    /// Admissions of those keys.
    pub admissions: u64,
    /// Their hits.
    pub admitted_hits: u64,
    /// Admissions of keys without a limit: not looked at.
    pub unlimited_admissions: u64,
    /// Admissions that were too many to keep: above 0 the audit proves nothing.
    pub forgotten_admissions: u64,
    /// Keys of which some window held more than its limit.
    pub broken_keys: u64,
    /// Admitted hits / (L · T / W), summed over the audited keys, starved ones included. A fresh limiter can be above 1 if T is not a multiple
    /// of W, and is always if W is longer than T.
    pub utilisation: f64,
    /// Admitted hits / (L · ⌈T / W⌉): the most that a strict limiter can admit, whatever W is.
    pub utilisation_of_possible: f64,
    /// The audited keys, the fullest window first.
    pub listed: Vec<KeyReport>,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KeyReport {
    /// Its number.
    pub key: u32,
    /// Its limit and window.
    #[serde(flatten)]
    pub limit: KeyLimit,
    /// Hits that were admitted over the run.
    pub admitted_hits: u64,
    /// Admitted hits / (L · T / W).
    pub utilisation: f64,
    /// Hits that its fullest window held, at least.
    pub fullest_hits: u64,
    /// When that window began, in seconds since the start.
    pub fullest_begin_s: f64,
    /// Whether that is more than the limit.
    pub broken: bool,
}

impl KeyReport {
    fn fullness(&self) -> f64 {
        num::fraction(self.fullest_hits) / num::fraction(self.limit.limit).max(0.5)
    }
}

impl AuditReport {
    /// Whether every window of every key held, and nothing was left out.
    pub fn passed(&self) -> bool {
        self.broken_keys == 0 && self.forgotten_admissions == 0
    }
}

/// Audits a run that sent from `start` on for `sending` nanoseconds.
pub fn audit(mut history: History, limits: &Limits, start: Nanos, sending: Nanos) -> AuditReport {
    let forgotten_admissions = history.forgotten();
    let keys: Vec<u32> = history.keys().collect();
    let mut rest = history.sorted();
    let mut listed = Vec::new();
    let (mut unlimited_admissions, mut broken_keys) = (0, 0);
    let (mut audited, mut hits, mut rated, mut possible) = (0, 0, 0.0, 0.0);
    for key in keys {
        let (of_key, later) = rest.split_at(rest.partition_point(|admission| admission.key <= key));
        rest = later;
        let Some(limit) = limits.of(key) else {
            unlimited_admissions += of_key.len() as u64;
            continue;
        };
        let report = key_report(key, of_key, limit, start, sending);
        let windows = num::fraction(sending) / num::fraction(limit.window_ns());
        rated += num::fraction(limit.limit) * windows;
        possible += num::fraction(limit.limit) * windows.ceil();
        audited += of_key.len() as u64;
        hits += report.admitted_hits;
        broken_keys += u64::from(report.broken);
        listed.push(report);
    }
    let keys = listed.len() as u64;
    listed.sort_by(|one, other| {
        other
            .fullness()
            .total_cmp(&one.fullness())
            .then(one.key.cmp(&other.key))
    });
    listed.truncate(LISTED_MAX);
    AuditReport {
        keys,
        admissions: audited,
        admitted_hits: hits,
        unlimited_admissions,
        forgotten_admissions,
        broken_keys,
        utilisation: num::rounded(num::ratio(num::fraction(hits), rated), 4),
        utilisation_of_possible: num::rounded(num::ratio(num::fraction(hits), possible), 4),
        listed,
    }
}

fn key_report(
    key: u32,
    admissions: &[Admission],
    limit: KeyLimit,
    start: Nanos,
    sending: Nanos,
) -> KeyReport {
    let fullest = fullest_window(admissions, limit.window_ns());
    let admitted_hits = admissions.iter().map(|admission| u64::from(admission.hits)).sum();
    let windows = num::fraction(sending) / num::fraction(limit.window_ns());
    let rated = num::fraction(limit.limit) * windows;
    KeyReport {
        key,
        limit,
        admitted_hits,
        utilisation: num::rounded(num::ratio(num::fraction(admitted_hits), rated), 4),
        fullest_hits: fullest.hits,
        fullest_begin_s: num::rounded(num::seconds(fullest.begin.saturating_sub(start)), 6),
        broken: fullest.hits > limit.limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;

    /// `count` admissions of a key at the second `at`.
    fn burst(key: u32, at: u64, count: u64) -> impl Iterator<Item = Admission> {
        let begin = at * SECOND_NS;
        (0..count).map(move |index| Admission {
            key,
            hits: 1,
            begin: begin + index,
            end: begin + index + 50,
        })
    }

    fn limits() -> Limits {
        let json = r#"{"0": {"limit": 5, "window": 1}, "1": {"limit": 10, "window": 2}}"#;
        Limits::default().with_file(json).expect("valid")
    }

    #[test]
    fn a_history_that_holds() {
        let history = burst(1, 2, 10)
            .chain(burst(0, 1, 5))
            .chain(burst(0, 3, 5))
            .chain(burst(7, 1, 99));
        let report = audit(history.collect(), &limits(), SECOND_NS, 4 * SECOND_NS);
        assert!(report.passed(), "{report:?}");
        assert_eq!(
            (report.keys, report.admissions, report.admitted_hits),
            (2, 20, 20)
        );
        assert_eq!(report.unlimited_admissions, 99);
        assert!((report.utilisation - 20.0 / 40.0).abs() < 1e-9);
        assert_eq!(
            report
                .listed
                .iter()
                .map(|key| key.fullest_hits)
                .collect::<Vec<_>>(),
            [5, 10]
        );
    }

    #[test]
    fn one_hit_too_many_is_found() {
        // Five at the end of a second and one at the beginning of the next: a fixed window would let them through.
        let late = burst(0, 1, 5).map(|each| Admission {
            begin: each.begin + 900_000_000,
            end: each.end + 900_000_000,
            ..each
        });
        let history = late.chain(burst(0, 2, 1)).chain(burst(1, 1, 10));
        let report = audit(history.collect(), &limits(), 0, 4 * SECOND_NS);
        assert!(!report.passed());
        assert_eq!(report.broken_keys, 1);
        let worst = report.listed[0];
        assert_eq!((worst.key, worst.fullest_hits, worst.broken), (0, 6, true));
        assert!((worst.fullest_begin_s - 1.9).abs() < 1e-6);
    }

    #[test]
    fn a_starved_key_counts() {
        let mut history: History = burst(0, 1, 5).collect();
        history.ask(1);
        let report = audit(history, &limits(), SECOND_NS, 2 * SECOND_NS);
        assert_eq!((report.keys, report.listed[1].admitted_hits), (2, 0));
        assert!((report.utilisation - 5.0 / 20.0).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn windows_longer_than_the_run() {
        let limits = Limits::uniform(KeyLimit {
            limit: 10,
            window: 60.0,
        })
        .expect("valid");
        let report = audit(burst(0, 1, 10).collect(), &limits, SECOND_NS, 10 * SECOND_NS);
        assert!((report.utilisation - 6.0).abs() < 1e-9);
        assert!((report.utilisation_of_possible - 1.0).abs() < 1e-9);
    }
}
