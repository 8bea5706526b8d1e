//! Files that are taken without a word.

use ratekeeper::policy::schema::{
    Algorithm, ChargeRule, DescriptorNode, OnStoreError, Place, PolicyFile, RateLimitNode, Scope, Unit,
};
use serde_json::json;

use super::{clean, parsed};

fn full() -> PolicyFile {
    clean(include_str!("full.yaml"))
}

fn find<'a>(file: &'a PolicyFile, key: &str, value: Option<&str>) -> &'a DescriptorNode {
    file.descriptors
        .iter()
        .find(|node| node.key == key && node.value.as_deref() == value)
        .unwrap_or_else(|| panic!("no {key} {value:?}"))
}

fn limit<'a>(file: &'a PolicyFile, key: &str, value: Option<&str>) -> &'a RateLimitNode {
    find(file, key, value).rate_limit.as_ref().expect("a limit")
}

#[test]
fn domain_levels_and_places() {
    let file = full();
    assert_eq!(
        (file.domain.as_str(), file.domain_place),
        ("shop", Place { line: 2, column: 9 })
    );
    assert_eq!(&*file.path, "policy.yaml");
    let tenant = find(&file, "tenant", Some("gold"));
    assert_eq!(tenant.place, Place { line: 5, column: 5 });
    let limit = tenant.rate_limit.as_ref().expect("a limit");
    assert_eq!((limit.unit, limit.requests_per_unit), (Some(Unit::Minute), 1_000));
    assert_eq!(limit.place, Place { line: 8, column: 7 });
    let below: Vec<_> = tenant
        .descriptors
        .iter()
        .map(|node| (node.key.as_str(), node.value.as_deref()))
        .collect();
    assert_eq!(below, [("path", Some("/buy")), ("path", None)]);
    assert_eq!(tenant.descriptors[1].rate_limit.as_ref(), Some(limit));
}

#[test]
fn names_and_replaces() {
    let file = full();
    let buy = find(&file, "tenant", Some("gold")).descriptors[0]
        .rate_limit
        .clone()
        .expect("a limit");
    assert_eq!(
        (buy.name.as_str(), buy.replaces.as_slice()),
        ("buy", ["all".to_owned(), "other one".to_owned()].as_slice())
    );
    assert_eq!((buy.unit, buy.requests_per_unit), (Some(Unit::Second), 16));
    assert_eq!(limit(&file, "all", None).name, "all");
    assert_eq!(limit(&file, "all", None).requests_per_unit, u32::MAX);
}

#[test]
fn flags() {
    let file = full();
    let flags = |node: &DescriptorNode| {
        [
            node.shadow_mode,
            node.quota_mode,
            node.detailed_metric,
            node.value_to_metric,
            node.share_threshold,
        ]
    };
    let tenant = find(&file, "tenant", Some("gold"));
    assert_eq!(flags(tenant), [false; 5]);
    assert_eq!(flags(&tenant.descriptors[1]), [true, false, true, false, false]);
    assert_eq!(
        flags(find(&file, "route", Some("/api/*/orders*"))),
        [false, false, false, false, true]
    );
    assert_eq!(
        flags(find(&file, "zone_*", None)),
        [false, true, false, true, false]
    );
}

#[test]
fn unlimited_and_unlisted() {
    let file = full();
    let free = limit(&file, "intern", Some("on"));
    assert_eq!(
        (free.unlimited, free.unit, free.requests_per_unit),
        (true, None, 0)
    );
    assert_eq!(
        (free.name.as_str(), free.replaces.as_slice()),
        ("free", ["all".to_owned()].as_slice())
    );
    let health = find(&file, "health", None);
    assert!(health.rate_limit.is_none() && health.descriptors.is_empty());
    assert_eq!(limit(&file, "route", Some("/api/*/orders*")).requests_per_unit, 0);
}

#[test]
fn texts_are_kept_as_written() {
    let file = full();
    assert_eq!(limit(&file, "404", Some("010")).name, "2001-01-01");
    let file = clean("domain: '~'\ndescriptors: [{key: 'null', value: \"~\"}]\n");
    assert_eq!(file.domain, "~");
    assert_eq!(
        (
            file.descriptors[0].key.as_str(),
            file.descriptors[0].value.as_deref()
        ),
        ("null", Some("~"))
    );
    let file = clean("domain: yes\ndescriptors: [{key: 0x1F, value: off}, {key: 2001-01-01, value: 1_0}]\n");
    assert_eq!(file.domain, "yes");
    assert_eq!(
        (
            file.descriptors[0].key.as_str(),
            file.descriptors[0].value.as_deref()
        ),
        ("0x1F", Some("off"))
    );
    assert_eq!(
        (
            file.descriptors[1].key.as_str(),
            file.descriptors[1].value.as_deref()
        ),
        ("2001-01-01", Some("1_0"))
    );
}

#[test]
fn metadata() {
    let file = full();
    let metadata = find(&file, "described", None).metadata.clone().expect("metadata");
    let expected = json!({
        "team": "payments", "weight": 1.5, "since": "2001-01-01", "7": "seven", "empty": {},
        "tags": ["a", 1, true, null, {"nested": {"5": "five", "true": false}}],
    });
    assert_eq!(serde_json::Value::Object(metadata), expected);
    assert_eq!(
        clean("{domain: a, descriptors: [{key: b, metadata: {}}]}").descriptors[0].metadata,
        None
    );
    let odd = clean("{domain: a, descriptors: [{key: b, metadata: {~: 1, no: 2, 1.5: {~: 3, 0x10: 4}}}]}");
    let metadata = odd.descriptors[0].metadata.clone().expect("metadata");
    let expected = json!({"": 1, "no": 2, "1.5": {"<nil>": 3, "16": 4}});
    assert_eq!(serde_json::Value::Object(metadata), expected);
}

