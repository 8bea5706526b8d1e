//! Instances that count each other over a real Redis, and hold the limits together without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use ratekeeper::store::guard::share_of;
use redis::Commands as _;

use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, eventually, rk_load};

/// From a start, an end or a new Redis to a list that has settled: 4 s to forget, 3 s to settle, and time for a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// Windows that no run of the tests spans.
const POLICY: &str = "
domain: d
descriptors:
  - {key: two, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: ten, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: fixed, rate_limit: {unit: year, requests_per_unit: 10, algorithm: fixed_window}}
  - {key: bucket, rate_limit: {unit: year, requests_per_unit: 10, algorithm: token_bucket}}
  - {key: hundred, rate_limit: {unit: year, requests_per_unit: 100}}
";

fn start(policies: &Path, redis: &Redis) -> Service {
    let address = redis.address();
    let settings = [
        ("REDIS_URL", address.as_str()),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_OP_TIMEOUT", "300ms"),
        ("RATEKEEPER_SHUTDOWN_DRAIN_DELAY", "10ms"),
    ];
    Service::start(policies, &settings)
}

fn count(service: &Service) -> usize {
    let page = service.get("/metrics").body;
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("ratekeeper_instances "));
    count.map_or(0, |count| count.parse().unwrap())
}

fn page(service: &Service) -> String {
    service.get("/readyz?verbose").body
}

fn wait_counted(services: &[Service], expected: usize) {
    let shown = format!("instances: {expected} (counted)");
    eventually(&shown, SETTLED_WITHIN, || {
        services.iter().all(|service| page(service).contains(&shown))
    });
    for service in services {
        assert_eq!(count(service), expected);
    }
}

fn admitted(service: &Service, key: &str, value: &str, of: usize) -> usize {
    let json =
        format!(r#"{{"domain":"d","descriptors":[{{"entries":[{{"key":"{key}","value":"{value}"}}]}}]}}"#);
    (0..of).filter(|_| service.ask(&json).status == 200).count()
}

/// Asks each instance for more than the limit; who admitted how many.
fn spent(services: &[Service], key: &str, value: &str, limit: usize) -> Vec<usize> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = services
            .iter()
            .map(|service| scope.spawn(move || admitted(service, key, value, limit + 5)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All of a limit is admitted, by shares that differ by one at most.
fn assert_shared(services: &[Service], values: &[&str]) {
    for (key, limit) in [
        ("two", 2),
        ("ten", 10),
        ("fixed", 10),
        ("bucket", 10),
        ("hundred", 100),
    ] {
        let mut ways = BTreeSet::new();
        for value in values {
            let shares = spent(services, key, value, limit);
            println!("{key} = {limit}, {value}: {shares:?}");
            assert_eq!(shares.iter().sum::<usize>(), limit, "{key} {value}: {shares:?}");
            let each = limit / services.len();
            assert!(
                shares.iter().all(|share| [each, each + 1].contains(share)),
                "{key} {value}: {shares:?}"
            );
            ways.insert(shares);
        }
        let even = limit % services.len() == 0;
        assert!(
            even || values.len() < 6 || ways.len() > 1,
            "{key}: always the same ones: {ways:?}"
        );
    }
}

#[test]
fn three_instances_admit_exactly_the_limit_while_redis_is_away() {
    let (dir, mut redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let services: Vec<Service> = (0..3).map(|_| start(dir.path(), &redis)).collect();
    wait_counted(&services, 3);

    redis.kill();
    assert_shared(&services, &["a", "b", "c", "d", "e", "f"]);
    wait_counted(&services, 3);
    for service in &services {
        assert!(service.without_store() > 500, "redis was not away");
    }

    redis.restart();
    let shown = "store: redis, in use; instances: 3";
    let back = eventually(shown, Duration::from_secs(10), || {
        let all = services.iter().all(|service| {
            admitted(service, "two", "probe", 1);
            page(service).contains(shown)
        });
        assert!(
            services.iter().all(|service| count(service) == 3),
            "a new redis has no list yet"
        );
        all
    });
    println!("in use again after {back:?}");
    let shares = spent(&services, "hundred", "together", 100);
    assert_eq!(shares.iter().sum::<usize>(), 100, "{shares:?}");
    wait_counted(&services, 3);

    redis.kill();
    assert_shared(&services, &["again"]);
}

#[test]
fn an_instance_that_ends_is_forgotten_within_seconds() {
    let (dir, mut redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let mut services: Vec<Service> = (0..4).map(|_| start(dir.path(), &redis)).collect();
    wait_counted(&services, 4);
    let mut client = redis.connect();
    let listed = |client: &mut redis::Connection| client.zcard::<_, usize>("rk:instances").unwrap();
    assert_eq!(listed(&mut client), 4);

    let mut ended = services.pop().unwrap();
    ended.terminate();
    assert!(ended.wait_exit(SETTLED_WITHIN).success());
    assert_eq!(listed(&mut client), 3, "it did not take its name off the list");
    let forgotten = eventually("3 instances", SETTLED_WITHIN, || {
        services.iter().all(|service| count(service) == 3)
    });
    println!("one that ended is forgotten after {forgotten:?}");

    // A crash.
    drop(services.pop());
    let forgotten = eventually("2 instances", SETTLED_WITHIN, || {
        services.iter().all(|service| count(service) == 2)
    });
    println!("one that was killed is forgotten after {forgotten:?}");
    assert!(
        forgotten > 3 * SECOND,
        "a late heartbeat must not be taken for an end"
    );
    assert_eq!(listed(&mut client), 2);
    let ttl: i64 = client.pttl("rk:instances").unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");

    redis.kill();
    assert_shared(&services, &["a", "b", "c"]);
}

/// Every rolling window of a second holds, by what the clients saw: limits above and below the number of instances.
#[test]
fn no_window_is_broken_by_three_instances_while_redis_is_away() {
    rk_load::prepare();
    let (mut policy, mut limits) = ("domain: load\ndescriptors:\n".to_owned(), serde_json::Map::new());
    for key in 0..30 {
        let limit = [1, 2, 10, 100][key % 4];
        policy.push_str(&format!(
            "  - {{key: user, value: '{key}', rate_limit: {{unit: second, requests_per_unit: {limit}}}}}\n"
        ));
        limits.insert(key.to_string(), serde_json::json!({"limit": limit, "window": 1}));
    }
    let (dir, mut redis) = (support::policies(&[("load.yaml", &policy)]), Redis::start());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&limits).unwrap()).unwrap();
    let services: Vec<Service> = (0..3).map(|_| start(dir.path(), &redis)).collect();
    wait_counted(&services, 3);
    redis.kill();
    let ports: Vec<u16> = services.iter().map(Service::grpc_port).collect();
    let limits = file.path().to_str().unwrap();
    let mut arguments = vec!["--domain", "load", "--descriptor", "user={key}", "--keys", "30"];
    arguments.extend(["--connections", "6", "--in-flight", "4", "--duration", "4s"]);
    arguments.extend(["--audit", "--audit-limits", limits, "--grpc-timeout", "1s"]);
    let report = rk_load::start(&ports, &arguments).finish();
    println!("{}", report.summary);
    report.assert_all_decided();
    assert!(
        report.success,
        "the audit found a broken window\n{}",
        report.summary
    );
    assert!(report.json["audit"]["admitted_hits"].as_u64().unwrap() > 2_000);
}

/// A Redis that stood still has only old names: nobody has ended.
#[test]
fn a_frozen_redis_does_not_lower_the_number() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let services: Vec<Service> = (0..2).map(|_| start(dir.path(), &redis)).collect();
    wait_counted(&services, 2);
    let hold = |tenths: u32| {
        for _ in 0..tenths {
            assert!(services.iter().all(|service| count(service) == 2));
            std::thread::sleep(SECOND / 10);
        }
    };
    redis.freeze();
    hold(60);
    redis.thaw();
    hold(60);
    wait_counted(&services, 2);
}

#[test]
fn a_redis_that_was_never_there_leaves_the_setting() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let redis = Redis::start();
    let address = redis.address();
    drop(redis);
    let settings = [("REDIS_URL", address.as_str()), ("RATEKEEPER_INSTANCES", "4")];
    let service = Service::start(dir.path(), &settings);
    assert_eq!(admitted(&service, "hundred", "x", 110), 25);
    assert_eq!(
        admitted(&service, "ten", "x", 20),
        2,
        "the rest is nobody's: ranks are not known"
    );
    assert_eq!(admitted(&service, "two", "x", 20), 0);
    let page = page(&service);
    assert!(
        page.contains("not connected") && page.contains("instances: 4 (set)"),
        "{page}"
    );
    assert_eq!(count(&service), 4);
}

/// A key of that name that is not ours: nothing is counted, and nothing else suffers.
#[test]
fn a_refused_heartbeat_leaves_the_setting_and_the_store_in_use() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let () = redis.connect().set("rk:instances", "not ours").unwrap();
    let services = [start(dir.path(), &redis)];
    services[0].wait_connected();
    eventually("it is said", SETTLED_WITHIN, || {
        services[0]
            .output()
            .contains("redis refuses to count the instances")
    });
    assert_eq!(spent(&services, "ten", "x", 10), [10]);
    let page = page(&services[0]);
    assert!(page.contains("in use; instances: 1 (set)"), "{page}");
    assert_eq!(services[0].without_store(), 0);
}

