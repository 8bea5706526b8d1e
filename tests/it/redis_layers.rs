//! What stands before Redis, in every combination, over two instances with one real Redis: no rolling window is broken, and Redis is
//! asked as seldom as is promised.

use std::path::Path;
use std::time::Duration;

use crate::support::on_redis::{ask, metric, remaining};
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, built, eventually, rk_load};

/// Each layer on and off.
const ALL: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

fn instance(policies: &Path, redis: &Redis, (deny_cache, leases): (bool, bool)) -> Service {
    let on = |it: bool| if it { "true" } else { "false" };
    let settings = [
        ("REDIS_URL", redis.address()),
        ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
        ("REDIS_OP_TIMEOUT", "300ms".to_owned()),
        ("RATEKEEPER_REDIS_DENY_CACHE", on(deny_cache).to_owned()),
        ("RATEKEEPER_REDIS_LEASES", on(leases).to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let service = Service::start_release(policies, &settings);
    service.wait_connected();
    service
}

fn of_leases(service: &Service, result: &str) -> f64 {
    metric(
        service,
        &format!("ratekeeper_lease_hits_total{{result=\"{result}\"}}"),
    )
}

/// All that was booked ahead is spent, given back or known to be lost.
fn assert_all_accounted(service: &Service) {
    eventually("nothing is held", Duration::from_secs(3), || {
        metric(service, "ratekeeper_lease_held_hits") == 0.0
            && of_leases(service, "granted")
                == of_leases(service, "spent") - of_leases(service, "undone")
                    + of_leases(service, "returned")
                    + of_leases(service, "stranded")
    });
    assert_eq!(of_leases(service, "stranded"), 0.0);
}

#[test]
fn no_rolling_window_is_broken_whatever_stands_before() {
    std::sync::LazyLock::force(&built::SERVICE);
    rk_load::prepare();
    let seconds = if std::env::var_os("RATEKEEPER_SOAK").is_some() {
        "30s"
    } else {
        "4s"
    };
    for limit in ["3000", "300"] {
        let policy = format!(
            "domain: load\ndescriptors:\n  - {{key: user, rate_limit: {{unit: second, requests_per_unit: {limit}}}}}\n"
        );
        let dir = support::policies(&[("load.yaml", &policy)]);
        for layers in ALL {
            let redis = Redis::start();
            let services = [
                instance(dir.path(), &redis, layers),
                instance(dir.path(), &redis, layers),
            ];
            let ports = services.each_ref().map(Service::grpc_port);
            let arguments = [
                "--domain",
                "load",
                "--descriptor",
                "user={key}",
                "--keys",
                "2",
                "--connections",
                "4",
                "--in-flight",
                "8",
                "--duration",
                seconds,
                "--audit",
                "--limit",
                limit,
                "--window",
                "1",
                "--grpc-timeout",
                "1s",
            ];
            let report = rk_load::start(&ports, &arguments).finish();
            println!(
                "deny cache, leases: {layers:?}, {limit} a second\n{}",
                report.summary
            );
            report.assert_all_decided();
            assert!(report.success, "{layers:?}: {}", report.summary);
            let used = report.json["audit"]["utilisation"].as_f64().unwrap();
            assert!(
                used >= 0.95,
                "{layers:?}: only {used} of the limit\n{}",
                report.summary
            );
            for service in &services {
                assert_eq!(service.without_store(), 0, "{layers:?}");
                assert_all_accounted(service);
                let served = metric(service, "ratekeeper_deny_cache_total{result=\"served\"}");
                assert_eq!(served > 0.0, layers.0, "{layers:?}: {served} denied from memory");
                let spent = of_leases(service, "spent");
                assert_eq!(spent > 0.0, layers.1, "{layers:?}: {spent} spent");
            }
        }
    }
}

const HOT: &str = "
domain: load
descriptors:
  - {key: user, rate_limit: {unit: minute, requests_per_unit: 1000000000}}
  - {key: over, rate_limit: {unit: hour, requests_per_unit: 1}}
";

/// At 10,000 a second on two instances together: Redis is asked for 2 of 100 decisions on a hot counter, and for 1 of 1,000 denials.
#[test]
fn a_hot_counter_needs_redis_seldom() {
    std::sync::LazyLock::force(&built::SERVICE);
    rk_load::prepare();
    let (dir, redis) = (support::policies(&[("load.yaml", HOT)]), Redis::start());
    for (key, most) in [("user", 0.02), ("over", 0.001)] {
        let services = [
            instance(dir.path(), &redis, (true, true)),
            instance(dir.path(), &redis, (true, true)),
        ];
        let ports = services.each_ref().map(Service::grpc_port);
        let descriptor = format!("{key}=one-{{key}}");
        let arguments = [
            "--domain",
            "load",
            "--descriptor",
            &descriptor,
            "--distribution",
            "one",
            "--rate",
            "10000",
            "--connections",
            "4",
            "--duration",
            "3s",
            "--warmup",
            "1s",
        ];
        let report = rk_load::start(&ports, &arguments).finish();
        report.assert_all_decided();
        let decided = (report.total("ok") + report.total("over_limit")) as f64;
        let calls: f64 = services
            .iter()
            .map(|service| {
                metric(service, "ratekeeper_redis_calls_total ")
                    + metric(service, "ratekeeper_lease_calls_total ")
            })
            .sum();
        println!("{key}: {calls} calls for {decided} decisions\n{}", report.summary);
        assert!(decided > 20_000.0, "{}", report.summary);
        assert!(
            calls / decided <= most,
            "{key}: {calls} calls for {decided} decisions"
        );
    }
}

const MIXED: &str = "
domain: d
descriptors:
  - {key: few, rate_limit: {unit: hour, requests_per_unit: 3}}
  - {key: many, rate_limit: {unit: hour, requests_per_unit: 100000}}
";

/// A denial from memory says what Redis would, until something makes room.
#[test]
fn a_remembered_denial_ends_with_a_refund() {
    std::sync::LazyLock::force(&built::SERVICE);
    let (dir, redis) = (support::policies(&[("d.yaml", MIXED)]), Redis::start());
    let service = instance(dir.path(), &redis, (true, true));
    let served = || metric(&service, "ratekeeper_deny_cache_total{result=\"served\"}");
    for _ in 0..3 {
        assert!(ask(&service, &[("few", "a", 1)]).is_ok());
    }
    let first = ask(&service, &[("few", "a", 1)]);
    let second = ask(&service, &[("few", "a", 1)]);
    assert!(!first.is_ok() && !second.is_ok());
    assert!(
        first.wait(0).abs_diff(second.wait(0)) <= 1,
        "{first:?}, {second:?}"
    );
    assert_eq!(served(), 1.0);
    // Others, other hits, and other limits with it are not the same.
    assert!(ask(&service, &[("few", "b", 1)]).is_ok());
    assert!(!ask(&service, &[("few", "a", 2)]).is_ok());
    assert!(!ask(&service, &[("few", "a", 1), ("many", "a", 1)]).is_ok());
    assert_eq!(served(), 1.0);
    assert_eq!(
        remaining(&service, "many", "a"),
        100_000,
        "a denied request charges nothing"
    );
    // One hit back is room for one.
    assert!(ask(&service, &[("few", "a", -1)]).is_ok());
    assert!(ask(&service, &[("few", "a", 1)]).is_ok());
    assert!(!ask(&service, &[("few", "a", 1)]).is_ok());
    assert_eq!(served(), 1.0);
}