#[test]
fn our_keys() {
    let file = full();
    let of = |value| {
        let limit = limit(&file, "ours", Some(value));
        (
            limit.algorithm,
            limit.unit_multiplier,
            limit.burst,
            limit.scope,
            limit.charge,
        )
    };
    let bucket = (
        Some(Algorithm::TokenBucket),
        Some(10),
        Some(100),
        Scope::Global,
        Some(ChargeRule::Admitted),
    );
    assert_eq!(of("bucket"), bucket);
    assert_eq!(
        of("here"),
        (None, None, Some(60), Scope::Local, Some(ChargeRule::Auto))
    );
    assert_eq!(
        of("same"),
        (
            Some(Algorithm::SlidingWindow),
            Some(100),
            None,
            Scope::Global,
            None
        )
    );
    assert_eq!(
        of("theirs"),
        (
            Some(Algorithm::FixedWindow),
            None,
            None,
            Scope::Global,
            Some(ChargeRule::Always)
        )
    );
    let plain = limit(&file, "all", None);
    assert_eq!(
        (plain.algorithm, plain.charge, plain.scope),
        (None, None, Scope::Global)
    );
}

#[test]
fn what_holds_without_the_store_and_where_counters_are() {
    let file = full();
    assert_eq!(
        (file.on_store_error, file.strict),
        (Some(OnStoreError::Deny), true)
    );
    assert_eq!(file.shard_by.as_ref().map(|it| it.key.as_str()), Some("tenant"));
    let of = |key, value| {
        let limit = limit(&file, key, value);
        (limit.strict, limit.on_store_error)
    };
    assert_eq!(of("ours", Some("strict")), (Some(true), Some(OnStoreError::Deny)));
    assert_eq!(
        of("ours", Some("lenient")),
        (Some(false), Some(OnStoreError::Allow))
    );
    assert_eq!(of("all", None), (None, None));
    let plain = clean("domain: a");
    assert_eq!(
        (plain.on_store_error, plain.strict, plain.shard_by),
        (None, false, None)
    );
}

#[test]
fn token_bucket_is_what_a_local_limit_is() {
    let file = clean(
        "domain: a\ndescriptors:\n  - key: b\n    rate_limit: {unit: day, requests_per_unit: 1, scope: local, algorithm: token_bucket}\n",
    );
    assert_eq!(limit(&file, "b", None).algorithm, Some(Algorithm::TokenBucket));
}

#[test]
fn units_in_any_case() {
    for unit in Unit::ALL {
        for name in [
            unit.name().to_owned(),
            unit.name().to_uppercase(),
            unit.name().replace('e', "E"),
        ] {
            let text = format!(
                "domain: a\ndescriptors: [{{key: b, rate_limit: {{unit: {name}, requests_per_unit: 1}}}}]\n"
            );
            assert_eq!(limit(&clean(&text), "b", None).unit, Some(unit), "{name}");
        }
    }
    let seconds: Vec<u64> = Unit::ALL.iter().map(|unit| unit.seconds()).collect();
    assert_eq!(seconds, [1, 60, 3_600, 86_400, 604_800, 2_592_000, 31_536_000]);
}

#[test]
fn files_with_little_in_them() {
    for text in [
        "domain: a",
        "domain: a\ndescriptors:\n",
        "domain: a\ndescriptors: []\n",
        "---\ndomain: a\n",
        "%YAML 1.1\n---\ndomain: a\n...\n",
        "\u{feff}domain: a\n",
        "domain: a\r\ndescriptors: ~\r\n",
        "{\"domain\":\"a\",\"descriptors\":[]}",
        "domain: a\n---\n# an empty document holds nothing to miss\n",
        "domain: !!str a",
        "domain: >-\n  a\n",
    ] {
        let file = clean(text);
        assert_eq!(
            (file.domain.as_str(), file.descriptors.len()),
            ("a", 0),
            "{text:?}"
        );
    }
}

#[test]
fn rules_that_may_look_unreachable_but_are_not() {
    for values in [
        ["'*b'", "'*a'"],
        ["a*b", "a*"],
        ["'*/x'", "/x*"],
        ["a*a", "a"],
        ["a*c*", "a*b*"],
        // The exact rule comes first.
        ["'*'", "b"],
    ] {
        let [first, second] = values;
        clean(&format!(
            "domain: a\ndescriptors:\n  - {{key: k, value: {first}}}\n  - {{key: k, value: {second}}}\n"
        ));
    }
    // `k_v` is also what the entry (k, v) is looked up as, before the wildcard.
    clean("domain: a\ndescriptors:\n  - {key: 'k_*'}\n  - {key: k_v}\n");
    let hidden = |first: &str, second: &str| {
        let text = format!(
            "domain: a\ndescriptors:\n  - {{key: k, value: '{first}'}}\n  - {{key: k, value: '{second}'}}\n"
        );
        parsed(&text)
            .diagnostics
            .iter()
            .any(|d| d.text.contains("never reached"))
    };
    assert!(hidden("*", "a*") && hidden("*", "*a*b*") && hidden("a*", "ab*c") && hidden("*b*", "a*b*c"));
    assert!(!hidden("a*", "*"));
}

#[test]
fn thirty_two_levels_of_descriptors() {
    let mut text = "domain: a\n".to_owned();
    for level in 0..32 {
        let indent = "  ".repeat(level);
        text.push_str(&format!("{indent}descriptors:\n{indent}- key: level{level}\n"));
    }
    let mut nodes = clean(&text).descriptors;
    for level in 0..32 {
        assert_eq!(nodes[0].key, format!("level{level}"));
        nodes = std::mem::take(&mut nodes[0].descriptors);
    }
    assert!(nodes.is_empty());
}
