//! Limits shared by instances over a real Redis: exact, and always answered.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use redis::Commands as _;

use crate::limiter_oracle::Random;
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, rk_load};

const STRICT: (&str, &str) = ("REDIS_OP_TIMEOUT", "300ms");

fn instance(policies: &Path, redis: &Redis, settings: &[(&str, &str)]) -> Service {
    let address = redis.address();
    let mut all = vec![("REDIS_URL", address.as_str()), ("REDIS_SOCKET_TYPE", "tcp")];
    all.extend_from_slice(settings);
    let service = Service::start(policies, &all);
    service.wait_connected();
    service
}

fn ask(service: &Service, key: &str, value: &str) -> (u16, String) {
    let json =
        format!(r#"{{"domain":"d","descriptors":[{{"entries":[{{"key":"{key}","value":"{value}"}}]}}]}}"#);
    let response = service.ask(&json);
    (response.status, response.body)
}

fn admitted(service: &Service, key: &str, value: &str, of: usize) -> usize {
    (0..of).filter(|_| ask(service, key, value).0 == 200).count()
}

const POLICY: &str = "
domain: d
descriptors:
  - {key: sliding, rate_limit: {unit: hour, requests_per_unit: 20}}
  - {key: fixed, rate_limit: {unit: hour, requests_per_unit: 20, algorithm: fixed_window}}
  - {key: bucket, rate_limit: {unit: day, requests_per_unit: 20, algorithm: token_bucket}}
  - {key: open, rate_limit: {unit: hour, requests_per_unit: 2, on_store_error: allow}}
  - {key: closed, rate_limit: {unit: hour, requests_per_unit: 2, on_store_error: deny}}
  - {key: local, rate_limit: {unit: hour, requests_per_unit: 3}}
";

#[test]
fn two_instances_share_every_algorithm() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let services = [
        instance(dir.path(), &redis, &[STRICT]),
        instance(dir.path(), &redis, &[STRICT]),
    ];
    for key in ["sliding", "fixed", "bucket"] {
        let counts: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_usize)
                .map(|thread| {
                    let service = &services[thread % 2];
                    scope.spawn(move || admitted(service, key, "x", 25))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts.iter().sum::<usize>(), 20, "{key}: {counts:?}");
    }
    for service in &services {
        assert_eq!(service.without_store(), 0);
        assert!(
            service
                .get("/readyz?verbose")
                .body
                .contains("store: redis, in use")
        );
    }
}

#[test]
fn a_unix_socket_a_password_and_a_prefix_are_used() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let redis = Redis::start_with(&["--requirepass", "hunter2"]);
    let socket = redis.socket();
    let settings = [
        ("REDIS_URL", socket.to_str().unwrap()),
        ("REDIS_SOCKET_TYPE", "unix"),
        ("REDIS_AUTH", "hunter2"),
        ("CACHE_KEY_PREFIX", "mine:"),
        ("REDIS_POOL_SIZE", "5"),
        STRICT,
    ];
    let service = Service::start(dir.path(), &settings);
    service.wait_connected();
    assert_eq!(admitted(&service, "sliding", "x", 30), 20);
    let url = format!("redis://:hunter2@{}", redis.address());
    let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut keys: Vec<String> = client.keys("*").unwrap();
    keys.sort();
    // The instance's marker has a name of its own.
    keys.retain(|key| !key.starts_with("mine:{0}seen:"));
    assert_eq!(keys, ["mine:instances", "mine:{d|sliding=x}:sw1:3600"]);
    assert!(!service.output().contains("hunter2"));
}

/// Random limits, windows and weights; the generator audits every admission.
#[test]
fn no_rolling_window_is_broken_over_two_instances() {
    rk_load::prepare();
    let mut random = Random::new(42);
    let (mut policy, mut limits) = ("domain: load\ndescriptors:\n".to_owned(), serde_json::Map::new());
    for key in 0..40 {
        let limit = random.pick(&[1, 2, 7, 50, 125, 126, 300, 1_000, 5_000]);
        let window = 1 + random.below(3);
        policy.push_str(&format!(
            "  - {{key: user, value: '{key}', rate_limit: {{unit: second, unit_multiplier: {window}, requests_per_unit: {limit}}}}}\n"
        ));
        limits.insert(
            key.to_string(),
            serde_json::json!({"limit": limit, "window": window}),
        );
    }
    let (dir, redis) = (support::policies(&[("load.yaml", &policy)]), Redis::start());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&limits).unwrap()).unwrap();
    let services = [
        instance(dir.path(), &redis, &[STRICT]),
        instance(dir.path(), &redis, &[STRICT]),
    ];
    let ports = services.each_ref().map(Service::grpc_port);
    for (weights, seconds) in [("1-5", "10s"), ("1", "4s")] {
        let run = rk_load::start(
            &ports,
            &[
                "--domain",
                "load",
                "--descriptor",
                "user={key}",
                "--keys",
                "40",
                "--connections",
                "8",
                "--in-flight",
                "8",
                "--duration",
                seconds,
                "--weights",
                weights,
                "--audit",
                "--audit-limits",
                file.path().to_str().unwrap(),
                "--grpc-timeout",
                "1s",
            ],
        );
        let report = run.finish();
        println!("weights {weights}\n{}", report.summary);
        report.assert_all_decided();
        assert!(
            report.success,
            "the audit found a broken window\n{}",
            report.summary
        );
        assert!(report.json["audit"]["admitted_hits"].as_u64().unwrap() > 1_000);
    }
    for service in &services {
        assert_eq!(service.without_store(), 0);
    }
}

