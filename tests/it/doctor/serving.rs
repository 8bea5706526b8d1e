//! What `serve` makes of its own examinations.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Setting};
use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::service::Service;

const POLICY: &str =
    "domain: d\ndescriptors:\n  - key: k\n    rate_limit: {unit: hour, requests_per_unit: 5}\n";

fn policies() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("d.yaml"), POLICY).expect("a policy");
    dir
}

/// The line of the doctor, once there is one.
fn examined(service: &Service) -> String {
    let mut line = String::new();
    eventually("the store was examined", Duration::from_secs(20), || {
        let page = service.get("/readyz?verbose").body;
        line = page
            .lines()
            .find(|line| line.starts_with("doctor: "))
            .unwrap_or_default()
            .to_owned();
        !line.is_empty()
    });
    line
}

#[test]
fn the_last_examination_is_shown_and_logged() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let dir = policies();
    let service = Service::start(
        dir.path(),
        &[("REDIS_URL", &redis.address()), ("REDIS_OP_TIMEOUT", "10s")],
    );
    let line = examined(&service);
    assert!(
        line.starts_with("doctor: 15 ok, 1 warning (eviction: allkeys-lru), 0 problems, "),
        "{line}"
    );
    assert!(line.ends_with(" s ago"), "{line}");
    let log = service.output();
    assert!(log.contains("redis examined: 15 ok, 1 warning"), "{log}");
    assert!(
        log.contains("doctor: eviction: allkeys-lru") && log.contains("noeviction"),
        "{log}"
    );
    let keys: Vec<String> = redis.command("KEYS *doctor*");
    assert_eq!(keys, Vec::<String>::new(), "nothing is left behind");
    // Nothing of it is on the short page.
    assert_eq!(service.get("/readyz").body, "ok\n");
}

#[test]
fn serving_does_not_wait_for_it_and_does_not_fail_by_it() {
    let dir = policies();
    let start = Instant::now();
    let address = format!("127.0.0.1:{}", free_port());
    let service = Service::start(dir.path(), &[("REDIS_URL", &address)]);
    assert_eq!(service.get("/readyz").status, 200);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let line = examined(&service);
    assert!(
        line.starts_with("doctor: 0 ok, 0 warnings, 1 problem (connection: "),
        "{line}"
    );
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn a_cluster_and_a_second_redis_are_examined_too() {
    let cluster = Cluster::start_with(&Setting {
        replicas: false,
        ..Setting::default()
    });
    let second = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let dir = policies();
    let (url, other) = (cluster.url(), second.address());
    let settings = [
        ("REDIS_TYPE", "CLUSTER"),
        ("REDIS_URL", url.as_str()),
        ("REDIS_OP_TIMEOUT", "10s"),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &other),
        ("REDIS_PERSECOND_OP_TIMEOUT", "10s"),
    ];
    let service = Service::start(dir.path(), &settings);
    let line = examined(&service);
    for part in [
        "4 warnings",
        "redis coverage: cluster-require-full-coverage yes at ",
        "redis memory: ",
        "redis replicas: none (3 servers)",
        "; 1 more), 0 problems, ",
    ] {
        assert!(line.contains(part), "{line} without {part:?}");
    }
    let log = service.output();
    assert!(log.contains("doctor: eviction: volatile-lru"), "{log}");
}

#[test]
fn without_redis_nothing_is_examined() {
    let dir = policies();
    let service = Service::start(dir.path(), &[]);
    std::thread::sleep(Duration::from_secs(2));
    let page = service.get("/readyz?verbose").body;
    assert!(page.contains("store: ") && !page.contains("doctor"), "{page}");
}
