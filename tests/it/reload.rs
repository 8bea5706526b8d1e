//! Policies change under a running service: what is good is taken, what was good stays.

mod large;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ratekeeper::policy::loader::{Loader, LoaderOptions, SourceFile};
use ratekeeper::policy::schema::Bounds;
use ratekeeper::policy::snapshot::Lookup;
use ratekeeper::policy::{Loaded, Severity};

use crate::deciding::DEFAULTS;
use crate::support::{self, service::Service};

fn loader(merge_domains: bool) -> Loader {
    Loader::new(LoaderOptions {
        defaults: DEFAULTS,
        merge_domains,
        bounds: Bounds::default(),
    })
}

fn load(loader: &mut Loader, files: &[(&str, &str)]) -> Loaded {
    let source = |(path, text): &(&str, &str)| SourceFile {
        path: (*path).into(),
        content: Ok((*text).to_owned()),
    };
    loader.load(&files.iter().map(source).collect::<Vec<_>>())
}

fn policy(domain: &str, requests: u32) -> String {
    format!(
        "domain: {domain}\ndescriptors:\n  - key: k\n    rate_limit: {{unit: day, requests_per_unit: {requests}}}\n"
    )
}

/// The limits in force: domain and number.
fn limits(loaded: &Loaded) -> Vec<(String, u32)> {
    let domains = loaded.snapshot.domains();
    let rules = domains.iter().flat_map(|domain| {
        let limited = domain.rules().filter_map(|rule| rule.limit.as_ref());
        limited.map(|limit| (domain.name().to_string(), limit.requests_per_unit))
    });
    rules.collect()
}

fn pairs(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected
        .iter()
        .map(|(domain, requests)| ((*domain).to_owned(), *requests))
        .collect()
}

#[test]
fn a_broken_file_keeps_its_own_domain_and_no_other() {
    let mut loader = loader(false);
    let (a, b) = (policy("a", 1), policy("b", 2));
    let first = load(&mut loader, &[("a.yaml", &a), ("b.yaml", &b)]);
    assert_eq!(limits(&first), pairs(&[("a", 1), ("b", 2)]));
    // No domain can be read from the broken file: it is remembered.
    let second = load(
        &mut loader,
        &[("a.yaml", "descriptors: [["), ("b.yaml", &policy("b", 3))],
    );
    assert_eq!(limits(&second), pairs(&[("a", 1), ("b", 3)]));
    assert_eq!(
        second
            .files_in_error
            .iter()
            .map(|path| &**path)
            .collect::<Vec<_>>(),
        ["a.yaml"]
    );
    assert_eq!(second.count(Severity::Error), 1);
    let third = load(
        &mut loader,
        &[("a.yaml", &policy("a", 9)), ("b.yaml", &policy("b", 3))],
    );
    assert_eq!(limits(&third), pairs(&[("a", 9), ("b", 3)]));
    assert!(third.files_in_error.is_empty());
}

#[test]
fn a_file_that_is_gone_takes_its_domain_along_but_a_broken_one_does_not() {
    let mut loader = loader(false);
    load(
        &mut loader,
        &[("a.yaml", &policy("a", 1)), ("b.yaml", &policy("b", 2))],
    );
    let gone = load(&mut loader, &[("b.yaml", &policy("b", 2))]);
    assert_eq!(limits(&gone), pairs(&[("b", 2)]));
    let broken = load(&mut loader, &[("b.yaml", "domain: b\nnonsense: 1\n")]);
    assert_eq!(limits(&broken), pairs(&[("b", 2)]));
    let both_gone = load(&mut loader, &[]);
    assert_eq!(limits(&both_gone), pairs(&[]));
}

#[test]
fn a_domain_in_error_from_the_start_is_not_taken_for_unknown() {
    let mut loader = loader(false);
    let loaded = load(
        &mut loader,
        &[
            ("a.yaml", "domain: a\nnonsense: 1\n"),
            ("b.yaml", &policy("b", 2)),
        ],
    );
    assert!(matches!(loaded.snapshot.look_up("a"), Lookup::InError));
    assert!(matches!(loaded.snapshot.look_up("b"), Lookup::Found(_)));
    assert!(matches!(loaded.snapshot.look_up("c"), Lookup::Unknown));
    assert!(matches!(
        ratekeeper::policy::Snapshot::default().look_up("b"),
        Lookup::NotLoaded
    ));
}

