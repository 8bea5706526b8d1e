//! Sentinels and clusters with passwords and TLS, a second Redis for limits of one second, and sentinels that are gone: end to end.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::date_time_ymd;
use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::cluster::{self, Cluster};
use crate::support::on_redis::{ask, ask_redis, metric, remaining, start, wait_used};
use crate::support::redis::Redis;
use crate::support::sentinel::{self, Sentinels};
use crate::support::service::Service;
use crate::support::{self, eventually};

const WITHIN: Duration = Duration::from_secs(20);
const POLICY: &str = "
domain: d
descriptors:
  - {key: sliding, rate_limit: {unit: hour, requests_per_unit: 20}}
  - {key: second, rate_limit: {unit: second, requests_per_unit: 1000000}}
  - {key: strict_second, rate_limit: {unit: second, requests_per_unit: 0}}
  - {key: two_seconds, rate_limit: {unit: second, unit_multiplier: 2, requests_per_unit: 1000000}}
  - {key: none, rate_limit: {unit: hour, requests_per_unit: 0}}
";
/// In all passwords, and in nothing else.
const SECRET: &str = "hunter2";
const DATA: &str = "hunter2-of-the-data";
const WATCH: &str = "hunter2-of-the-sentinels";
const UNTRUSTED: &str = "does not come from a trusted authority";

/// Settings of a deployment, in the order in which they are tried.
type Settings<'a> = Vec<(&'a str, &'a str)>;

fn policies() -> TempDir {
    support::policies(&[("d.yaml", POLICY)])
}

/// An instance comes through, and counts there.
fn assert_let_in(dir: &Path, settings: &Settings<'_>) -> Service {
    let mut all = settings.clone();
    all.push(("LOG_LEVEL", "trace"));
    let service = start(dir, &all);
    let admitted = (0..30).filter(|_| ask(&service, &[("sliding", "x", 1)]).is_ok());
    assert!(admitted.count() <= 20);
    assert_eq!(service.without_store(), 0);
    assert_eq!(remaining(&service, "sliding", "x"), 0);
    assert!(!service.output().contains(SECRET), "{}", service.output());
    service
}

/// An instance does not come through, says why, and decides all the same.
fn assert_kept_out(dir: &Path, settings: &Settings<'_>, reason: &str) {
    let mut all = vec![("LOG_LEVEL", "trace")];
    all.extend_from_slice(settings);
    let service = Service::start(dir, &all);
    let told = || {
        let output = service.output();
        output
            .lines()
            .any(|line| line.contains("ERROR") && line.contains(reason))
    };
    eventually(reason, WITHIN, told);
    assert!(
        ask(&service, &[("sliding", "y", 1)]).is_ok(),
        "decided all the same"
    );
    assert!(service.without_store() > 0, "it came through");
    assert!(!service.output().contains(SECRET), "{}", service.output());
}

/// The settings, with other ones in place of those of the same names.
fn with<'a>(settings: &Settings<'a>, others: &[(&'a str, &'a str)]) -> Settings<'a> {
    let kept = settings
        .iter()
        .filter(|(name, _)| others.iter().all(|(other, _)| other != name));
    kept.chain(others)
        .filter(|(_, value)| !value.is_empty())
        .copied()
        .collect()
}

fn write_password(dir: &Path, name: &str, password: &str) -> String {
    let path = dir.join(name);
    support::write(&path, &format!("{password}\n"));
    path.to_str().unwrap().to_owned()
}

#[test]
fn sentinels_and_their_servers_have_passwords_of_their_own() {
    let dir = policies();
    let mut all = Sentinels::start_with(&sentinel::Setting {
        password: Some(DATA.to_owned()),
        sentinel_password: Some(WATCH.to_owned()),
        ..sentinel::Setting::default()
    });
    let url = all.url();
    let right = vec![
        ("REDIS_TYPE", "SENTINEL"),
        ("REDIS_URL", &url),
        ("REDIS_AUTH", DATA),
        ("REDIS_SENTINEL_AUTH", WATCH),
    ];
    let first = assert_let_in(dir.path(), &right);
    let files = tempfile::tempdir().unwrap();
    let (file, wrong_file) = (
        write_password(files.path(), "right", DATA),
        write_password(files.path(), "wrong", "hunter2-of-nobody"),
    );
    for settings in [
        with(&right, &[("REDIS_AUTH", ""), ("REDIS_AUTH_FILE", &file)]),
        with(&right, &[("REDIS_AUTH", "default:hunter2-of-the-data")]),
    ] {
        assert_let_in(dir.path(), &settings);
    }
    let sentinel = format!("error=\"sentinel {}: ", all.sentinels[1].address());
    let (refused, missing) = (
        format!("{sentinel}wrong user or password"),
        format!("{sentinel}refused: NOAUTH"),
    );
    for (others, reason) in [
        ([("REDIS_AUTH", "not-hunter2")], "error=\"wrong user or password"),
        ([("REDIS_AUTH", "")], "error=\"refused: NOAUTH"),
        (
            [("REDIS_AUTH_FILE", wrong_file.as_str())],
            "error=\"wrong user or password",
        ),
        ([("REDIS_SENTINEL_AUTH", "not-hunter2")], &refused),
        ([("REDIS_SENTINEL_AUTH", "")], &missing),
    ] {
        assert_kept_out(dir.path(), &with(&right, &others), reason);
    }
    // The new primary is used with the same ones.
    let old = all.primary();
    all.members[old].kill();
    all.wait_other_primary(old, WITHIN);
    wait_used(&first, "sliding", "other");
    assert!(!first.output().contains(SECRET), "{}", first.output());
}

