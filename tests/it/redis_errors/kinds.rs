//! Servers of other kinds: what matters most, on each.

use std::process::Command;
use std::time::Duration;

use ratekeeper::store::redis::script::{Dialect, Script};
use tempfile::TempDir;

use crate::support::redis::{Kind, Redis};
use crate::support::service::Service;
use crate::support::{self, eventually};

const POLICY: &str = "
domain: d
descriptors:
  - {key: sliding, rate_limit: {unit: year, requests_per_unit: 5, on_store_error: deny}}
  - {key: fixed, rate_limit: {unit: year, requests_per_unit: 5, on_store_error: deny, algorithm: fixed_window}}
  - {key: bucket, rate_limit: {unit: year, requests_per_unit: 5, on_store_error: deny, algorithm: token_bucket}}
";

fn instance(redis: &Redis) -> (Service, TempDir) {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let address = redis.address();
    let settings = [
        ("REDIS_URL", address.as_str()),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_OP_TIMEOUT", "300ms"),
    ];
    let service = Service::start(dir.path(), &settings);
    service.wait_connected();
    (service, dir)
}

/// How many of eight requests are admitted by two instances in turn.
fn admitted(services: &[Service], key: &str, value: &str) -> usize {
    let json = super::json(&[&[(key, value)]]);
    let asked = (0..8).map(|number| services[number % services.len()].ask(&json));
    asked.filter(|response| response.status == 200).count()
}

/// Two instances count together, deny, and use it again after a restart; the doctor finds nothing wrong.
fn serves(kind: Kind, name: &str, dialect: Dialect) {
    let mut redis = Redis::start_kind(kind, &[]);
    let [(one, _of_one), (other, _of_other)] = [instance(&redis), instance(&redis)];
    let services = [one, other];
    for key in ["sliding", "fixed", "bucket"] {
        assert_eq!(admitted(&services, key, "x"), 5, "{key}");
    }
    for script in Script::all() {
        let known: (bool,) = redis.command(&format!("SCRIPT EXISTS {}", script.hash(dialect)));
        assert!(known.0, "{dialect:?} is not what it was told");
    }
    assert!(services.iter().all(|service| service.without_store() == 0));
    redis.restart();
    let probe = super::json(&[&[("sliding", "probe")]]);
    let back = eventually("in use again", Duration::from_secs(5), || {
        services.iter().all(|service| {
            let before = service.without_store();
            service.ask(&probe);
            service.without_store() == before
        })
    });
    println!("{name}: in use again after {back:?}");
    for key in ["sliding", "fixed", "bucket"] {
        assert_eq!(admitted(&services, key, "y"), 5, "{key}");
    }
    examined(&redis, name);
}

fn examined(redis: &Redis, name: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
        .env_clear()
        .env("REDIS_URL", redis.address())
        .arg("doctor")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let says = |check: &str, found: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("ok       {check} ")));
        line.is_some_and(|line| line.contains(found))
    };
    assert!(says("server", name) && says("scripts", "loaded"), "{text}");
}

#[test]
fn redis_6_2() {
    serves(Kind::Redis62, "Redis 6.2.", Dialect::Plain);
}

#[test]
fn valkey_9_1() {
    serves(Kind::Valkey, "Valkey 9.1.", Dialect::Flags);
}
