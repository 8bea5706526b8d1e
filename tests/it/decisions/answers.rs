//! What an answer carries beside its statuses, and what the metrics say.

use serde_json::{Value, json};

use ratekeeper::descriptor::{LimitOverride, Unit};

use super::*;
use crate::asking::with_headers;

fn headers(answer: &Answer) -> Vec<(&str, &str)> {
    answer
        .response_headers
        .iter()
        .map(|it| (&*it.name, it.value.as_str()))
        .collect()
}

fn numbers<'a>(limit: &'a str, left: &'a str, reset: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("limit", limit), ("left", left), ("reset", reset)]
}

#[test]
fn limit_headers_show_the_last_limit_that_denied_else_the_nearest() {
    let service = Deciding::with(&[POLICY], with_headers());
    let shown = |names: &[&str]| decide(&service, &asks(names));
    assert!(
        headers(&shown(&["open", "none"])).is_empty(),
        "no limit, no headers"
    );
    assert_eq!(
        headers(&shown(&["ten", "quota2", "two", "open"])),
        numbers("2", "1", "3600")
    );
    assert_eq!(headers(&shown(&["ten", "one", "ten"])), numbers("1", "0", "3600"));
    advance(&service, SECOND);
    assert_eq!(
        headers(&shown(&["zero", "one", "ten"])),
        numbers("1", "0", "3599")
    );
    assert_eq!(
        headers(&shown(&["one", "zero", "shadow1"])),
        numbers("0", "0", "3600")
    );
}

/// A quota limit that is over has not denied a request that another one lets through.
#[test]
fn limit_headers_of_an_allowed_request_show_the_least_left() {
    let service = Deciding::with(&[POLICY], with_headers());
    assert_eq!(
        headers(&decide(&service, &asks(&["one", "quota1"]))),
        numbers("1", "0", "3600")
    );
    advance(&service, 60 * SECOND);
    let answer = decide(&service, &asks(&["two", "quota1", "quota2"]));
    assert_eq!(row(&answer), (false, vec![(OK, 1), (OVER, 0), (OK, 1)]));
    assert_eq!(headers(&answer), numbers("1", "0", "3540"));
    let answer = decide(&service, &asks(&["shadow1", "quota1", "quota2"]));
    assert_eq!(row(&answer), (false, vec![(OK, 0), (OVER, 0), (OK, 0)]));
    assert_eq!(
        headers(&answer),
        numbers("1", "0", "3600"),
        "the first of those with nothing left, not the one over"
    );
}

#[test]
fn a_denied_answer_says_when_to_come_again() {
    let body = Options {
        retry_after: true,
        denied_body: "{\"error\": \"slow down\"}".to_owned(),
        denied_body_is_json: true,
        ..options()
    };
    let service = Deciding::with(&[POLICY], body);
    let answer = decide(&service, &asks(&["one", "two"]));
    assert!(
        answer.response_headers.is_empty() && answer.denied_body.is_empty(),
        "allowed: nothing of it"
    );
    advance(&service, 600 * SECOND);
    assert!(!decide(&service, &asks(&["two"])).denied);
    advance(&service, 1);
    let answer = decide(&service, &asks(&["one", "two", "ten"]));
    assert_eq!(
        headers(&answer),
        [("retry-after", "3000"), ("content-type", "application/json")]
    );
    assert_eq!(answer.denied_body, "{\"error\": \"slow down\"}");
    let answer = decide(&service, &asks(&["one", "two*2"]));
    assert_eq!(
        headers(&answer)[0],
        ("retry-after", "3600"),
        "the longest of the waits"
    );
    let plain = Options {
        denied_body: "no".to_owned(),
        ..options()
    };
    let service = Deciding::with(&[POLICY], plain);
    let answer = decide(&service, &asks(&["zero"]));
    assert!(answer.response_headers.is_empty());
    assert_eq!(answer.denied_body, "no");
}

const METADATA: &str = "
domain: d
descriptors:
  - {key: a, rate_limit: {unit: hour, requests_per_unit: 9}, metadata: {tier: gold, deep: {x: 1, list: [1]}}}
  - {key: b, rate_limit: {unit: hour, requests_per_unit: 9}, value_to_metric: true, metadata: {tier: iron, deep: {x: 2, up: {z: 3}, list: [2]}, b: true}}
  - {key: c, rate_limit: {unit: hour, requests_per_unit: 0}, metadata: {c: 1}}
  - {key: s, shadow_mode: true, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 0}, metadata: {s: 1}}