#[test]
fn two_files_of_one_domain_are_an_error_unless_they_are_merged() {
    let (first, second) = (policy("d", 1), policy("d", 2).replace("key: k", "key: other"));
    let files = [("1.yaml", first.as_str()), ("2.yaml", second.as_str())];
    let refused = load(&mut loader(false), &files);
    assert_eq!(refused.diagnostics.len(), 1);
    let text = refused.diagnostics[0].to_string();
    assert!(
        text.starts_with("2.yaml:1:9: error: duplicate domain 'd' in config file"),
        "{text}"
    );
    assert!(text.contains("domain: d"), "the line is shown: {text}");
    assert!(matches!(refused.snapshot.look_up("d"), Lookup::InError));
    assert_eq!(
        limits(&load(&mut loader(true), &files)),
        pairs(&[("d", 1), ("d", 2)])
    );
    let twice = load(
        &mut loader(true),
        &[("1.yaml", &first), ("2.yaml", &policy("d", 3))],
    );
    let text = twice.diagnostics[0].to_string();
    assert!(
        text.starts_with("2.yaml:3:5: error: duplicate descriptor composite key 'd.k'"),
        "{text}"
    );
}

#[test]
fn a_merged_domain_stays_whole_when_one_of_its_files_breaks() {
    let mut loader = loader(true);
    let other = policy("d", 2).replace("key: k", "key: other");
    load(&mut loader, &[("1.yaml", &policy("d", 1)), ("2.yaml", &other)]);
    let broken = load(
        &mut loader,
        &[("1.yaml", &policy("d", 7)), ("2.yaml", "domain: [")],
    );
    assert_eq!(
        limits(&broken),
        pairs(&[("d", 1), ("d", 2)]),
        "half of a change is no change"
    );
    let mended = load(&mut loader, &[("1.yaml", &policy("d", 7)), ("2.yaml", &other)]);
    assert_eq!(limits(&mended), pairs(&[("d", 7), ("d", 2)]));
}

#[test]
fn what_did_not_change_is_the_same_object_afterwards() {
    let mut loader = loader(false);
    let domain = |loaded: &Loaded, at: usize| Arc::clone(loaded.snapshot.domains()[at]);
    let before = load(
        &mut loader,
        &[("a.yaml", &policy("a", 1)), ("b.yaml", &policy("b", 2))],
    );
    let after = load(
        &mut loader,
        &[("a.yaml", &policy("a", 1)), ("b.yaml", &policy("b", 3))],
    );
    assert!(Arc::ptr_eq(&domain(&before, 0), &domain(&after, 0)));
    assert!(!Arc::ptr_eq(&domain(&before, 1), &domain(&after, 1)));
    assert!(after.changed);
    assert!(
        !load(
            &mut loader,
            &[("a.yaml", &policy("a", 1)), ("b.yaml", &policy("b", 3))]
        )
        .changed
    );
}

/// What `/json` says is left for a new key of domain `d`, plus one: the limit.
fn limit_in_force(service: &Service, domain: &str) -> Option<u64> {
    let ask = format!(
        r#"{{"domain":"{domain}","descriptors":[{{"entries":[{{"key":"k","value":"v"}}],"hitsAddend":"0"}}]}}"#
    );
    let body: serde_json::Value = serde_json::from_str(&service.ask(&ask).body).ok()?;
    body["statuses"][0]["currentLimit"]["requestsPerUnit"].as_u64()
}

fn soon(service: &Service, domain: &str, expected: Option<u64>) {
    let what = format!("{domain} has {expected:?}");
    support::eventually(&what, Duration::from_secs(2), || {
        limit_in_force(service, domain) == expected
    });
}

/// Nothing but the poll would see changes after this; the tests wait for less than that.
const SLOW_POLL: (&str, &str) = ("RATEKEEPER_POLICIES_POLL_INTERVAL", "1h");

#[test]
fn kubernetes_volumes_editors_and_new_directories_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str, requests| {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        support::write(&dir.path().join(name).join("d.yaml"), &policy("d", requests));
    };
    version("..v1", 1);
    symlink("..v1", dir.path().join("..data")).unwrap();
    symlink("..data/d.yaml", dir.path().join("d.yaml")).unwrap();
    let service = Service::start(dir.path(), &[SLOW_POLL]);
    assert_eq!(limit_in_force(&service, "d"), Some(1));
    for requests in 2..5_u32 {
        let name = format!("..v{requests}");
        version(&name, requests);
        symlink(&name, dir.path().join("..data_tmp")).unwrap();
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        soon(&service, "d", Some(requests.into()));
    }
    support::replace(&dir.path().join("e.yaml"), &policy("e", 5));
    soon(&service, "e", Some(5));
    support::replace(&dir.path().join("e.yaml"), &policy("e", 6));
    soon(&service, "e", Some(6));
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    support::write(&dir.path().join("deep").join("f.yaml"), &policy("f", 7));
    soon(&service, "f", Some(7));
    support::write(&dir.path().join("deep").join(".f.yaml.swp"), "not yaml: [");
    std::fs::remove_file(dir.path().join("e.yaml")).unwrap();
    soon(&service, "e", None);
    assert_eq!(service.get("/readyz").body, "ok\n");
}