#[test]
fn a_cluster_has_a_password() {
    let dir = policies();
    let all = Cluster::start_with(&cluster::Setting {
        replicas: false,
        password: Some(DATA.to_owned()),
        ..cluster::Setting::default()
    });
    let url = all.url();
    let right = vec![
        ("REDIS_TYPE", "CLUSTER"),
        ("REDIS_URL", &url),
        ("REDIS_AUTH", DATA),
    ];
    assert_let_in(dir.path(), &right);
    let files = tempfile::tempdir().unwrap();
    let (file, wrong_file) = (
        write_password(files.path(), "right", DATA),
        write_password(files.path(), "wrong", "hunter2-of-nobody"),
    );
    assert_let_in(
        dir.path(),
        &with(&right, &[("REDIS_AUTH", ""), ("REDIS_AUTH_FILE", &file)]),
    );
    let node = format!("error={}: ", all.nodes[1].address());
    let (refused, missing) = (
        format!("{node}wrong user or password"),
        format!("{node}refused: NOAUTH"),
    );
    for (others, reason) in [
        ([("REDIS_AUTH", "not-hunter2")], &refused),
        ([("REDIS_AUTH", "")], &missing),
        ([("REDIS_AUTH_FILE", wrong_file.as_str())], &refused),
    ] {
        assert_kept_out(dir.path(), &with(&right, &others), reason);
    }
}

/// A folder with a certificate of `ours` for the loopback address, that of `ours`, and that of somebody else.
fn certificates(ours: &Authority) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    ours.write(dir.path(), "ca.crt");
    Authority::new().write(dir.path(), "theirs.crt");
    ours.issue(dir.path(), "server", "127.0.0.1");
    ours.issue(dir.path(), "fresh", "127.0.0.1");
    ours.issue_with(dir.path(), "expired", "127.0.0.1", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    dir
}

