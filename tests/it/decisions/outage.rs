//! Decisions of an instance whose store is away: what each limit does, and what its metrics are told.

use std::sync::Arc;

use ratekeeper::store::guard::{Instances, Share};
use ratekeeper::store::{Batch, Step, Store};

use super::*;

/// A store that is away: everything is decided on this instance's share, one of four.
#[derive(Debug)]
struct Away {
    share: Share,
    /// It was asked and did not answer.
    was_asked: bool,
}

impl Store for Away {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        self.share.decide(batch, self.was_asked);
        Step::Done
    }

    fn describe(&self) -> String {
        "away".to_owned()
    }
}

fn away(files: &[&str]) -> Deciding {
    away_after(files, false)
}

fn away_after(files: &[&str], was_asked: bool) -> Deciding {
    let share = Share::new(1_000, Arc::new(Instances::set_to(4)));
    Deciding::with_store(files, options(), Arc::new(Away { share, was_asked }))
}

const STRICT: &str = "
domain: d
strict: true
descriptors:
  - {key: strict, rate_limit: {unit: hour, requests_per_unit: 9}}
  - {key: strict, value: shadow, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 9}}
  - {key: strict, value: quota, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 9}}
  - {key: deny, rate_limit: {unit: hour, requests_per_unit: 9, on_store_error: deny}}
  - {key: allow, rate_limit: {unit: hour, requests_per_unit: 9, on_store_error: allow}}
  - {key: quota, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 9, on_store_error: allow}}
  - {key: share, rate_limit: {unit: hour, requests_per_unit: 9, strict: false}}
  - {key: here, rate_limit: {unit: hour, requests_per_unit: 9, scope: local}}
  - {key: free, rate_limit: {unlimited: true}}
";

#[test]
fn a_strict_limit_denies_as_deny_does_and_its_file_is_no_law_for_the_others() {
    let service = away(&[STRICT]);
    for key in ["strict", "deny"] {
        assert_eq!(
            row(&decide(&service, &asks(&[key]))),
            (true, vec![(OVER, 0)]),
            "{key}"
        );
        // A look and a cost are denied, too; what is given back is not.
        for hits in [0, 3] {
            assert!(
                decide(&service, &[descriptor(&[key]).hits(hits)]).denied,
                "{key} {hits}"
            );
        }
        assert!(!decide(&service, &[descriptor(&[key]).refund(3)]).denied, "{key}");
    }
    for (key, left) in [("allow", 9), ("share", 1), ("here", 8), ("free", u32::MAX)] {
        assert_eq!(
            row(&decide(&service, &asks(&[key]))),
            (false, vec![(OK, left)]),
            "{key}"
        );
    }
    // All of a request or nothing of it: the share of 2 still has the one that is left.
    assert!(decide(&service, &asks(&["share", "strict"])).denied);
    assert_eq!(left(&service, "share"), 1);
}

#[test]
fn a_refund_that_the_store_may_have_booked_makes_no_room_on_the_share_as_well() {
    for (was_asked, after) in [(false, 2), (true, 1)] {
        let service = away_after(&[STRICT], was_asked);
        assert!(!decide(&service, &asks(&["share"])).denied);
        assert_eq!(left(&service, "share"), 1);
        let answer = decide(&service, &[descriptor(&["share"]).refund(1)]);
        assert!(!answer.denied, "{was_asked}");
        assert_eq!(left(&service, "share"), after, "{was_asked}");
    }
}

#[test]
fn a_strict_limit_in_shadow_stops_nothing_and_a_quota_denies_only_with_the_others() {
    let service = away(&[STRICT]);
    assert!(!decide(&service, &[descriptor(&["strict=shadow"])]).denied);
    let quota = || descriptor(&["strict=quota"]);
    assert!(decide(&service, &[quota()]).denied);
    assert!(!decide(&service, &[quota(), descriptor(&["quota"])]).denied);
}

/// A share of 10 of 40: near its limit above 8, not above 32.
#[test]
fn near_the_limit_is_near_the_share_while_counted_on_one() {
    let policy = "
domain: d
descriptors:
  - {key: rolling, rate_limit: {unit: hour, requests_per_unit: 40}}
  - {key: aligned, rate_limit: {unit: hour, requests_per_unit: 40, algorithm: fixed_window}}
  - {key: bucket, rate_limit: {unit: hour, requests_per_unit: 4, burst: 40, algorithm: token_bucket}}
  - {key: cost, rate_limit: {unit: hour, requests_per_unit: 40, charge: always}}
  - {key: few, rate_limit: {unit: hour, requests_per_unit: 3}}
";
    let service = away(&[policy]);
    let all = |limit: &str| {
        ["over_limit", "near_limit", "within_limit"].map(|kind| {
            let name = format!("ratekeeper_limit_{kind}_hits_total");
            metric(&service, &name, &format!("{{domain=\"d\",limit=\"{limit}\"}}"))
        })
    };
    for key in ["rolling", "aligned", "bucket"] {
        for _ in 0..8 {
            let _ = decide(&service, &asks(&[key]));
        }
        assert_eq!(all(key), [0, 0, 8], "{key}");
        for _ in 0..5 {
            let _ = decide(&service, &asks(&[key]));
        }
        assert_eq!(all(key), [3, 2, 10], "{key}");
    }
    let _ = decide(&service, &asks(&["cost*13"]));
    assert_eq!(
        all("cost"),
        [3, 2, 0],
        "10 of 13 fitted, 2 of them near the limit"
    );
    let _ = decide(&service, &asks(&["few"]));
    assert_eq!(all("few"), [1, 0, 0], "a share of nothing");
}
