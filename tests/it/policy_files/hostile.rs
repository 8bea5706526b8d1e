//! Files that are made to hurt: bombs, endless nesting, random bytes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ratekeeper::policy::schema::{Bounds, Parsed, parse};

use super::parsed;

/// Parses `text` within a time that only work beyond the size of the text could need, also unoptimized.
fn soon(text: &str) -> Parsed {
    #[expect(
        clippy::disallowed_methods,
        reason = "the time that parsing takes is what is tested"
    )]
    let start = Instant::now();
    let parsed = parsed(text);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
    parsed
}

fn refused_with(text: &str, reason: &str) {
    let parsed = soon(text);
    assert!(parsed.file.is_none());
    assert!(
        parsed.diagnostics[0].text.contains(reason),
        "{}",
        parsed.diagnostics[0]
    );
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "domain: shop\nmetadata:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        _ = writeln!(bomb, "  - &a{level} [{below}]");
    }
    refused_with(&bomb, "excessive aliasing");
}

#[test]
fn an_alias_bomb_of_one_long_text_is_refused() {
    let long = "x".repeat(1 << 20);
    let aliases = vec!["*a"; 100_000].join(", ");
    refused_with(
        &format!("{{domain: &a {long}, metadata: [{aliases}]}}"),
        "excessive aliasing",
    );
}

#[test]
fn a_merge_bomb_is_refused() {
    let mut bomb = "domain: shop\nmetadata:\n  a0: &a0 {k: v}\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        _ = writeln!(bomb, "  a{level}: &a{level} {{<<: [*a{below}, *a{below}]}}");
    }
    refused_with(&bomb, "excessive aliasing");
}

#[test]
fn aliases_do_not_nest_deeper_than_the_document_may() {
    let mut text = "domain: shop\nmetadata:\n  - &a0 [x]\n".to_owned();
    for level in 1..200 {
        _ = writeln!(text, "  - &a{level} [*a{}]", level - 1);
    }
    refused_with(&text, "more than 128 lists and maps within each other");
}

#[test]
fn nesting_without_end_is_refused() {
    for opener in ["[", "{", "{a: ", "[[", "- ", "? ", "a: ["] {
        refused_with(
            &opener.repeat(100_000),
            "more than 128 lists and maps within each other",
        );
    }
    let mut indented = String::new();
    for level in 0..2_000 {
        _ = writeln!(indented, "{}descriptors:", " ".repeat(level));
    }
    refused_with(&indented, "more than 128 lists and maps within each other");
}

#[test]
fn blocks_and_brackets_together_do_not_nest_deeper() {
    let mut text = String::new();
    for level in 0..100 {
        _ = writeln!(text, "{}descriptors:", " ".repeat(level));
    }
    _ = writeln!(
        text,
        "{}k: {}{}",
        " ".repeat(100),
        "[".repeat(100),
        "]".repeat(100)
    );
    refused_with(&text, "more than 128 lists and maps within each other");
}

#[test]
fn one_line_of_ten_megabytes() {
    let long = "x".repeat(10 << 20);
    let parsed = soon(&format!("domain: {long}"));
    assert_eq!(parsed.file.map(|file| file.domain.len()), Some(10 << 20));
    let unknown = format!("{long}: 1\ndomain: shop");
    assert!(soon(&unknown).file.is_none());
    let many = format!("{{domain: shop{}}}", ", oops: 1".repeat(1 << 17));
    let parsed = soon(&many);
    assert!(parsed.diagnostics.iter().all(|d| d.to_string().len() < 600));
}

#[test]
fn the_bound_on_nodes_holds() {
    let bounds = Bounds {
        nodes_max: 10,
        ..Bounds::default()
    };
    assert!(
        parse("p", "{domain: shop, metadata: [1, 2, 3]}", &bounds)
            .file
            .is_some()
    );
    let text = "{domain: shop, metadata: [1, 2, 3, 4, 5, 6, 7]}";
    let parsed = parse("p", text, &bounds);
    assert_eq!(parsed.diagnostics[0].text, "more than 10 yaml nodes");
    assert_eq!(parsed.domain_hint.as_deref(), Some("shop"));
}

#[test]
fn many_rules_cost_no_more_than_their_number() {
    // All on one level, half of them wildcards: everything that compares rules with each other would show.
    let mut text = "domain: shop\ndescriptors:\n".to_owned();
    for number in 0..20_000 {
        let star = if number % 2 == 0 { "*" } else { "" };
        _ = writeln!(
            text,
            "  - key: path\n    value: /item/{number}/{star}\n    rate_limit: {{unit: minute, requests_per_unit: {number}}}"
        );
    }
    let parsed = soon(&text);
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(parsed.file.map(|file| file.descriptors.len()), Some(20_000));
}

/// A policy that uses everything, to be mutated.
const VALID: &str = include_str!("full.yaml");

/// A character or two of those that mean something in YAML, or any.
fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"[ \n:,\[\]{}'#&*!|>%@`?~<-]{1,2}",
        1 => "(\n  - |: |\n    |\n---\n|<<: |&a |\\*a |!!int |0|\t)",
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let parsed = parsed(&String::from_utf8_lossy(&bytes));
        prop_assert!(parsed.file.is_some() || !parsed.diagnostics.is_empty());
    }

    #[test]
    fn random_yaml_never_panics(parts in prop::collection::vec(snippet(), 0..120)) {
        let parsed = parsed(&parts.concat());
        prop_assert!(parsed.file.is_some() || !parsed.diagnostics.is_empty());
    }

    #[test]
    fn a_mutated_policy_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, snippet()), 1..6)
    ) {
        let mut characters: Vec<char> = VALID.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, inserted.chars());
        }
        let text: String = characters.into_iter().collect();
        let parsed = parsed(&text);
        let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap_or(u32::MAX);
        for diagnostic in &parsed.diagnostics {
            prop_assert!((1..=lines).contains(&diagnostic.place.line), "{diagnostic}");
            prop_assert!(!diagnostic.text.contains('\n'));
            prop_assert!(diagnostic.excerpt.marker <= diagnostic.excerpt.text.chars().count() + 100);
        }
        let refused = parsed.diagnostics.iter().any(|d| d.severity == super::Error);
        prop_assert_eq!(parsed.file.is_none(), refused);
        if let Some(file) = parsed.file {
            prop_assert!(!file.domain.is_empty());
        }
    }
}