";

fn metadata_of(answer: &Answer) -> Value {
    Value::Object(answer.dynamic_metadata.clone().unwrap())
}

#[test]
fn dynamic_metadata_has_the_references_shape() {
    let service = Deciding::with(
        &[METADATA],
        Options {
            dynamic_metadata: true,
            ..options()
        },
    );
    let limit = LimitOverride {
        requests_per_unit: 5,
        unit: Some(Unit::Minute),
        unit_multiplier: 1,
    };
    let asked = [
        descriptor(&["a=1", "z=="]),
        descriptor(&["b=2"]).hits(0),
        descriptor(&["o="]).limit(limit).hits(3),
    ];
    let expected = json!({
        "domain": "d",
        "hitsAddend": 2,
        "descriptors": [
            {"entries": ["a=1", "z=="]},
            {"entries": ["b=2"], "hitsAddend": 0},
            {"entries": ["o="], "hitsAddend": 3, "limit": "requests_per_unit:5 unit:MINUTE"},
        ],
        "metadata": {"tier": "iron", "deep": {"x": 2, "up": {"z": 3}, "list": [2]}, "b": true},
    });
    assert_eq!(metadata_of(&ask(&service, "d", 2, &asked).unwrap()), expected);
    // The denied one adds nothing, one in shadow mode has passed, and without anything there is no `metadata`.
    let answer = decide(&service, &asks(&["c", "s"]));
    assert!(answer.denied);
    let descriptors = json!([{"entries": ["c="]}, {"entries": ["s="]}]);
    assert_eq!(
        metadata_of(&answer),
        json!({"domain": "d", "descriptors": descriptors, "metadata": {"s": 1}})
    );
    let answer = decide(&service, &asks(&["c"]));
    assert_eq!(
        metadata_of(&answer),
        json!({"domain": "d", "descriptors": [{"entries": ["c="]}]})
    );
    let off = Deciding::with(&[METADATA], options());
    assert!(decide(&off, &asks(&["a"])).dynamic_metadata.is_none());
}

/// The reference server merged into the first rule's own data, and lost that of rules with `value_to_metric`.
#[test]
fn bug_5_27_merging_metadata_never_changes_a_rules_own() {
    let service = Deciding::with(
        &[METADATA],
        Options {
            dynamic_metadata: true,
            ..options()
        },
    );
    let alone = |key: &str| metadata_of(&decide(&service, &[descriptor(&[key]).hits(0)]))["metadata"].clone();
    let (a, b) = (alone("a"), alone("b"));
    for _ in 0..3 {
        let both = metadata_of(&decide(&service, &asks(&["a", "b"])));
        let merged = json!({"tier": "gold", "deep": {"x": 1, "list": [1], "up": {"z": 3}}, "b": true});
        assert_eq!(
            both["metadata"], merged,
            "the first scalar or list stays, maps are merged"
        );
        let other_way = metadata_of(&decide(&service, &asks(&["b", "a"])));
        assert_eq!(other_way["metadata"], b);
        assert_eq!((alone("a"), alone("b")), (a.clone(), b.clone()));
    }
}

fn hits(service: &Deciding, limit: &str) -> u64 {
    metric(
        service,
        "ratekeeper_limit_hits_total",
        &format!("{{domain=\"d\",limit=\"{limit}\"}}"),
    )
}

