//! Policy files: every malformed one is reported at its line, every good one is read as it is written, and nothing that
//! a file can hold makes the parser panic or slow.

mod good;
mod hostile;
mod merging;
mod outage;
mod scalars;
mod shard_by;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use ratekeeper::policy::diagnostic::Severity::{self, Error, Warning};
use ratekeeper::policy::schema::{Bounds, Parsed, parse};

/// A malformed file in `tests/malformed`, without its ending, and the lines at which it is reported.
type Malformed = (&'static str, &'static [(u32, Severity)]);

fn parsed(text: &str) -> Parsed {
    parse("policy.yaml", text, &Bounds::default())
}

/// Parses `text`, which must be taken without a word.
fn clean(text: &str) -> ratekeeper::policy::schema::PolicyFile {
    let parsed = parsed(text);
    assert_eq!(parsed.diagnostics, [], "{}\n{}", text, listed(&parsed));
    parsed.file.expect("a file without diagnostics is good")
}

fn listed(parsed: &Parsed) -> String {
    parsed
        .diagnostics
        .iter()
        .fold(String::new(), |mut list, diagnostic| {
            _ = writeln!(list, "{diagnostic}");
            list
        })
}

fn malformed_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/malformed")
}

fn malformed(name: &str) -> Parsed {
    let file = format!("{name}.yaml");
    let text = std::fs::read_to_string(malformed_dir().join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    parse(&file, &text, &Bounds::default())
}

#[test]
fn every_malformed_file_is_reported_at_its_lines() {
    for (name, expected) in MALFORMED {
        let parsed = malformed(name);
        let mut found: Vec<_> = parsed
            .diagnostics
            .iter()
            .map(|d| (d.place.line, d.severity))
            .collect();
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}\n{}", listed(&parsed));
    }
}

#[test]
fn a_file_is_taken_exactly_if_nothing_is_an_error() {
    for (name, expected) in MALFORMED {
        let refused = expected.iter().any(|&(_, severity)| severity == Error);
        assert_eq!(malformed(name).file.is_none(), refused, "{name}");
    }
}

