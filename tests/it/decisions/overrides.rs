//! Limits that come with the request.

use ratekeeper::descriptor::{Bounds, LimitOverride, Unit};
use ratekeeper::telemetry::Transport;
use ratekeeper::wire::convert;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

use super::*;

fn limit(requests_per_unit: u32, unit: Unit) -> LimitOverride {
    LimitOverride {
        requests_per_unit,
        unit: Some(unit),
        unit_multiplier: 1,
    }
}

/// One hit of `ten` for a user, under an override.
fn with(service: &Deciding, limit: LimitOverride) -> Row {
    row(&decide(service, &[descriptor(&["user=u"]).limit(limit)]))
}

const USERS: &str = "
domain: d
descriptors:
  - {key: user, rate_limit: {unit: hour, requests_per_unit: 3, name: rule}}
  - {key: file, value: '*', share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 1}}
";

#[test]
fn an_overrides_number_is_not_part_of_its_counter_and_its_window_is() {
    let service = Deciding::new(&[USERS]);
    assert_eq!(with(&service, limit(5, Unit::Hour)), (false, vec![(OK, 4)]));
    assert_eq!(with(&service, limit(10, Unit::Hour)), (false, vec![(OK, 8)]));
    assert_eq!(with(&service, limit(2, Unit::Hour)), (true, vec![(OVER, 0)]));
    assert_eq!(with(&service, limit(0, Unit::Hour)), (true, vec![(OVER, 0)]));
    assert_eq!(
        with(&service, limit(5, Unit::Minute)),
        (false, vec![(OK, 4)]),
        "another window, another counter"
    );
    let sixty = LimitOverride {
        unit_multiplier: 60,
        ..limit(9, Unit::Minute)
    };
    assert_eq!(
        with(&service, sixty),
        (false, vec![(OK, 6)]),
        "60 minutes are an hour"
    );
    // The rule of the same window counts on it, too.
    assert_eq!(
        row(&decide(&service, &[descriptor(&["user=u"])])),
        (true, vec![(OVER, 0)])
    );
    assert_eq!(with(&service, limit(10, Unit::Hour)), (false, vec![(OK, 6)]));
    let other = descriptor(&["user=other"]).limit(limit(10, Unit::Hour));
    assert_eq!(row(&decide(&service, &[other])), (false, vec![(OK, 9)]));
}

#[test]
fn an_override_takes_the_rules_place_and_never_a_shared_pattern() {
    let service = Deciding::new(&[USERS]);
    let answer = decide(&service, &[descriptor(&["user=u"]).limit(limit(7, Unit::Day))]);
    let shown = answer.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!(
        (shown.requests_per_unit, shown.unit, shown.name.as_deref()),
        (7, Unit::Day, None)
    );
    assert_eq!(shown.unit_multiplier, None);
    let five = LimitOverride {
        unit_multiplier: 5,
        ..limit(7, Unit::Minute)
    };
    let answer = decide(&service, &[descriptor(&["nothing=like it"]).limit(five)]);
    assert_eq!(
        answer.statuses[0].current_limit.as_ref().unwrap().unit_multiplier,
        Some(5)
    );

    assert!(!decide(&service, &[descriptor(&["file=a"])]).denied);
    let own = |name: &str| descriptor(&[name]).limit(limit(1, Unit::Hour));
    assert!(!decide(&service, &[own("file=a")]).denied && !decide(&service, &[own("file=b")]).denied);
    assert!(decide(&service, &[own("file=b")]).denied);
    assert!(
        decide(&service, &[descriptor(&["file=b"])]).denied,
        "the shared counter is still full"
    );
}

/// The reference server ended its process on such a request.
#[test]
fn bug_5_1_override_with_unknown_unit() {
    let service = Deciding::new(&[USERS]);
    let ask = |unit: i32, unit_multiplier: Option<u32>| {
        let entry = Entry {
            key: "user".to_owned(),
            value: "u".to_owned(),
        };
        let limit = RateLimitOverride {
            requests_per_unit: 1_000,
            unit,
            unit_multiplier,
        };
        let descriptors = vec![RateLimitDescriptor {
            entries: vec![entry],
            limit: Some(limit),
            ..RateLimitDescriptor::default()
        }];
        let message = RateLimitRequest {
            domain: "d".to_owned(),
            descriptors,
            hits_addend: 0,
        };
        let request = convert::request(&message, &Bounds::default()).unwrap();
        service.decide(&request, Transport::Grpc).unwrap()
    };
    let ignored = |service: &Deciding| metric(service, "ratekeeper_overrides_ignored_total", "");
    // Unknown, undefined numbers, and windows above 100 years: the configured limit holds.
    let bad = [
        (0, None),
        (99, None),
        (i32::MAX, None),
        (i32::MIN, Some(0)),
        (6, Some(101)),
        (1, Some(u32::MAX)),
    ];
    for (at, (unit, multiplier)) in bad.into_iter().enumerate() {
        let answer = ask(unit, multiplier);
        let limit = answer.statuses[0].current_limit.as_ref().unwrap();
        assert_eq!(
            (limit.name.as_deref(), limit.requests_per_unit),
            (Some("rule"), 3),
            "unit {unit} × {multiplier:?}"
        );
        assert_eq!(answer.denied, at >= 3, "the rule's own limit of 3");
        assert_eq!(ignored(&service), at as u64 + 1);
    }
    let answer = ask(6, Some(100));
    assert_eq!(
        answer.statuses[0]
            .current_limit
            .as_ref()
            .unwrap()
            .requests_per_unit,
        1_000,
        "100 years are allowed"
    );
    assert_eq!(ignored(&service), bad.len() as u64);
    // Without a rule there is no limit.
    let none = LimitOverride {
        requests_per_unit: 0,
        unit: None,
        unit_multiplier: 1,
    };
    let answer = decide(&service, &[descriptor(&["nobody=x"]).limit(none)]);
    assert_eq!(row(&answer), (false, vec![(OK, 0)]));
    assert!(answer.statuses[0].current_limit.is_none());
}

#[test]
fn an_override_is_bound_by_no_mode_of_the_rule() {
    let service = Deciding::new(&[POLICY]);
    let asked = |name: &str| [descriptor(&[name]).limit(limit(1, Unit::Day))];
    for name in ["shadow1", "quota1", "open"] {
        assert!(!decide(&service, &asked(name)).denied);
        assert_eq!(
            row(&decide(&service, &asked(name))),
            (true, vec![(OVER, 0)]),
            "{name}"
        );
    }
}
