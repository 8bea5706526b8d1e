//! Sentinels, clusters, and a second Redis.

use std::time::Duration;

use super::{Found, doctor, says};
use crate::support::cluster::{Cluster, Setting as ClusterSetting};
use crate::support::eventually;
use crate::support::redis::{Kind, Redis};
use crate::support::sentinel::{Sentinels, Setting};

/// Sets what a fresh server lacks.
fn well_kept(server: &Redis) {
    let () = server.command("CONFIG SET maxmemory 100mb");
    let () = server.command("CONFIG SET min-replicas-to-write 1");
}

/// Waits until a primary has counted these replicas as online: they report once a second.
fn wait_online(primary: &Redis, replicas: usize) {
    eventually("the replicas are online", Duration::from_secs(30), || {
        let online = (0..replicas).all(|at| {
            let line = primary.info(&format!("slave{at}"));
            line.is_some_and(|line| line.contains("state=online"))
        });
        online && primary.info("min_slaves_good_slaves").as_deref() == Some(&replicas.to_string())
    });
}

#[test]
fn a_primary_and_its_sentinels() {
    let mut all = Sentinels::start();
    all.members.iter().for_each(well_kept);
    wait_online(&all.members[0], 2);
    let url = all.url();
    let settings = [("REDIS_TYPE", "SENTINEL"), ("REDIS_URL", url.as_str())];
    let found = Found::in_server(&settings);
    found.is(0, &[], &[]);
    let primary = all.members[0].address();
    says(&found, "sentinels", &["3 of 3 answer"]);
    says(&found, "named", &[&format!("{primary} is mymaster")]);
    says(&found, "quorum", &["2 of 3 sentinels, replicas: 2"]);
    says(&found, "role", &["primary"]);
    says(&found, "replicas", &["2, the slowest"]);
    let keys: u64 = all.members[0].command("DBSIZE");
    assert_eq!(keys, 0, "nothing is left behind");

    let other = url.replace("mymaster", "other");
    let found = Found::in_server(&[settings[0], ("REDIS_URL", &other)]);
    found.is(1, &[], &["named"]);
    says(&found, "named", &["the sentinels know no other", "REDIS_URL"]);

    all.members[0].freeze();
    let found = Found::in_server(&[settings[0], settings[1], ("REDIS_TIMEOUT", "300ms")]);
    let problems = found.with("problem");
    assert!(problems.contains(&"connection"), "{:#}", found.report);
    all.members[0].thaw();
    all.wait_settled();

    all.sentinels[1].kill();
    all.sentinels[2].kill();
    eventually("they are missed", Duration::from_secs(20), || {
        all.sentinels[0]
            .try_command::<String>("SENTINEL CKQUORUM mymaster")
            .is_err()
    });
    let found = Found::in_server(&settings);
    assert_eq!(found.code, Some(1), "{:#}", found.report);
    says(
        &found,
        "sentinels",
        &["1 of 3 answer", &all.sentinels[1].address(), "refused"],
    );
    says(&found, "quorum", &["NOQUORUM", "no failover"]);
}

#[test]
fn sentinels_with_passwords() {
    let all = Sentinels::start_with(&Setting {
        password: Some("hunter2".to_owned()),
        sentinel_password: Some("hunter3".to_owned()),
        ..Setting::default()
    });
    all.members.iter().for_each(well_kept);
    wait_online(&all.members[0], 2);
    let url = all.url();
    let both = [("REDIS_TYPE", "sentinel"), ("REDIS_URL", url.as_str())];
    let ours = ("REDIS_AUTH", "hunter2");
    let theirs = ("REDIS_SENTINEL_AUTH", "hunter3");
    Found::in_server(&[both[0], both[1], ours, theirs]).is(0, &[], &[]);
    let missing = Found::in_server(&[both[0], both[1], ours]);
    missing.is(1, &[], &["sentinels"]);
    says(&missing, "sentinels", &["NOAUTH", "REDIS_SENTINEL_AUTH"]);
    let wrong = Found::in_server(&[both[0], both[1], ours, ("REDIS_SENTINEL_AUTH", "hunter4")]);
    wrong.is(1, &[], &["sentinels"]);
    says(
        &wrong,
        "sentinels",
        &["wrong user or password", "REDIS_SENTINEL_AUTH"],
    );
    let wrong = Found::in_server(&[both[0], both[1], theirs, ("REDIS_AUTH", "hunter4")]);
    wrong.is(1, &[], &["connection"]);
    says(&wrong, "connection", &["password", "REDIS_AUTH"]);
    for found in [missing, wrong] {
        assert!(!found.report.to_string().contains("hunter"), "{}", found.report);
    }
}

