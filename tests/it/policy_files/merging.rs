//! Repeated keys, anchors and merge keys, against what yaml.v2 makes of them.

use ratekeeper::policy::schema::{DescriptorNode, Unit};

use super::{clean, parsed};

/// The descriptors of a file that is loaded, in spite of warnings.
fn loaded(descriptors: &str) -> Vec<DescriptorNode> {
    let parsed = parsed(&format!("domain: shop\ndescriptors:\n{descriptors}"));
    parsed
        .file
        .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
        .descriptors
}

fn limit(descriptor: &DescriptorNode) -> (Option<Unit>, u32) {
    let limit = descriptor.rate_limit.as_ref().expect("a limit");
    (limit.unit, limit.requests_per_unit)
}

#[test]
fn the_last_of_equal_keys_holds() {
    let descriptors = loaded("  - {key: a, key: b, value: x, value: 'y', value: ~}\n");
    assert_eq!((descriptors[0].key.as_str(), &descriptors[0].value), ("b", &None));
    let descriptors = loaded("  - {key: a, descriptors: [{key: b}, {key: c}], descriptors: [{key: d}]}\n");
    let keys: Vec<_> = descriptors[0]
        .descriptors
        .iter()
        .map(|d| d.key.as_str())
        .collect();
    assert_eq!(keys, ["d"]);
}

#[test]
fn equal_limits_and_metadata_are_merged() {
    let descriptors =
        loaded("  - {key: a, rate_limit: {unit: day, name: x}, rate_limit: {requests_per_unit: 3}}\n");
    assert_eq!(limit(&descriptors[0]), (Some(Unit::Day), 3));
    assert_eq!(
        descriptors[0]
            .rate_limit
            .as_ref()
            .map(|limit| limit.name.as_str()),
        Some("x")
    );

    let descriptors = loaded("  - {key: a, metadata: {x: 1, y: 2}, metadata: {y: 3}}\n");
    let metadata = serde_json::Value::Object(descriptors[0].metadata.clone().expect("metadata"));
    assert_eq!(metadata, serde_json::json!({"x": 1, "y": 3}));

    let descriptors =
        loaded("  - {key: a, rate_limit: {unit: day}, rate_limit: ~, metadata: {x: 1}, metadata: ~}\n");
    assert_eq!(
        (&descriptors[0].rate_limit, &descriptors[0].metadata),
        (&None, &None)
    );
}

#[test]
fn an_error_in_an_overridden_value_is_one_if_its_type_is_wrong() {
    let file = |first: &str| {
        parsed(&format!(
            "domain: shop\ndescriptors:\n  - {{key: a, {first}, rate_limit: ~}}\n"
        ))
        .file
    };
    // The reference looks at the keys of the last one only, but decodes all of them.
    assert!(file("rate_limit: {oops: 1}").is_some());
    assert!(file("rate_limit: {unit: eon}").is_some());
    assert!(file("rate_limit: {requests_per_unit: x}").is_none());
    assert!(file("rate_limit: {replaces: [x]}").is_none());
}

#[test]
fn a_later_value_of_the_wrong_type_leaves_nothing_unchecked() {
    let file = |limit: &str| {
        parsed(&format!(
            "domain: shop\ndescriptors:\n  - {{key: a, rate_limit: {limit}}}\n"
        ))
        .file
    };
    assert!(file("{unit: 1.5, unit: eon, requests_per_unit: 1}").is_none());
    assert!(file("{unit: day, unit: 1.5, requests_per_unit: 1}").is_none());
    assert!(file("{unit: 1.5, unit: day, requests_per_unit: 1}").is_some());
}

#[test]
fn aliases_stand_for_their_nodes() {
    let file = clean(
        "domain: &d shop
descriptors:
  - key: *d
    rate_limit: &limit {unit: hour, requests_per_unit: 7}
  - key: path
    rate_limit: *limit
    descriptors: &below
      - key: method
  - key: host
    descriptors: *below
",
    );
    assert_eq!(file.descriptors[0].key, "shop");
    assert_eq!(limit(&file.descriptors[1]), (Some(Unit::Hour), 7));
    assert_eq!(file.descriptors[1].descriptors, file.descriptors[2].descriptors);
}

#[test]
fn keys_after_a_merge_override_it_and_a_merge_overrides_keys_before_it() {
    let base = "  - &base {key: base, shadow_mode: no, rate_limit: {unit: day, requests_per_unit: 3}}\n";
    let after = loaded(&format!("{base}  - {{<<: *base, key: own}}\n"));
    assert_eq!(
        (after[1].key.as_str(), limit(&after[1])),
        ("own", (Some(Unit::Day), 3))
    );
    // This repeats the key of the base.
    let before = parsed(&format!(
        "domain: shop\ndescriptors:\n{base}  - {{key: own, <<: *base}}\n"
    ));
    assert!(before.file.is_none());
    let own = before
        .diagnostics
        .iter()
        .map(|d| d.text.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(own.contains("'key' is overridden by the '<<' after it"), "{own}");
    assert!(
        own.contains("duplicate descriptor composite key 'shop.base'"),
        "{own}"
    );
}

#[test]
fn a_merged_limit_keeps_the_keys_that_are_not_overridden() {
    let file = clean(
        "domain: shop
descriptors:
  - &base
    key: base
    rate_limit: {unit: day, requests_per_unit: 3}
  - <<: *base
    key: own
    rate_limit: {requests_per_unit: 9}
",
    );
    assert_eq!(limit(&file.descriptors[1]), (Some(Unit::Day), 9));
}

#[test]
fn of_a_list_of_merged_maps_the_first_wins() {
    let descriptors = loaded("  - {<<: [{key: a, value: x}, {key: b, shadow_mode: no, quota_mode: off}]}\n");
    assert_eq!(
        (descriptors[0].key.as_str(), descriptors[0].value.as_deref()),
        ("a", Some("x"))
    );
    let quoted = parsed("domain: shop\ndescriptors:\n  - {'<<': {key: a}}\n");
    assert!(quoted.file.is_none(), "a quoted '<<' is a key like any other");
}