#[test]
fn metrics_are_named_by_rule_and_by_value_where_asked() {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 1000}";
    let service = Deciding::new(&[&format!(
        "
domain: d
descriptors:
  - {{key: plain, {limit}}}
  - {{key: exact, value: v, value_to_metric: true, {limit}}}
  - {{key: wild, value: 'w*', {limit}}}
  - {{key: valued, value_to_metric: true, {limit}}}
  - {{key: valuedwild, value: 'w*', value_to_metric: true, {limit}}}
  - {{key: shared, value: 's*', value_to_metric: true, detailed_metric: true, share_threshold: true, {limit}}}
  - key: outer
    value_to_metric: true
    descriptors:
      - {{key: inner, {limit}}}
      - {{key: detailed, detailed_metric: true, {limit}}}
      - {{key: shared, value: 's*', share_threshold: true, detailed_metric: true, {limit}}}
"
    )]);
    let table: [(&[&str], &str); 12] = [
        (&["plain=p"], "plain"),
        (&["exact=v"], "exact_v"),
        (&["wild=w1"], "wild_w*"),
        (&["valued=x"], "valued_x"),
        (&["valued="], "valued"),
        (&["valuedwild=w1"], "valuedwild_w1"),
        (&["shared=s1"], "shared_s*"),
        (&["shared=s2"], "shared_s*"),
        (&["outer=o", "inner=i"], "outer_o.inner"),
        (&["outer=o", "detailed=i"], "outer_o.detailed_i"),
        (&["outer=o", "shared=s1"], "outer_o.shared_s*"),
        (&["outer=", "inner=i"], "outer.inner"),
    ];
    for (entries, name) in table {
        let before = hits(&service, name);
        let _ = ask(&service, "d", 3, &[descriptor(entries)]).unwrap();
        assert_eq!(
            hits(&service, name),
            before + 3,
            "{entries:?} is not counted as {name}"
        );
    }
    let limit = LimitOverride {
        requests_per_unit: 5,
        unit: Some(Unit::Minute),
        unit_multiplier: 1,
    };
    let _ = decide(&service, &[descriptor(&["valued=attack"]).limit(limit)]);
    assert_eq!(hits(&service, "override"), 1, "overrides have one name");
}

#[test]
fn metrics_tell_over_near_within_and_shadow_hits_apart() {
    let service = Deciding::new(&[POLICY]);
    let of = |kind: &str, limit: &str| {
        metric(
            &service,
            &format!("ratekeeper_limit_{kind}_hits_total"),
            &format!("{{domain=\"d\",limit=\"{limit}\"}}"),
        )
    };
    let all = |limit: &str| {
        [
            "over_limit",
            "near_limit",
            "within_limit",
            "shadow_mode",
            "refunded",
        ]
        .map(|it| of(it, limit))
    };
    for _ in 0..12 {
        let _ = decide(&service, &asks(&["ten"]));
    }
    assert_eq!(all("ten"), [2, 2, 10, 0, 0], "near it above 8");
    let _ = decide(&service, &[descriptor(&["ten"]).refund(4)]);
    assert_eq!(all("ten"), [2, 2, 10, 0, 4]);
    for _ in 0..3 {
        let _ = decide(&service, &asks(&["shadow1"]));
    }
    assert_eq!(all("shadow1"), [2, 1, 1, 2, 0]);
    let _ = decide(&service, &asks(&["two*5"]));
    assert_eq!(
        all("two"),
        [3, 1, 0, 0, 0],
        "a record that went above: a part was near"
    );
    let code = |code: &str| {
        metric(
            &service,
            "ratekeeper_requests_total",
            &format!("{{transport=\"grpc\",code=\"{code}\"}}"),
        )
    };
    assert_eq!((code("ok"), code("over_limit")), (10 + 1 + 3, 2 + 1));
}

/// The reference server kept six counters for ever of each value that a client made up.
#[test]
fn bug_5_15_values_that_clients_make_up_do_not_add_series_without_bound() {
    let service = Deciding::new(&["
domain: d
descriptors: [{key: v, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 9}}]"]);
    let bound = ratekeeper::telemetry::TelemetryOptions::default().series_max as u64;
    let beyond = 250;
    for value in 0..bound + beyond {
        let _ = decide(&service, &[descriptor(&[&format!("v={value}")])]);
        if value % 1_000 == 0 {
            let _ = ask(&service, &format!("unknown{value}"), 0, &asks(&["v"])).unwrap();
        }
    }
    let page = service.telemetry.render();
    let series = page
        .lines()
        .filter(|line| line.starts_with("ratekeeper_limit_hits_total{"))
        .count() as u64;
    assert_eq!(series, bound + 1, "those of the bound, and `other`");
    assert_eq!(
        metric(
            &service,
            "ratekeeper_limit_hits_total",
            "{domain=\"other\",limit=\"other\"}"
        ),
        beyond
    );
    assert_eq!(
        metric(&service, "ratekeeper_metric_series_refused_total", ""),
        beyond
    );
    assert!(
        !page.contains("unknown0"),
        "a domain that no file names is no label"
    );
    assert_eq!(hits(&service, "v_7"), 1);
}