#[test]
fn the_listed_commands_are_enough_to_be_counted() {
    let (dir, redis) = (support::policies(&[("d.yaml", POLICY)]), Redis::start());
    let () = redis::cmd("ACL")
        .arg(&["SETUSER", "limiter", "on", ">s3cret", "~rk:*"])
        .arg(crate::lua_redis::COMMANDS.split(' ').collect::<Vec<_>>())
        .query(&mut redis.connect())
        .unwrap();
    let address = redis.address();
    let settings = [("REDIS_URL", address.as_str()), ("REDIS_AUTH", "limiter:s3cret")];
    let services: Vec<Service> = (0..2).map(|_| Service::start(dir.path(), &settings)).collect();
    wait_counted(&services, 2);
}

proptest! {
    #[test]
    fn shares_of_all_ranks_are_exactly_the_limit(
        limit in prop_oneof![0_u32..50, any::<u32>()],
        count in 1_u32..200,
        key_hash in any::<u64>(),
    ) {
        let each = share_of(limit, count, None, key_hash);
        prop_assert!(u64::from(each) * u64::from(count) <= u64::from(limit));
        let shares: Vec<u32> = (0..count)
            .map(|rank| share_of(limit, count, Some(rank), key_hash))
            .collect();
        prop_assert_eq!(shares.iter().map(|share| u64::from(*share)).sum::<u64>(), u64::from(limit));
        prop_assert!(shares.iter().all(|share| (each..=each + 1).contains(share)), "{:?}", shares);
    }
}

/// Over many keys every instance gets as many of the small limits as any other.
#[test]
fn what_can_not_be_divided_goes_round_with_the_keys() {
    let mut with = [0_u32; 3];
    for key_hash in 0..3_000 {
        for (rank, with) in (0..).zip(&mut with) {
            *with += share_of(1, 3, Some(rank), key_hash);
        }
    }
    assert_eq!(with, [1_000; 3]);
}