#[test]
fn a_link_as_the_root_of_the_runtime_directory_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str, requests| {
        let config = dir.path().join(name).join("ratelimit/config");
        std::fs::create_dir_all(&config).unwrap();
        support::write(&config.join("d.yaml"), &policy("d", requests));
    };
    version("v1", 1);
    let current = dir.path().join("current");
    symlink("v1", &current).unwrap();
    let root = current.to_str().unwrap();
    let settings = [
        ("RUNTIME_ROOT", root),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        SLOW_POLL,
    ];
    let service = Service::start_without_policies(&settings);
    assert_eq!(limit_in_force(&service, "d"), Some(1));
    version("v2", 2);
    symlink("v2", dir.path().join("new")).unwrap();
    std::fs::rename(dir.path().join("new"), &current).unwrap();
    soon(&service, "d", Some(2));
    support::write(&dir.path().join("v2/ratelimit/config/d.yaml"), &policy("d", 3));
    soon(&service, "d", Some(3));
}

#[test]
fn a_missing_directory_is_an_empty_one_until_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later");
    let service = Service::start(&path, &[SLOW_POLL]);
    assert_eq!(limit_in_force(&service, "d"), None);
    std::fs::create_dir(&path).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    support::write(&path.join("d.yaml"), &policy("d", 1));
    soon(&service, "d", Some(1));
    // Gone again: more likely replaced than meant, so its limits stay.
    std::fs::remove_dir_all(&path).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(limit_in_force(&service, "d"), Some(1));
    assert!(service.get("/readyz").body.starts_with("degraded\n"));
}

#[test]
fn ready_is_after_every_file_was_loaded_once() {
    let dir = support::policies(&[("bad.yaml", "domain: d\ndescriptors:\n  - kay: k\n")]);
    let service = Service::start_unready(dir.path(), &[SLOW_POLL]);
    support::eventually("the load is over", Duration::from_secs(10), || {
        service
            .get("/readyz?verbose")
            .body
            .contains("bad.yaml:3:5: error")
    });
    assert_eq!(service.get("/readyz").status, 503);
    assert_eq!(service.get("/livez").status, 200);
    assert_eq!(service.get("/healthcheck").status, 200);
    assert_eq!(
        service
            .ask(r#"{"domain":"d","descriptors":[{"entries":[{"key":"k"}]}]}"#)
            .status,
        503
    );
    support::replace(&dir.path().join("bad.yaml"), &policy("d", 4));
    soon(&service, "d", Some(4));
    support::eventually("it is ready", Duration::from_secs(1), || {
        service.get("/readyz").status == 200
    });
    support::replace(
        &dir.path().join("bad.yaml"),
        "domain: d\ndescriptors:\n  - kay: k\n",
    );
    support::eventually("it is degraded", Duration::from_secs(2), || {
        service.get("/readyz").body.starts_with("degraded")
    });
    assert_eq!(service.get("/readyz").status, 200);
    assert_eq!(limit_in_force(&service, "d"), Some(4));
    let metrics = service.get("/metrics").body;
    assert!(
        metrics.contains("ratekeeper_policy_files_in_error 1"),
        "{metrics}"
    );
}

#[test]
fn sighup_loads_anew() {
    // A file behind a link elsewhere is not in a watched directory; only the poll or a signal sees it change.
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let real = elsewhere.path().join("d.yaml");
    support::write(&real, &policy("d", 1));
    symlink(&real, dir.path().join("d.yaml")).unwrap();
    let service = Service::start(dir.path(), &[SLOW_POLL]);
    support::write(&real, &policy("d", 2));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(limit_in_force(&service, "d"), Some(1));
    service.hang_up();
    soon(&service, "d", Some(2));
}

#[test]
fn the_poll_sees_what_nothing_reports() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let real = elsewhere.path().join("d.yaml");
    support::write(&real, &policy("d", 1));
    symlink(&real, dir.path().join("d.yaml")).unwrap();
    let service = Service::start(dir.path(), &[("RATEKEEPER_POLICIES_POLL_INTERVAL", "200ms")]);
    support::write(&real, &policy("d", 2));
    soon(&service, "d", Some(2));
}

