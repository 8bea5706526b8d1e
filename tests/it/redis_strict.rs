//! `strict: true`: denied while Redis is away, and for one window after it has come back without its data.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::time::{Duration, Instant};

use crate::support::on_redis::{ask, ask_redis, recoveries, remaining, start, wait_marked, wait_used};
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::{Options, Redis};
use crate::support::sentinel::Sentinels;
use crate::support::service::Service;
use crate::support::{self, eventually};

const WITHIN: Duration = Duration::from_secs(20);
/// The strict limits' window.
const WINDOW: Duration = Duration::from_secs(4);
const POLICY: &str = "
domain: d
descriptors:
  - {key: strict, rate_limit: {unit: second, unit_multiplier: 4, requests_per_unit: 1000, strict: true}}
  - {key: trial, shadow_mode: true, rate_limit: {unit: second, unit_multiplier: 4, requests_per_unit: 1000, strict: true}}
  - {key: plain, rate_limit: {unit: hour, requests_per_unit: 100}}
";
const STRICT: (&str, &str, i64) = ("strict", "a", 1);

fn instance(dir: &tempfile::TempDir, address: &str) -> Service {
    start(dir.path(), &[("REDIS_URL", address)])
}

fn policies() -> tempfile::TempDir {
    support::policies(&[("d.yaml", POLICY)])
}

/// Insists that the strict limit is denied from now on until `until`, and allowed again soon after that.
fn assert_denied_until(service: &Service, until: Instant) {
    let over = loop {
        let answer = ask(service, &[STRICT]);
        if answer.is_ok() {
            break Instant::now();
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(
            answer.wait(0) <= left.as_secs() + 2,
            "{} s, but {left:?} are left",
            answer.wait(0)
        );
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            left > Duration::ZERO || until.elapsed() < Duration::from_secs(2),
            "for ever"
        );
    };
    // The moment was seen from outside: a little late.
    assert!(
        over + Duration::from_millis(700) > until,
        "{:?} too early",
        until - over
    );
}

fn assert_not_denied(service: &Service) {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(ask_redis(service, STRICT).is_ok());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_denies_while_redis_is_away_and_a_window_longer_if_it_is_empty_then() {
    let mut redis = Redis::start();
    let dir = policies();
    let service = instance(&dir, &redis.address());
    // An empty server that it has never seen is no loss.
    assert_not_denied(&service);
    assert!(ask_redis(&service, ("plain", "a", 5)).is_ok());
    wait_marked(&redis, 1);
    redis.kill();
    let both = [STRICT, ("plain", "a", 1)];
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(1) {
        assert!(!ask(&service, &both).is_ok(), "away");
        assert!(ask(&service, &[("trial", "a", 1)]).is_ok(), "away, on trial");
    }
    // Beside a strict limit that denies, this one was not charged on its share.
    assert_eq!(ask(&service, &[("plain", "a", 1)]).remaining(0), 99);
    redis.restart();
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    let recovered = Instant::now();
    wait_used(&service, "plain", "a");
    let answer = ask(&service, &both);
    assert!(!answer.is_ok());
    assert!((3..=4).contains(&answer.wait(0)), "{}", answer.wait(0));
    assert!(ask_redis(&service, ("trial", "a", 1)).is_ok(), "on trial");
    // The 5 were recorded again.
    assert_eq!(
        remaining(&service, "plain", "a"),
        95,
        "charged beside a strict limit"
    );
    assert!(ask_redis(&service, ("plain", "b", 1)).is_ok(), "by itself");
    assert_denied_until(&service, recovered + WINDOW);
    assert_not_denied(&service);
    assert!(ask_redis(&service, both[1]).is_ok());
    assert_eq!(remaining(&service, "plain", "a"), 94);
}

/// A dump that is too old is as good as none.
#[test]
fn it_denies_for_a_window_after_an_old_dump() {
    let mut redis = Redis::start();
    let dir = policies();
    let service = instance(&dir, &redis.address());
    assert!(ask_redis(&service, STRICT).is_ok());
    wait_marked(&redis, 1);
    let () = redis.command("SAVE");
    std::thread::sleep(Duration::from_millis(4_500));
    redis.restart();
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    let recovered = Instant::now();
    wait_used(&service, "plain", "a");
    assert!(!ask(&service, &[STRICT]).is_ok());
    assert_denied_until(&service, recovered + WINDOW);
}

#[test]
fn it_does_not_deny_where_redis_has_its_data() {
    let mut redis = Options::default()
        .with(&["--appendonly", "yes", "--appendfsync", "always"])
        .start();
    let dir = policies();
    let service = instance(&dir, &redis.address());
    assert!(ask_redis(&service, STRICT).is_ok());
    wait_marked(&redis, 1);
    std::thread::sleep(Duration::from_millis(3_000));
    // The same process, after a while.
    redis.freeze();
    eventually("it is away", WITHIN, || !ask(&service, &[STRICT]).is_ok());
    std::thread::sleep(Duration::from_secs(3));
    redis.thaw();
    wait_used(&service, "plain", "a");
    assert_not_denied(&service);
    assert_eq!(recoveries(&service), 0);
    // Another process, with a log of all writes.
    redis.restart();
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    wait_used(&service, "plain", "a");
    assert_not_denied(&service);
    // An instance that comes new.
    let another = instance(&dir, &redis.address());
    assert_not_denied(&another);
}

#[test]
fn it_does_not_deny_after_a_failover_to_a_replica_in_step() {
    let mut all = Sentinels::start();
    let dir = policies();
    let settings = [("REDIS_TYPE", "SENTINEL"), ("REDIS_URL", &all.url())];
    let service = start(dir.path(), &settings);
    assert!(ask_redis(&service, STRICT).is_ok());
    let old = all.primary();
    wait_marked(&all.members[old], 1);
    std::thread::sleep(Duration::from_millis(3_000));
    all.members[old].kill();
    eventually("it is away", WITHIN, || !ask(&service, &[STRICT]).is_ok());
    all.wait_other_primary(old, WITHIN);
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    wait_used(&service, "plain", "a");
    assert_not_denied(&service);
}

/// What the first one writes there tells the second nothing.
#[test]
fn each_instance_notices_the_loss_by_itself() {
    let mut redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let dir = policies();
    let first = instance(&dir, &redis.address());
    let second = instance(&dir, &proxy.address());
    assert!(ask_redis(&first, STRICT).is_ok() && ask_redis(&second, STRICT).is_ok());
    wait_marked(&redis, 2);
    std::thread::sleep(Duration::from_millis(2_600));
    proxy.set(Mode::Refuse);
    redis.restart();
    eventually("a recovery", WITHIN, || recoveries(&first) == 1);
    let recovered = Instant::now();
    wait_used(&first, "plain", "a");
    assert!(!ask(&first, &[STRICT]).is_ok());
    wait_marked(&redis, 1);
    assert_denied_until(&first, recovered + WINDOW);
    assert!(ask_redis(&first, STRICT).is_ok());
    assert!(!ask(&second, &[STRICT]).is_ok(), "away");
    proxy.set(Mode::Pass);
    eventually("a recovery", WITHIN, || recoveries(&second) == 1);
    let recovered = Instant::now();
    wait_used(&second, "plain", "a");
    assert!(!ask(&second, &[STRICT]).is_ok());
    assert_denied_until(&second, recovered + WINDOW);
}
