//! `ratekeeper doctor` against real servers in good and bad states.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

mod serving;
mod topologies;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use redis::cmd;
use serde_json::Value;

use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::Redis;

fn doctor(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
    // Nothing of the outer environment may set anything. A busy machine's round trips are not what these tests are about.
    command
        .env_clear()
        .env("REDIS_OP_TIMEOUT", "10s")
        .envs(settings.iter().copied())
        .arg("doctor")
        .args(arguments);
    command.output().expect("can't start ratekeeper")
}

/// The exit code, and the checks by name.
struct Found {
    code: Option<i32>,
    report: Value,
}

impl Found {
    fn in_server(settings: &[(&str, &str)]) -> Self {
        let output = doctor(settings, &["--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let code = output.status.code();
        Self { code, report }
    }

    fn with(&self, level: &str) -> Vec<&str> {
        let checks = self.report["checks"].as_array().expect("no checks");
        let those = checks.iter().filter(|check| check["level"] == level);
        those.filter_map(|check| check["check"].as_str()).collect()
    }

    fn text(&self, name: &str) -> String {
        let checks = self.report["checks"].as_array().expect("no checks");
        let check = checks.iter().find(|check| check["check"] == name);
        let check = check.unwrap_or_else(|| panic!("no {name} in {}", self.report));
        format!("{}: {} -> {}", check["level"], check["found"], check["advice"])
    }

    /// The exit code and the names of what is not ok.
    fn is(&self, code: i32, warnings: &[&str], problems: &[&str]) {
        let said = (self.code, self.with("warning"), self.with("problem"));
        assert_eq!(
            said,
            (Some(code), warnings.to_vec(), problems.to_vec()),
            "{:#}",
            self.report
        );
    }
}

fn says(found: &Found, check: &str, parts: &[&str]) {
    let text = found.text(check);
    for part in parts {
        assert!(text.contains(part), "{text} without {part:?}");
    }
}

#[test]
fn a_fresh_server_lacks_a_bound_of_memory_only() {
    let redis = Redis::start();
    let found = Found::in_server(&[("REDIS_URL", &redis.address())]);
    found.is(0, &["memory"], &[]);
    assert_eq!(found.report["result"], "warning");
    says(&found, "persistence", &["none"]);
    let keys: u64 = cmd("DBSIZE").query(&mut redis.connect()).unwrap();
    assert_eq!(keys, 0, "nothing is left behind");

    let output = doctor(&[("REDIS_URL", &redis.socket().display().to_string())], &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("ok       eviction     noeviction\n"), "{text}");
    assert!(text.ends_with("15 ok, 1 warning, 0 problems\n"), "{text}");
}

#[test]
fn memory_that_forgets_or_is_full() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let url = redis.address();
    let settings = [("REDIS_URL", url.as_str())];
    let found = Found::in_server(&settings);
    found.is(0, &["eviction"], &[]);
    says(&found, "eviction", &["allkeys-lru", "noeviction", "limits"]);

    let mut connection = redis.connect();
    let mut config = |name: &str, value: &str| {
        let () = cmd("CONFIG")
            .arg("SET")
            .arg(name)
            .arg(value)
            .query(&mut connection)
            .unwrap();
    };
    config("maxmemory-policy", "noeviction");
    config("zset-max-listpack-entries", "64");
    let found = Found::in_server(&settings);
    found.is(0, &["encoding"], &[]);
    config("zset-max-listpack-entries", "128");
    config("maxmemory", "1");
    let found = Found::in_server(&settings);
    found.is(1, &[], &["time", "scripts", "memory"]);
    says(&found, "memory", &["maxmemory", "refuses"]);
    says(&found, "scripts", &["OOM"]);
}

#[test]
fn memory_nearly_full() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    // Made by the server itself: a value that is sent leaves a buffer behind, which counts for a while.
    let mut grow = cmd("SETRANGE");
    let () = grow
        .arg("x")
        .arg(30_000_000)
        .arg("x")
        .query(&mut connection)
        .unwrap();
    let set = |connection: &mut redis::Connection, megabytes: u32| {
        let value = format!("{megabytes}mb");
        let () = cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(value)
            .query(connection)
            .unwrap();
    };
    let url = redis.address();
    set(&mut connection, 40);
    Found::in_server(&[("REDIS_URL", &url)]).is(0, &["memory"], &[]);
    set(&mut connection, 100);
    Found::in_server(&[("REDIS_URL", &url)]).is(0, &[], &[]);
}

