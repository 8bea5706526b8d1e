//! `shard_by` in a file: what it is read as, and when no rule can meet an entry of that key.

use std::sync::Arc;

use ratekeeper::policy::compile::compile;
use ratekeeper::policy::schema::{Place, ShardBy};

use super::{clean, listed, parsed};
use crate::deciding::DEFAULTS;

#[test]
fn the_key_is_kept_as_written() {
    let file = clean("domain: d\nshard_by: tenant\ndescriptors: [{key: tenant}]\n");
    let expected = ShardBy {
        key: "tenant".to_owned(),
        place: Place { line: 2, column: 11 },
    };
    assert_eq!(file.shard_by, Some(expected));
    let of = |text: &str| clean(text).shard_by.map(|it| it.key);
    assert_eq!(of("domain: d\ndescriptors: [{key: tenant}]\n"), None);
    // As with the keys of descriptors, numbers and booleans are texts.
    assert_eq!(
        of("{domain: d, shard_by: 404, descriptors: [{key: 404}]}"),
        Some("404".into())
    );
    assert_eq!(
        of("{domain: d, shard_by: on, descriptors: [{key: on}]}"),
        Some("on".into())
    );
    let longest = "t".repeat(1_024);
    let text = format!("{{domain: d, shard_by: {longest}, descriptors: [{{key: {longest}}}]}}");
    assert_eq!(of(&text), Some(longest));
}

/// Rules, and whether one of them can be for an entry with the key `tenant`.
#[test]
fn it_is_a_warning_exactly_if_no_rule_can_meet_such_an_entry() {
    for (rules, met) in [
        ("{key: tenant}", true),
        ("{key: tenant, value: acme}", true),
        ("{key: tenant, value: 'a*'}", true),
        ("{key: path}, {key: tenant}", true),
        ("{key: path, descriptors: [{key: host}, {key: tenant}]}", true),
        ("{key: '*'}", true),
        ("{key: 'ten*'}", true),
        ("{key: 'tenant*'}", true),
        ("{key: 'tenant_*'}", true),
        ("{key: 'tenant_x*y'}", true),
        // The name of the rule is that of the entry `tenant` with the value `id`, too.
        ("{key: tenant_id}", true),
        ("{key: ten, value: 'ant_*'}", false),
        ("{key: path}", false),
        ("{key: path, value: tenant}", false),
        ("{key: tenants}", false),
        ("{key: tenants, value: 'a*'}", false),
        ("{key: 'tenants*'}", false),
        ("{key: 'a*'}", false),
        ("{key: Tenant}", false),
    ] {
        let parsed = parsed(&format!("domain: d\nshard_by: tenant\ndescriptors: [{rules}]\n"));
        assert!(parsed.file.is_some(), "{rules}: {}", listed(&parsed));
        assert_eq!(parsed.diagnostics.is_empty(), met, "{rules}: {}", listed(&parsed));
    }
    // Rules in error may have been meant for it.
    let parsed = parsed("domain: d\nshard_by: tenant\ndescriptors: [{key: [tenant]}]\n");
    assert!(!listed(&parsed).contains("shard_by"), "{}", listed(&parsed));
}

#[test]
fn a_merged_domain_has_the_one_that_a_file_of_it_says() {
    let file = |path: &str, shard_by: &str| {
        let text = format!("{{domain: d, shard_by: {shard_by}, descriptors: [{{key: tenant}}]}}");
        let mut file = clean(&text.replace("key: tenant", &format!("key: tenant, value: {path}")));
        file.path = path.into();
        Arc::new(file)
    };
    let silent = Arc::new(clean("{domain: d, descriptors: [{key: path}]}"));
    let of = |files: &[Arc<_>]| {
        let (domain, faults) = compile("d", files, DEFAULTS);
        let faults = faults
            .into_iter()
            .map(|it| (it.path.to_string(), it.place, it.text));
        (domain.shard_by().map(str::to_owned), faults.collect::<Vec<_>>())
    };
    let tenant = Some("tenant".to_owned());
    assert_eq!(of(&[Arc::clone(&silent)]), (None, vec![]));
    assert_eq!(
        of(&[Arc::clone(&silent), file("b", "tenant")]),
        (tenant.clone(), vec![])
    );
    assert_eq!(of(&[file("b", "tenant"), silent]), (tenant, vec![]));
    assert_eq!(of(&[file("a", "tenant"), file("b", "tenant")]).1, vec![]);

    let other = |path: &str| {
        let parsed = parsed(&format!(
            "{{domain: d, shard_by: k{path}, descriptors: [{{key: k{path}}}]}}"
        ));
        let mut file = parsed.file.unwrap();
        file.path = path.into();
        Arc::new(file)
    };
    let (_, faults) = of(&[file("a", "tenant"), other("1"), other("2")]);
    let fault = |path: &str| {
        let text = format!("'shard_by' is 'k{path}' here and 'tenant' in a, but a domain has one");
        (path.to_owned(), Place { line: 1, column: 23 }, text)
    };
    assert_eq!(faults, [fault("1"), fault("2")]);
}