/// The safe side of ticks costs less than 3 % of what the limits allow.
#[test]
fn under_overload_nearly_all_of_the_limits_is_admitted() {
    rk_load::prepare();
    let policy =
        "domain: load\ndescriptors:\n  - {key: user, rate_limit: {unit: second, requests_per_unit: 150}}\n";
    let (dir, redis) = (support::policies(&[("load.yaml", policy)]), Redis::start());
    let services = [
        instance(dir.path(), &redis, &[STRICT]),
        instance(dir.path(), &redis, &[STRICT]),
    ];
    let ports = services.each_ref().map(Service::grpc_port);
    let report = rk_load::start(
        &ports,
        &[
            "--domain",
            "load",
            "--descriptor",
            "user={key}",
            "--keys",
            "4",
            "--connections",
            "8",
            "--in-flight",
            "8",
            "--duration",
            "10s",
            "--audit",
            "--limit",
            "150",
            "--window",
            "1",
            "--grpc-timeout",
            "1s",
        ],
    )
    .finish();
    println!("{}", report.summary);
    report.assert_all_decided();
    assert!(report.success, "{}", report.summary);
    let used = report.json["audit"]["utilisation"].as_f64().unwrap();
    assert!(
        used >= 0.97,
        "only {used} of the limits was admitted\n{}",
        report.summary
    );
}

/// One run at 1,000/s in the background, while `fault` does its worst.
fn under_load(services: &[Service], timeout: &str, seconds: &str, fault: impl FnOnce()) -> rk_load::Report {
    let ports: Vec<u16> = services.iter().map(Service::grpc_port).collect();
    let run = rk_load::start(
        &ports,
        &[
            "--domain",
            "load",
            "--descriptor",
            "user={key}",
            "--keys",
            "100",
            "--rate",
            "1000",
            "--connections",
            "4",
            "--grpc-timeout",
            timeout,
            "--give-up-after",
            "1s",
            "--duration",
            seconds,
            "--audit",
            "--limit",
            "30",
            "--window",
            "1",
        ],
    );
    fault();
    let report = run.finish();
    println!("{}", report.summary);
    report
}

const LOAD_POLICY: &str =
    "domain: load\ndescriptors:\n  - {key: user, rate_limit: {unit: second, requests_per_unit: 30}}\n";

fn seconds(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

#[test]
fn every_request_is_decided_while_redis_is_killed_and_comes_back() {
    rk_load::prepare();
    let (dir, mut redis) = (support::policies(&[("load.yaml", LOAD_POLICY)]), Redis::start());
    let services = [instance(dir.path(), &redis, &[])];
    let report = under_load(&services, "20ms", "7s", || {
        seconds(2.0);
        redis.kill();
        seconds(2.0);
        redis.restart();
        seconds(1.5);
        let page = services[0].get("/readyz?verbose").body;
        assert!(
            page.contains("store: redis, in use"),
            "1.5 s after its return: {page}"
        );
    });
    report.assert_all_decided();
    assert!(services[0].without_store() > 500, "the fault was not felt");
}

#[test]
fn bug_11_what_was_given_up_in_a_freeze_charges_nothing() {
    rk_load::prepare();
    let (dir, redis) = (support::policies(&[("load.yaml", LOAD_POLICY)]), Redis::start());
    let services = [instance(dir.path(), &redis, &[])];
    let report = under_load(&services, "20ms", "9s", || {
        seconds(2.0);
        redis.freeze();
        seconds(3.0);
        redis.thaw();
    });
    report.assert_all_decided();
    // 1,000/s over 100 keys are 10/s each: below the limit of 30/s, so whoever is denied after the thaw is denied by charges
    // of calls that were given up.
    let series = report.json["series"].as_array().unwrap();
    let denied: u64 = series[7..]
        .iter()
        .map(|second| second["over_limit"].as_u64().unwrap())
        .sum();
    assert_eq!(denied, 0, "{series:#?}");
    assert!(services[0].without_store() > 500, "the fault was not felt");
}

#[test]
fn bug_12_a_flush_of_the_scripts_is_not_noticed() {
    rk_load::prepare();
    let (dir, redis) = (support::policies(&[("load.yaml", LOAD_POLICY)]), Redis::start());
    let services = [instance(dir.path(), &redis, &[STRICT])];
    let report = under_load(&services, "1s", "3s", || {
        let mut client = redis.connect();
        for _ in 0..20 {
            let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut client).unwrap();
            seconds(0.1);
        }
    });
    report.assert_all_decided();
    assert!(report.success, "{}", report.summary);
    assert_eq!(services[0].without_store(), 0);
    let page = services[0].get("/metrics").body;
    let reloads = page
        .lines()
        .find_map(|line| line.strip_prefix("ratekeeper_redis_script_reloads_total "));
    assert!(
        reloads.unwrap().parse::<u64>().unwrap() > 5,
        "the scripts were not flushed"
    );
}

