//! What limits do while the store is away, of all that a limit, its file and the setting say.

use std::sync::Arc;

use ratekeeper::limiter::OnStoreError::{self, Allow, Deny, Local, Strict};
use ratekeeper::policy::compile::{Defaults, compile};

use super::{clean, listed, parsed};
use crate::deciding::DEFAULTS;

fn file(domain: &str, top: &str, limit: &str) -> String {
    format!(
        "domain: {domain}\n{top}\ndescriptors:\n  - {{key: k, rate_limit: {{unit: day, requests_per_unit: 1{limit}}}}}\n"
    )
}

/// What the limits of these files of one domain do, the setting being `default`.
fn outages(texts: &[String], default: OnStoreError) -> Vec<OnStoreError> {
    let files: Vec<_> = texts.iter().map(|text| Arc::new(clean(text))).collect();
    let defaults = Defaults {
        on_store_error: default,
        ..DEFAULTS
    };
    let (domain, faults) = compile("d", &files, defaults);
    assert_eq!(faults, []);
    let limits = domain.rules().filter_map(|rule| rule.limit.as_ref());
    limits.map(|limit| limit.on_store_error).collect()
}

#[test]
fn the_most_specific_that_is_said_holds() {
    for (top, limit, expected) in [
        ("", "", Local),
        ("", ", strict: true", Strict),
        ("", ", strict: false", Local),
        ("", ", strict: true, on_store_error: deny", Strict),
        ("", ", strict: false, on_store_error: deny", Deny),
        ("strict: true", "", Strict),
        ("strict: true", ", strict: false", Local),
        ("strict: true", ", strict: ~", Strict),
        ("strict: true", ", strict: false, on_store_error: allow", Allow),
        ("strict: true", ", on_store_error: local", Local),
        ("strict: true", ", on_store_error: allow", Allow),
        ("strict: true", ", on_store_error: deny", Deny),
        ("strict: true\non_store_error: deny", "", Strict),
        ("strict: true\non_store_error: deny", ", strict: false", Deny),
        ("strict: false\non_store_error: allow", "", Allow),
        ("on_store_error: allow", ", strict: true", Strict),
        ("on_store_error: local", ", strict: false", Local),
    ] {
        let text = file("d", top, limit);
        assert_eq!(outages(std::slice::from_ref(&text), Local), [expected], "{text}");
    }
    assert_eq!(outages(&[file("d", "", "")], Deny), [Deny]);
    assert_eq!(outages(&[file("d", "", ", strict: true")], Allow), [Strict]);
    assert_eq!(
        outages(&[file("d", "strict: true", ", strict: false")], Allow),
        [Allow]
    );
}

#[test]
fn in_a_merged_domain_each_file_speaks_for_its_own_limits() {
    let (strict, other) = (
        file("d", "strict: true", ""),
        file("d", "", "").replace("key: k", "key: other"),
    );
    assert_eq!(outages(&[strict.clone(), other.clone()], Allow), [Strict, Allow]);
    assert_eq!(outages(&[other, strict], Allow), [Allow, Strict]);
}

/// A default of the file is none for limits that have no store, so it contradicts nothing there.
#[test]
fn a_strict_file_may_hold_limits_that_need_no_store() {
    clean(
        "domain: d
strict: true
descriptors:
  - {key: a, rate_limit: {unlimited: true}}
  - {key: b, rate_limit: {unit: day, requests_per_unit: 1, scope: local}}
  - {key: c, rate_limit: {unlimited: true, strict: false}}
  - {key: d, rate_limit: {unit: day, requests_per_unit: 1, scope: local, strict: false}}
",
    );
}

#[test]
fn a_contradiction_behind_a_merge_or_an_alias_is_reported_where_it_stands() {
    let parsed = parsed(
        "domain: d
descriptors:
  - {key: a, rate_limit: &strict {unit: day, requests_per_unit: 1, strict: true}}
  - {key: b, rate_limit: {<<: *strict, on_store_error: allow}}
  - {key: c, rate_limit: {<<: *strict, scope: local, strict: false}}
",
    );
    let expected = "policy.yaml:3:76: error: 'strict: true' beside 'on_store_error: allow', but a strict limit denies without the store";
    assert_eq!(
        listed(&parsed).lines().next(),
        Some(expected),
        "{}",
        listed(&parsed)
    );
    assert_eq!(parsed.diagnostics.len(), 1, "{}", listed(&parsed));
}