/// `check` finds what `serve` loads with a warning, and ends as it says.
#[test]
fn check_ends_with_its_exit_code() {
    let check = |path: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
        let output = command.arg("check").arg(path).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies");
    let (code, out, _) = check(&examples);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.ends_with(" 0 problems\n"), "{out}");
    let dir = support::policies(&[(
        "d.yaml",
        "domain: d\ndescriptors:\n  - {key: k, rate_limit: {unit: day}}\n",
    )]);
    let (code, out, _) = check(dir.path());
    assert_eq!(code, Some(1));
    let first = out.lines().next().unwrap();
    assert!(
        first.contains("d.yaml:3:") && first.contains("requests_per_unit"),
        "{out}"
    );
    assert!(
        out.lines()
            .nth(1)
            .unwrap()
            .contains("{key: k, rate_limit: {unit: day}}"),
        "the line is shown: {out}"
    );
    let (code, _, err) = check(Path::new("/nonexistent/policies"));
    assert_eq!(code, Some(2));
    assert!(err.contains("no such file or directory"), "{err}");
}

/// Whatever is wrong with a file: `check` ends with 1 and names a line of it, and a service that reads it keeps the limits that
/// it had.
#[test]
fn old_limits_keep_answering_beside_every_malformed_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 60, "only {} malformed files", files.len());
    let mut refused = 0;
    for file in &files {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
        let output = command.arg("check").arg(file).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{}: {out}", file.display());
        let place = format!("{}:", file.display());
        let line = out
            .lines()
            .next()
            .and_then(|first| first.strip_prefix(&place)?.split(':').next()?.parse::<u32>().ok());
        assert!(line.is_some(), "no line is named: {out}");

        let Ok(text) = std::fs::read_to_string(file) else {
            continue;
        };
        let mut loader = loader(false);
        load(
            &mut loader,
            &[("p.yaml", &policy("kept", 7)), ("q.yaml", &policy("other", 8))],
        );
        let loaded = load(&mut loader, &[("p.yaml", &text), ("q.yaml", &policy("other", 9))]);
        assert!(
            limits(&loaded).contains(&("other".to_owned(), 9)),
            "{}: another domain suffered",
            file.display()
        );
        if !loaded.files_in_error.is_empty() {
            refused += 1;
            assert!(
                limits(&loaded).contains(&("kept".to_owned(), 7)),
                "{}: its limits are gone",
                file.display()
            );
        }
    }
    assert!(refused >= 60, "only {refused} of them are errors");
}

/// A file that can't be read at all may hold any domain: what is not known is not let through as if nobody limited it.
#[test]
fn an_unreadable_file_leaves_no_domain_without_limits() {
    let unreadable = SourceFile {
        path: "a.yaml".into(),
        content: Err("permission denied".to_owned()),
    };
    let good = SourceFile {
        path: "b.yaml".into(),
        content: Ok(policy("b", 2)),
    };
    let mut loader = loader(false);
    let loaded = loader.load(&[unreadable, good.clone()]);
    assert!(matches!(loaded.snapshot.look_up("a"), Lookup::InError));
    assert!(matches!(loaded.snapshot.look_up("b"), Lookup::Found(_)));
    let loaded = loader.load(&[good]);
    assert!(matches!(loaded.snapshot.look_up("a"), Lookup::Unknown));
}

/// Opening a pipe waits for a writer, and names that are no text can look alike.
#[test]
fn pipes_and_odd_names_do_not_stop_a_load() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = support::policies(&[("a.yaml", &policy("a", 1))]);
    let made = std::process::Command::new("mkfifo")
        .arg(dir.path().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    let service = Service::start(dir.path(), &[]);
    assert_eq!(limit_in_force(&service, "a"), Some(1));
    for name in [b"\xfe.yaml", b"\xff.yaml"] {
        support::write(
            &dir.path().join(std::ffi::OsStr::from_bytes(name)),
            &policy("b", 2),
        );
    }
    support::eventually("both are errors", Duration::from_secs(2), || {
        service
            .get("/metrics")
            .body
            .contains("ratekeeper_policy_files_in_error 2")
    });
    assert_eq!(limit_in_force(&service, "a"), Some(1));
}