#[test]
fn a_key_of_a_wrong_type_spoils_only_its_own_requests() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let service = instance(dir.path(), &redis, &[STRICT]);
    let mut client = redis.connect();
    let () = client.set("rk:{d|sliding=bad}:sw1:3600", "not ours").unwrap();
    std::thread::scope(|scope| {
        let spoiled = scope.spawn(|| admitted(&service, "sliding", "bad", 40));
        let good: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let service = &service;
                    move || admitted(service, "sliding", &format!("good{n}"), 40)
                })
            })
            .collect();
        for good in good {
            assert_eq!(good.join().unwrap(), 20);
        }
        assert_eq!(spoiled.join().unwrap(), 20, "counted on this instance's share");
    });
    let kept: String = client.get("rk:{d|sliding=bad}:sw1:3600").unwrap();
    assert_eq!(kept, "not ours");
    assert_eq!(service.without_store(), 40);
}

#[test]
fn each_limit_does_without_redis_what_it_says() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let redis = Redis::start();
    let address = redis.address();
    drop(redis);
    let service = Service::start(
        dir.path(),
        &[("REDIS_URL", &address), ("RATEKEEPER_INSTANCES", "2")],
    );
    assert_eq!(
        service.get("/readyz").status,
        200,
        "ready does not depend on redis"
    );
    assert_eq!(admitted(&service, "open", "x", 10), 10);
    assert_eq!(admitted(&service, "closed", "x", 10), 0);
    assert_eq!(admitted(&service, "sliding", "x", 30), 10, "half of the limit");
    assert_eq!(
        admitted(&service, "local", "x", 10),
        1,
        "of 3, each of 2 instances may admit 1"
    );
    assert!(service.without_store() >= 60);
}

#[test]
fn all_or_nothing_holds_over_algorithms() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let service = instance(dir.path(), &redis, &[STRICT]);
    assert_eq!(admitted(&service, "local", "x", 3), 3);
    let both = r#"{"domain":"d","descriptors":[{"entries":[{"key":"fixed","value":"m"}]},{"entries":[{"key":"bucket","value":"m"}]},
        {"entries":[{"key":"local","value":"x"}]}]}"#;
    let mut client = redis.connect();
    // Redis lists keys in any order.
    let before: BTreeSet<String> = client.keys("*{*").unwrap();
    for _ in 0..10 {
        assert_eq!(service.ask(both).status, 429);
    }
    let after: BTreeSet<String> = client.keys("*{*").unwrap();
    assert_eq!(before, after, "a denied request wrote something");
    assert_eq!(admitted(&service, "fixed", "m", 30), 20);
}

/// All that holds behind a real Envoy with counters in memory holds with counters in Redis, without one decision made
/// otherwise: the same tests again, in a process that tells them so.
#[test]
fn all_that_holds_behind_a_proxy_holds_here() {
    let _alone = rk_load::alone();
    let redis = Redis::start();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "envoy_headers",
            "envoy_hits",
            "envoy_limits",
            "envoy_reload",
            "envoy_shutdown",
            "--test-threads",
            "2",
        ])
        .env(support::service::REDIS, redis.address())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("test result: ok. 24 passed"),
        "not all of them ran:\n{text}"
    );
}

/// A measured cost on a limit that is counted on a share, or denied unseen, once made the metrics run over.
#[test]
fn records_are_counted_without_redis_too() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let settings = [("REDIS_URL", "127.0.0.1:1"), ("RATEKEEPER_INSTANCES", "2")];
    let service = Service::start(dir.path(), &settings);
    for key in ["sliding", "closed", "open", "local"] {
        let json = format!(
            r#"{{"domain":"d","descriptors":[{{"entries":[{{"key":"{key}","value":"r"}}],"hitsAddend":"15"}}]}}"#
        );
        for _ in 0..3 {
            let status = service.ask(&json).status;
            assert!(status == 200 || status == 429, "{key}: {status}");
        }
    }
    let page = service.get("/metrics").body;
    let counts = page.lines().filter(|line| line.starts_with("ratekeeper_limit_"));
    let largest = counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .max();
    assert!(largest.is_some_and(|count| (1..1_000).contains(&count)), "{page}");
}