#[test]
fn passwords() {
    let redis = Redis::start_with(&["--requirepass", "hunter2", "--maxmemory", "100mb"]);
    let url = redis.address();
    let missing = Found::in_server(&[("REDIS_URL", &url)]);
    missing.is(1, &[], &["connection"]);
    says(&missing, "connection", &["NOAUTH", "REDIS_AUTH"]);
    let wrong = Found::in_server(&[("REDIS_URL", &url), ("REDIS_AUTH", "hunter3")]);
    wrong.is(1, &[], &["connection"]);
    says(&wrong, "connection", &["password", "REDIS_AUTH"]);
    let all = wrong.report.to_string();
    assert!(!all.contains("hunter"), "{all}");
    Found::in_server(&[("REDIS_URL", &url), ("REDIS_AUTH", "hunter2")]).is(0, &[], &[]);
}

#[test]
fn a_replica_and_its_primary() {
    let primary = Redis::start_with(&["--maxmemory", "100mb", "--repl-diskless-sync-delay", "0"]);
    let address = primary.address();
    let (host, port) = address.split_once(':').unwrap();
    let replica = Redis::start_with(&["--maxmemory", "100mb", "--replicaof", host, port]);
    eventually("the replica is in step", Duration::from_secs(30), || {
        let info: String = cmd("INFO")
            .arg("replication")
            .query(&mut replica.connect())
            .unwrap();
        info.contains("master_link_status:up")
    });
    let found = Found::in_server(&[("REDIS_URL", &replica.address())]);
    found.is(1, &[], &["role", "time", "scripts"]);
    says(&found, "role", &["replica", "up", "primary"]);
    says(&found, "scripts", &["READONLY"]);

    // A replica reports once a second.
    eventually("the primary counts it as online", Duration::from_secs(30), || {
        let info: String = cmd("INFO")
            .arg("replication")
            .query(&mut primary.connect())
            .unwrap();
        info.contains("state=online")
    });
    let found = Found::in_server(&[("REDIS_URL", &address)]);
    found.is(0, &["replicas"], &[]);
    says(
        &found,
        "replicas",
        &["\"1, the slowest", "min-replicas-to-write 0"],
    );
    let () = cmd("CONFIG")
        .arg("SET")
        .arg("min-replicas-to-write")
        .arg(2)
        .query(&mut primary.connect())
        .unwrap();
    let found = Found::in_server(&[("REDIS_URL", &address)]);
    found.is(1, &[], &["time", "scripts", "replicas"]);
    says(&found, "scripts", &["NOREPLICAS"]);
}

#[test]
fn a_user_with_too_few_rights() {
    let redis = Redis::start_with(&["--maxmemory", "100mb"]);
    let mut connection = redis.connect();
    let mut setuser = |words: &str| {
        let mut command = cmd("ACL");
        let () = command
            .arg("SETUSER")
            .arg("limiter")
            .arg(words.split(' ').collect::<Vec<_>>())
            .query(&mut connection)
            .unwrap();
    };
    // What docs/redis.md tells to grant.
    setuser(
        "on >s3cret ~rk:* +evalsha +script|load +time +zrange +zrangebyscore +zcount +zcard +zadd +zrem +zremrangebyrank +get +set +del +pexpire",
    );
    let url = redis.address();
    let settings = [("REDIS_URL", url.as_str()), ("REDIS_AUTH", "limiter:s3cret")];
    let found = Found::in_server(&settings);
    found.is(0, &["server", "encoding", "keys"], &[]);
    says(&found, "server", &["unknown", "+info"]);
    setuser("+role");
    says(&Found::in_server(&settings), "role", &["primary"]);
    setuser("-role");

    setuser("+info +config|get +scan +pttl");
    Found::in_server(&settings).is(0, &[], &[]);
    let other = [settings[0], settings[1], ("CACHE_KEY_PREFIX", "other:")];
    let found = Found::in_server(&other);
    assert_eq!(found.code, Some(1), "keys of another prefix");
    says(&found, "rights", &["evalsha", "zadd"]);

    setuser("-evalsha -zcard");
    let found = Found::in_server(&settings);
    found.is(1, &[], &["rights", "time", "scripts"]);
    says(
        &found,
        "rights",
        &[
            "user limiter may not use evalsha, zcard",
            "ACL SETUSER limiter +evalsha +zcard",
        ],
    );
}