#[test]
fn a_cluster_and_its_primaries() {
    let mut cluster = Cluster::start();
    for node in &cluster.nodes {
        well_kept(node);
        let () = node.command("CONFIG SET cluster-require-full-coverage no");
    }
    for primary in &cluster.nodes[..3] {
        wait_online(primary, 1);
    }
    let url = cluster.url();
    let settings = [("REDIS_TYPE", "Cluster"), ("REDIS_URL", url.as_str())];
    let found = Found::in_server(&settings);
    found.is(0, &[], &[]);
    says(&found, "nodes", &["6 of 6 that are listed answer"]);
    says(&found, "slots", &["16384 of 16384, on 3 primaries"]);
    says(&found, "agreement", &["the same slots everywhere, epoch "]);
    says(&found, "role", &["primary (3 servers)"]);
    says(&found, "cluster", &["a node of a cluster (3 servers)"]);
    for node in &cluster.nodes {
        let keys: u64 = node.command("DBSIZE");
        assert_eq!(keys, 0, "nothing is left behind");
    }

    // One node is enough to find the others.
    let () = cluster.nodes[1].command("CONFIG SET maxmemory-policy allkeys-lru");
    let () = cluster.nodes[2].command("CONFIG SET cluster-require-full-coverage yes");
    let one = cluster.nodes[0].address();
    let found = Found::in_server(&[settings[0], ("REDIS_URL", &one)]);
    found.is(0, &["coverage", "eviction"], &[]);
    let second = format!("\"{}: allkeys-lru\"", cluster.nodes[1].address());
    says(&found, "eviction", &[&second, "noeviction"]);
    says(&found, "coverage", &[&cluster.nodes[2].address()]);

    for node in &cluster.nodes {
        let words = "ACL SETUSER limiter on >s3cret ~rk:* +@all -asking";
        let () = node.command(words);
    }
    let found = Found::in_server(&[settings[0], settings[1], ("REDIS_AUTH", "limiter:s3cret")]);
    found.is(1, &["coverage", "eviction"], &["rights"]);
    says(&found, "rights", &["limiter may not use asking", "(3 servers)"]);

    let single = Found::in_server(&[("REDIS_URL", &one)]);
    assert_eq!(single.code, Some(1));
    says(&single, "cluster", &["REDIS_TYPE", "cluster"]);

    // A primary and its replica are lost, and with them a third of the slots.
    let () = cluster.nodes[2].command("CONFIG SET cluster-require-full-coverage no");
    cluster.nodes[4].kill();
    cluster.nodes[1].kill();
    eventually("they are missed", Duration::from_secs(30), || {
        let info: String = cluster.nodes[0].command("CLUSTER INFO");
        info.contains("cluster_slots_fail:546")
    });
    let found = Found::in_server(&settings);
    found.is(1, &["nodes"], &["slots", "connection"]);
    says(&found, "nodes", &["4 of 6", &cluster.nodes[1].address()]);
    says(&found, "slots", &["on nodes that are gone"]);
    says(
        &found,
        "connection",
        &[&format!("{}: ", cluster.nodes[1].address()), "refused"],
    );
}

#[test]
fn clusters_of_other_servers() {
    for (kind, server, dialect) in [
        (Kind::Redis62, "Redis 6.2.", "have no flags"),
        (Kind::Valkey, "Valkey 9.1", "have flags"),
    ] {
        let replicas = false;
        let cluster = Cluster::start_with(&ClusterSetting {
            kind,
            replicas,
            ..ClusterSetting::default()
        });
        let url = cluster.url();
        let found = Found::in_server(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url)]);
        found.is(0, &["coverage", "memory", "replicas"], &[]);
        says(&found, "server", &[server, "(3 servers)"]);
        says(&found, "dialect", &[dialect]);
        says(&found, "replicas", &["none (3 servers)", "give it one"]);
    }
}

#[test]
fn what_is_listed_is_something_else() {
    let redis = Redis::start_with(&["--maxmemory", "100mb"]);
    let url = redis.address();
    let found = Found::in_server(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url)]);
    found.is(1, &[], &["nodes"]);
    says(&found, "nodes", &["0 of 1", "cluster support disabled", "single"]);
    let list = format!("mymaster,{url}");
    let found = Found::in_server(&[("REDIS_TYPE", "sentinel"), ("REDIS_URL", &list)]);
    found.is(1, &[], &["sentinels"]);
    says(&found, "sentinels", &["0 of 1", "26379"]);
}

#[test]
fn a_second_redis_has_a_block_of_its_own() {
    let main = Redis::start_with(&["--maxmemory", "100mb"]);
    let second = Redis::start_with(&["--maxmemory", "100mb", "--requirepass", "hunter2"]);
    let () = second.command("CONFIG SET maxmemory-policy allkeys-lru");
    let (url, other) = (main.address(), second.address());
    let settings = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &other),
        ("REDIS_PERSECOND_AUTH", "hunter2"),
        ("REDIS_PERSECOND_OP_TIMEOUT", "10s"),
    ];
    let found = Found::in_server(&settings);
    found.is(0, &["eviction"], &[]);
    let checks = found.report["checks"].as_array().unwrap();
    let with = |block: &str| checks.iter().filter(|check| check["block"] == block).count();
    assert_eq!(
        (checks.len(), with("redis"), with("redis.per_second")),
        (32, 16, 16)
    );
    let text = String::from_utf8(doctor(&settings, &[]).stdout).unwrap();
    assert!(text.starts_with("redis\nok       connection"), "{text}");
    assert!(text.contains("\nredis.per_second\nok       connection"), "{text}");

    let mut without = settings;
    without[3] = ("REDIS_AUTH", "");
    let found = Found::in_server(&without);
    found.is(1, &[], &["connection"]);
    let checks = found.report["checks"].as_array().unwrap();
    let bad = checks.iter().find(|check| check["level"] == "problem").unwrap();
    assert_eq!(bad["block"], "redis.per_second");
    let advice = bad["advice"].as_str().unwrap();
    assert!(
        advice.contains("redis.per_second.auth (REDIS_PERSECOND_AUTH)"),
        "{advice}"
    );
    let wrong = doctor(
        &[settings[0], settings[1], ("REDIS_PERSECOND_URL", "hunter2")],
        &[],
    );
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text.contains("redis.per_second: redis url: neither") && !text.contains("hunter2"),
        "{text}"
    );
}
