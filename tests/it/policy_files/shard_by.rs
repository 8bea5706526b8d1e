//! `shard_by` in a file: what it is read as, and when no rule can meet an entry of that key.

use std::sync::Arc;

use ratekeeper::policy::compile::compile;
use ratekeeper::policy::schema::{Place, ShardBy};

use super::{clean, listed, parsed};
use crate::asking::{ask, descriptor};
use crate::deciding::{DEFAULTS, Deciding};
use crate::support;

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

/// Over files, `check` says it with the line, and a service keeps what it had.
#[test]
fn files_of_a_domain_that_differ_are_refused_together() {
    let file = |key: &str| {
        format!(
            "domain: d\nshard_by: {key}\ndescriptors:\n  - {{key: {key}, rate_limit: {{unit: day, requests_per_unit: 1}}}}\n"
        )
    };
    let dir = support::policies(&[("a.yaml", &file("tenant")), ("b.yaml", &file("user"))]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
    let output = command
        .args(["check", "--merge-domain-config"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let place = format!("{}:2:11: error: ", dir.path().join("b.yaml").display());
    let first = format!("{}", dir.path().join("a.yaml").display());
    let expected = format!(
        "{place}'shard_by' is 'user' here and 'tenant' in {first}, but a domain has one\n    2 | shard_by: user\n      |           ^\n\
         2 files, 0 domains, 0 rules, 1 problems\n"
    );
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().replace("\n\n", "\n"),
        expected
    );

    let service = Deciding::new(&[&file("tenant")]);
    let asked = |entry: &str| {
        let answer = ask(&service, "d", 0, &[descriptor(&[entry])]).unwrap();
        (answer.statuses[0].current_limit.is_some(), answer.denied)
    };
    assert_eq!(asked("tenant=a"), (true, false));
    let loaded = service.load(&[&file("tenant"), &file("user")]);
    assert_eq!(
        loaded
            .files_in_error
            .iter()
            .map(|path| &**path)
            .collect::<Vec<_>>(),
        ["1.yaml"]
    );
    assert_eq!(asked("tenant=a"), (true, true), "its counter, too");
    assert_eq!(asked("user=u"), (false, false));
    let _ = service.load(&[&file("tenant"), &file("user").replace("shard_by: user", "# none")]);
    assert_eq!(asked("user=u"), (true, false));
}