#[test]
fn a_node_of_a_cluster() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--cluster-enabled", "yes"]);
    let found = Found::in_server(&[("REDIS_URL", &redis.address())]);
    found.is(1, &[], &["cluster", "time", "scripts"]);
    says(&found, "cluster", &["REDIS_TYPE", "cluster"]);
}

#[test]
fn keys_without_a_time_to_live() {
    let redis = Redis::start_with(&["--maxmemory", "100mb"]);
    let mut connection = redis.connect();
    for key in ["rk:a", "rk:b", "other"] {
        let () = cmd("SET").arg(key).arg(1).query(&mut connection).unwrap();
    }
    let () = cmd("SET")
        .arg("rk:c")
        .arg(1)
        .arg("EX")
        .arg(60)
        .query(&mut connection)
        .unwrap();
    let found = Found::in_server(&[("REDIS_URL", &redis.address())]);
    found.is(0, &["keys"], &[]);
    says(&found, "keys", &["2 of the 3", "rk:"]);
}

#[test]
fn a_managed_server_without_config() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--rename-command", "CONFIG", ""]);
    let found = Found::in_server(&[("REDIS_URL", &redis.address())]);
    found.is(0, &["encoding"], &[]);
    says(&found, "encoding", &["unknown"]);
    says(&found, "persistence", &["snapshots unknown"]);
}

#[test]
fn a_server_that_is_not_there_or_does_not_answer() {
    let address = format!("127.0.0.1:{}", free_port());
    let found = Found::in_server(&[("REDIS_URL", &address)]);
    found.is(1, &[], &["connection"]);
    says(&found, "connection", &["refused", "REDIS_URL"]);

    let redis = Redis::start();
    redis.freeze();
    let start = Instant::now();
    let found = Found::in_server(&[("REDIS_URL", &redis.address()), ("REDIS_TIMEOUT", "1m")]);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    found.is(1, &[], &["connection"]);
    redis.thaw();
}

#[test]
fn without_redis_there_is_nothing_to_examine() {
    let output = doctor(&[], &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("memory: redis.url is not set"), "{text}");
    Found::in_server(&[]).is(0, &[], &[]);
}

#[test]
fn what_serve_refuses_is_wrong_usage() {
    for settings in [
        [("REDIS_URL", "hunter2"), ("HOST", "")],
        [("REDIS_URL", "127.0.0.1:1"), ("CACHE_KEY_PREFIX", "a{b")],
        [("REDIS_TIMEOUT", "soon"), ("HOST", "")],
        [("REDIS_URL", "hunter2,"), ("REDIS_TYPE", "sentinel")],
        [
            ("REDIS_URL", "h:1,redis://:hunter2@h:1"),
            ("REDIS_TYPE", "CLUSTER"),
        ],
        [("REDIS_TYPE", "CLUSTER"), ("HOST", "")],
    ] {
        let output = doctor(&settings, &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{settings:?}: {text}");
        assert!(
            text.starts_with("ratekeeper: ") && !text.contains("hunter2"),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
    assert_eq!(doctor(&[], &["--no-such-flag"]).status.code(), Some(2));
}