#[test]
fn every_malformed_file_is_in_the_table() {
    let files: BTreeSet<String> = std::fs::read_dir(malformed_dir())
        .expect("the directory is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .map(|path| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let table: BTreeSet<String> = MALFORMED.iter().map(|&(name, _)| name.to_owned()).collect();
    assert_eq!(files, table);
    assert!(table.len() >= 60);
}

#[test]
fn the_texts_and_markers_of_all_malformed_files() {
    let mut all = String::new();
    for (name, _) in MALFORMED {
        _ = writeln!(all, "{}", listed(&malformed(name)));
    }
    insta::assert_snapshot!("malformed", all);
}

#[test]
fn a_refused_file_still_tells_its_domain() {
    for name in [
        "requests_negative",
        "syntax_unknown_anchor",
        "syntax_wrong_indentation",
        "duplicate_descriptor",
    ] {
        let parsed = malformed(name);
        assert!(parsed.file.is_none(), "{name}");
        assert_eq!(parsed.domain_hint.as_deref(), Some("shop"), "{name}");
    }
    assert_eq!(malformed("domain_empty").domain_hint, None);
    assert_eq!(malformed("root_is_a_list").domain_hint, None);
    assert_eq!(
        parsed("domain: a\ndomain: b\nkeys: [").domain_hint.as_deref(),
        Some("b")
    );
}

#[test]
fn a_diagnostic_is_one_grep_able_line_and_a_marker() {
    let parsed = parsed("domain: shop\ndescriptors:\n  - key: pfad\n    wert: größe\n");
    let expected =
        "policy.yaml:4:5: error: config error, unknown key 'wert'\n    4 |     wert: größe\n      |     ^\n";
    assert_eq!(listed(&parsed), expected);
}

#[test]
fn the_marker_stays_below_its_column() {
    let shown = |text: &str| {
        let parsed = parsed(text);
        let excerpt = &parsed.diagnostics[0].excerpt;
        let marked: String = excerpt.text.chars().skip(excerpt.marker).take(4).collect();
        (marked, excerpt.text.chars().count())
    };
    let long = "x".repeat(5_000);
    assert_eq!(
        shown(&format!("{{domain: '{long}', oops: '{long}'}}")),
        ("oops".to_owned(), 102)
    );
    assert_eq!(shown("{domain: a,\t\toops: 1}"), ("oops".to_owned(), 21));
    assert_eq!(
        shown("{domain: größe, oops: 1}\r\n# c\r\n"),
        ("oops".to_owned(), 24)
    );
    assert_eq!(shown("\u{feff}oops: 1\ndomain: a"), ("oops".to_owned(), 7));
}

#[test]
fn diagnostics_are_bounded_and_counted() {
    let mut text = "domain: shop\ndescriptors:\n".to_owned();
    for number in 0..1_500 {
        _ = writeln!(text, "  - key: k{number}\n    oops: 1");
    }
    let parsed = parsed(&text);
    assert!(parsed.file.is_none());
    assert_eq!(parsed.diagnostics.len(), 1_001);
    assert_eq!(parsed.diagnostics[1_000].text, "500 more problems are not shown");
}

#[test]
fn a_fault_behind_an_alias_is_reported_once() {
    let text = "domain: shop\ndescriptors:\n  - key: a\n    rate_limit: &l {unit: eon, requests_per_unit: 1}\n  - key: b\n    rate_limit: *l\n";
    let parsed = parsed(text);
    assert_eq!(parsed.diagnostics.len(), 1, "{}", listed(&parsed));
    assert_eq!(parsed.diagnostics[0].place.line, 4);
}

const MALFORMED: &[Malformed] = &[
    ("algorithm_beside_local_scope", &[(8, Error)]),
    ("algorithm_is_a_list", &[(7, Error), (7, Error)]),
    ("algorithm_misspelled", &[(7, Error)]),
    ("algorithm_unknown", &[(7, Error)]),
    ("burst_with_fixed_window", &[(8, Error)]),
    ("burst_without_token_bucket", &[(7, Error)]),
    ("burst_zero", &[(8, Error)]),
    ("charge_unknown", &[(7, Error)]),
    ("depth_of_descriptors", &[(67, Error)]),
    ("depth_of_yaml", &[(2, Error)]),
    ("descriptor_key_empty", &[(3, Error)]),
    ("descriptor_key_is_a_map", &[(3, Error), (3, Error)]),
    ("descriptor_key_missing", &[(3, Error)]),
    ("descriptor_key_null", &[(3, Error)]),
    ("descriptors_is_a_map", &[(3, Error)]),
    ("descriptors_is_a_text", &[(2, Error)]),
    ("domain_empty", &[(1, Error)]),
    ("domain_is_a_list", &[(1, Error), (1, Error)]),
    ("domain_missing", &[(1, Error)]),
    ("domain_null", &[(1, Error)]),
    ("duplicate_descriptor", &[(9, Error)]),
    ("duplicate_descriptor_below", &[(7, Error)]),
    ("duplicate_descriptor_by_underscore", &[(5, Error)]),
    ("empty_file", &[(1, Error)]),
    ("key_in_capitals", &[(3, Error), (3, Error)]),
    ("key_is_a_boolean", &[(4, Error)]),
    ("key_is_a_float", &[(2, Error)]),
    ("key_is_a_list", &[(2, Error)]),
    ("key_is_a_number", &[(4, Error)]),
    ("key_is_null", &[(2, Error)]),
    ("key_unknown", &[(4, Error)]),
    ("key_unknown_and_far_from_any", &[(4, Error)]),
    ("key_unknown_at_root", &[(2, Error)]),
    ("key_unknown_below_misplaced_key", &[(4, Warning), (5, Error)]),
    ("key_unknown_in_rate_limit", &[(5, Error)]),
    ("list_item_null", &[(3, Error)]),
    ("list_of_lists", &[(3, Error)]),
    ("list_of_texts", &[(3, Error)]),
    ("merge_of_a_text", &[(3, Error)]),
    ("metadata_is_a_list", &[(4, Error)]),
    ("metadata_is_a_text", &[(4, Error)]),
    ("nested_descriptors_is_a_map", &[(5, Error)]),
    ("on_store_error_strict", &[(7, Error)]),
    ("only_comments", &[(1, Error)]),
    ("only_null", &[(2, Error)]),
    ("our_key_at_root", &[(2, Error)]),
    ("our_key_beside_rate_limit", &[(4, Error)]),
    ("quota_mode_is_a_number", &[(4, Error)]),
    ("rate_limit_empty", &[(4, Error), (4, Warning)]),
    ("rate_limit_is_a_list", &[(5, Error)]),
    ("rate_limit_is_a_number", &[(4, Error)]),
    ("rate_limit_null_in_capitals", &[(4, Error), (4, Warning)]),
    ("replaces_empty_name", &[(8, Error)]),
    ("replaces_entry_without_name", &[(7, Error)]),
    ("replaces_is_a_map", &[(8, Error)]),
    ("replaces_is_a_text", &[(7, Error)]),
    ("replaces_itself", &[(10, Error)]),
    ("replaces_of_texts", &[(8, Error)]),
    ("requests_above_32_bits", &[(6, Error)]),
    ("requests_in_words", &[(6, Error)]),
    ("requests_is_a_boolean", &[(6, Error)]),
    ("requests_negative", &[(6, Error)]),
    ("requests_quoted", &[(6, Error)]),
    ("requests_with_exponent", &[(6, Error)]),
    ("requests_with_fraction", &[(6, Error)]),
    ("root_is_a_list", &[(1, Error)]),
    ("root_is_a_text", &[(1, Error)]),
    ("scalars_overridden_by_wrong_ones", &[(6, Warning), (6, Error)]),
    ("scope_unknown", &[(7, Error)]),
    (
        "several_unknown_keys",
        &[(2, Error), (5, Error), (7, Warning), (8, Error)],
    ),
    ("shadow_mode_quoted", &[(4, Error)]),
    ("shard_by_empty", &[(2, Error)]),
    ("shard_by_in_descriptor", &[(4, Error)]),
    ("shard_by_in_rate_limit", &[(7, Error)]),
    ("shard_by_is_a_list", &[(2, Error), (2, Error)]),
    ("shard_by_is_a_map", &[(2, Error)]),
    ("shard_by_null", &[(2, Error)]),
    ("shard_by_too_long", &[(2, Error)]),
    ("share_threshold_without_wildcard", &[(5, Error)]),
    ("strict_at_root_beside_local", &[(3, Error)]),
    ("strict_beside_allow", &[(8, Error)]),
    ("strict_beside_local", &[(7, Error)]),
    ("strict_beside_rate_limit", &[(4, Error)]),
    ("strict_quoted", &[(7, Error)]),
    ("strict_unlimited", &[(6, Error)]),
    (
        "strict_with_all_that_it_contradicts",
        &[(6, Error), (6, Error), (6, Error)],
    ),
    ("strict_with_local_scope", &[(8, Error)]),
    ("syntax_anchor_contains_itself", &[(4, Error)]),
    ("syntax_anchor_name", &[(3, Error)]),
    ("syntax_colon_in_value", &[(3, Error)]),
    ("syntax_control_character", &[(3, Error)]),
    ("syntax_missing_colon", &[(2, Error)]),
    ("syntax_tab_indentation", &[(3, Error)]),
    ("syntax_template_left_over", &[(1, Error), (1, Error)]),
    ("syntax_unclosed_bracket", &[(2, Error)]),
    ("syntax_unclosed_quote", &[(2, Error)]),
    ("syntax_unknown_anchor", &[(4, Error)]),
    ("syntax_unknown_escape", &[(3, Error)]),
    ("syntax_wrong_closing_bracket", &[(2, Error)]),
    ("syntax_wrong_indentation", &[(4, Error)]),
    ("syntax_yaml_version", &[(2, Error)]),
    ("tag_binary", &[(4, Error)]),
    ("tag_does_not_fit", &[(6, Error)]),
    ("unit_beside_unlimited", &[(6, Error)]),
    ("unit_in_the_plural", &[(5, Error)]),
    ("unit_is_a_map", &[(5, Error), (5, Error)]),
    ("unit_missing", &[(5, Error)]),
    ("unit_multiplier_negative", &[(7, Error)]),
    ("unit_multiplier_zero", &[(7, Error)]),
    ("unit_named_unknown", &[(5, Error)]),
    ("unit_unknown", &[(5, Error)]),
    ("unlimited_in_words", &[(5, Error)]),
    ("value_is_a_float", &[(4, Error)]),
    ("value_is_a_number_above_64_bits", &[(4, Error)]),
    ("value_is_a_number_with_leading_zero_and_nine", &[(4, Error)]),
    ("value_is_infinite", &[(4, Error)]),
    ("warning_domain_in_descriptor", &[(4, Warning)]),
    ("warning_duplicate_domain_key", &[(2, Warning)]),
    ("warning_duplicate_key_in_metadata", &[(6, Warning)]),
    ("warning_duplicate_rate_limit", &[(6, Warning)]),
    ("warning_duplicate_yaml_key", &[(5, Warning)]),
    ("warning_invalid_unit_beside_unlimited", &[(6, Warning)]),
    ("warning_key_hidden_by_wildcard", &[(3, Warning)]),
    ("warning_merge_after_the_keys", &[(7, Warning), (8, Warning)]),
    ("warning_metadata_not_finite", &[(5, Warning)]),
    (
        "warning_modes_without_rate_limit",
        &[(4, Warning), (5, Warning), (6, Warning)],
    ),
    ("warning_rate_limit_at_root", &[(2, Warning)]),
    ("warning_replaces_beside_rate_limit", &[(4, Warning)]),
    ("warning_requests_missing", &[(5, Warning)]),
    ("warning_requests_null", &[(6, Warning)]),
    ("warning_requests_octal", &[(6, Warning)]),
    ("warning_second_document", &[(5, Warning)]),
    ("warning_shadow_mode_in_rate_limit", &[(7, Warning)]),
    ("warning_shard_by_without_a_rule", &[(2, Warning)]),
    ("warning_text_after_the_document", &[(3, Warning)]),
    ("warning_unit_beside_rate_limit", &[(4, Warning)]),
    ("warning_value_empty", &[(4, Warning)]),
    ("warning_value_null", &[(4, Warning)]),
    ("warning_wildcard_hidden_by_wildcard", &[(6, Warning)]),
    ("window_above_100_years", &[(6, Error)]),
];