/// Has a server show this certificate to whoever comes from now on.
fn show(server: &Redis, files: &TempDir, name: &str) {
    let file = |ending: &str| {
        files
            .path()
            .join(format!("{name}.{ending}"))
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (cert, key) = (file("crt"), file("key"));
    let () = server.command(&format!("CONFIG SET tls-cert-file {cert} tls-key-file {key}"));
}

#[test]
fn sentinels_and_their_servers_speak_tls() {
    let (dir, ours) = (policies(), Authority::new());
    let files = certificates(&ours);
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let mut all = Sentinels::start_with(&sentinel::Setting {
        tls: Some(files.path().to_owned()),
        ..sentinel::Setting::default()
    });
    let (url, ca, theirs) = (all.url(), path("ca.crt"), path("theirs.crt"));
    let right = vec![
        ("REDIS_TYPE", "SENTINEL"),
        ("REDIS_URL", &url),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CACERT", &ca),
    ];
    let first = assert_let_in(dir.path(), &right);
    assert_kept_out(
        dir.path(),
        &with(&right, &[("REDIS_TLS_CACERT", &theirs)]),
        UNTRUSTED,
    );
    let old = all.primary();
    all.members[old].kill();
    let (new, _) = all.wait_other_primary(old, WITHIN);
    wait_used(&first, "sliding", "other");
    show(&all.members[new], &files, "expired");
    assert_kept_out(dir.path(), &right, "error=\"the server's certificate has expired");
    show(&all.members[new], &files, "fresh");
    drop(assert_let_in(dir.path(), &right));
    // The sentinels take no such order: they read it when they start.
    for ending in ["crt", "key"] {
        std::fs::copy(
            path(&format!("expired.{ending}")),
            path(&format!("server.{ending}")),
        )
        .unwrap();
    }
    all.sentinels.iter_mut().for_each(Redis::restart);
    let reason = format!(
        "sentinel {}: the server's certificate has expired",
        all.sentinels[0].address_of_others()
    );
    assert_kept_out(dir.path(), &right, &reason);
}

#[test]
fn a_cluster_speaks_tls() {
    let (dir, ours) = (policies(), Authority::new());
    let files = certificates(&ours);
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let all = Cluster::start_with(&cluster::Setting {
        replicas: false,
        tls: Some(files.path().to_owned()),
        ..cluster::Setting::default()
    });
    let (url, ca, theirs) = (all.url(), path("ca.crt"), path("theirs.crt"));
    let right = vec![
        ("REDIS_TYPE", "CLUSTER"),
        ("REDIS_URL", &url),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CACERT", &ca),
    ];
    assert_let_in(dir.path(), &right);
    assert_kept_out(
        dir.path(),
        &with(&right, &[("REDIS_TLS_CACERT", &theirs)]),
        UNTRUSTED,
    );
    all.nodes.iter().for_each(|node| show(node, &files, "expired"));
    let reason = format!(
        "{}: the server's certificate has expired",
        all.nodes[2].address_of_others()
    );
    assert_kept_out(dir.path(), &right, &reason);
    all.nodes.iter().for_each(|node| show(node, &files, "fresh"));
    assert_let_in(dir.path(), &right);
}

#[test]
fn limits_of_one_second_have_a_redis_of_their_own() {
    let (dir, main, mut second) = (policies(), Redis::start(), Redis::start());
    let (main_address, second_address) = (main.address(), second.address());
    let settings = [
        ("REDIS_URL", main_address.as_str()),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &second_address),
        ("REDIS_PERSECOND_OP_TIMEOUT", "300ms"),
    ];
    let service = start(dir.path(), &settings);
    let has = |redis: &Redis, key: &str| {
        redis.command::<u8>(&format!("EXISTS rk:{{d|{key}=x}}:sw1:{}", window(key))) == 1
    };
    for key in ["second", "two_seconds", "sliding"] {
        assert!(ask_redis(&service, (key, "x", 1)).is_ok());
        assert_eq!(
            (has(&second, key), has(&main, key)),
            (key == "second", key != "second"),
            "{key}"
        );
    }
    // All or nothing, whichever denies.
    for denying in ["none", "strict_second"] {
        for other in ["second", "sliding"] {
            let before = remaining(&service, "sliding", "x");
            assert!(!ask(&service, &[(other, "x", 1), (denying, "x", 1)]).is_ok());
            assert_eq!(remaining(&service, "sliding", "x"), before, "{other} {denying}");
            std::thread::sleep(Duration::from_millis(1_100));
            assert!(!ask(&service, &[(other, "x", 1), (denying, "x", 1)]).is_ok());
            assert_eq!(remaining(&service, "second", "x"), 1_000_000, "{other} {denying}");
        }
    }
    assert!(ask(&service, &[("second", "x", 1), ("sliding", "x", 1)]).is_ok());
    assert_eq!(
        (remaining(&service, "sliding", "x"), service.without_store()),
        (18, 0)
    );
    // Each is by itself when the other is gone.
    second.kill();
    eventually("it is away", WITHIN, || {
        let before = service.without_store();
        ask(&service, &[("second", "x", 0)]);
        service.without_store() > before && state(&service, "redis-per-second") > 0.0
    });
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        ask_redis(&service, ("sliding", "y", 0));
        ask_redis(&service, ("two_seconds", "y", 1));
    }
    let before = service.without_store();
    assert!(ask(&service, &[("second", "x", 1)]).is_ok());
    assert_eq!(service.without_store(), before + 1, "on its share");
    assert_eq!(state(&service, "redis"), 0.0);
    assert!(metric(&service, r#"ratekeeper_redis_connections{node="redis"}"#) > 0.0);
    assert_eq!(
        metric(
            &service,
            r#"ratekeeper_redis_connections{node="redis-per-second"}"#
        ),
        0.0
    );
    second.restart();
    wait_used(&service, "second", "x");
    main.freeze();
    eventually("it is away", WITHIN, || {
        let before = service.without_store();
        ask(&service, &[("sliding", "x", 0)]);
        service.without_store() > before && state(&service, "redis") > 0.0
    });
    ask_redis(&service, ("second", "x", 1));
    main.thaw();
    wait_used(&service, "sliding", "x");
}

/// The window of the limit of this key, in seconds, as it stands in a counter's key.
fn window(key: &str) -> u32 {
    match key {
        "second" => 1,
        "two_seconds" => 2,
        _ => 3_600,
    }
}

fn state(service: &Service, node: &str) -> f64 {
    metric(
        service,
        &format!("ratekeeper_redis_breaker_state{{node=\"{node}\"}}"),
    )
}

#[test]
fn sentinels_may_be_gone_while_the_primary_serves() {
    let (dir, mut all) = (policies(), Sentinels::start());
    let url = all.url();
    let settings = [("REDIS_TYPE", "SENTINEL"), ("REDIS_URL", url.as_str())];
    let service = start(dir.path(), &settings);
    // One is enough to be told.
    all.sentinels[..2].iter_mut().for_each(Redis::kill);
    drop(start(dir.path(), &settings));
    all.sentinels[2].kill();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        ask_redis(&service, ("sliding", "x", 0));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        service.output().contains("no sentinel answers"),
        "{}",
        service.output()
    );
    // Who starts now does without, until a sentinel is there.
    let late = Service::start(
        dir.path(),
        &[settings[0], settings[1], ("REDIS_OP_TIMEOUT", "300ms")],
    );
    assert!(ask(&late, &[("sliding", "x", 1)]).is_ok());
    assert_eq!(late.without_store(), 1);
    assert!(
        late.output().contains("redis can't be reached"),
        "{}",
        late.output()
    );
    all.sentinels[1].restart();
    let took = wait_used(&late, "sliding", "x");
    println!("used {took:?} after a sentinel came back");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(service.without_store(), 0);
    eventually("it is said", WITHIN, || {
        service.output().contains("sentinels answer again")
    });
}
