//! A server in every state, without one.

use super::super::facts::{Facts, Fault, Rights, RoundTrips, Sample, Values};
use super::super::report::{Check, Level, Report};
use super::of_server;
use crate::store::redis::deployment::Kind;
use crate::store::redis::script::Dialect;

fn judge(facts: &Facts) -> Report {
    Report::new(of_server(facts))
}

/// Lines of a server, the check that looks at them, its level, and a part of what it finds.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Level, &'a str);

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A server to which nobody could object.
fn healthy() -> Facts {
    Facts {
        op_timeout_us: 10_000,
        kind: Kind::Single,
        role: Ok("master".to_owned()),
        connected: Ok(1_200),
        info: Ok(values(&[
            ("redis_version", "7.0.15"),
            ("redis_mode", "standalone"),
            ("role", "master"),
            ("cluster_enabled", "0"),
            ("connected_slaves", "0"),
            ("maxmemory_policy", "noeviction"),
            ("used_memory", "1000000"),
            ("maxmemory", "100000000"),
            ("aof_enabled", "0"),
            ("rdb_last_bgsave_status", "ok"),
        ])),
        config: Ok(values(&[
            ("save", ""),
            ("appendfsync", "everysec"),
            ("stop-writes-on-bgsave-error", "yes"),
            ("min-replicas-to-write", "0"),
            ("zset-max-listpack-entries", "128"),
            ("zset-max-listpack-value", "64"),
        ])),
        rights: Ok(Rights {
            user: "limiter".to_owned(),
            missing: Vec::new(),
        }),
        time_and_write: Ok(()),
        dialect: Some(Dialect::Flags),
        scripts: Ok(()),
        round_trips: Ok(RoundTrips {
            count: 200,
            p50_us: 150,
            p99_us: 900,
            clock_ahead_us: -40,
        }),
        sample: Ok(Sample {
            keys: 12,
            all: true,
            ..Sample::default()
        }),
    }
}

fn find<'a>(report: &'a Report, check: &str) -> &'a Check {
    let found = report.checks.iter().find(|it| it.check == check);
    found.unwrap_or_else(|| panic!("no check {check}"))
}

/// Every check but the named one is ok, and that one has this level, this in what was found, and advice.
fn only(facts: &Facts, check: &str, level: Level, found: &str) {
    let report = judge(facts);
    let it = find(&report, check);
    assert_eq!(it.level, level, "{it:?}");
    assert!(it.found.contains(found), "{it:?} without {found:?}");
    assert_eq!(it.advice.is_some(), level != Level::Ok, "{it:?}");
    for other in report.checks.iter().filter(|other| other.check != check) {
        assert_eq!(other.level, Level::Ok, "beside {check}: {other:?}");
    }
    assert_eq!(report.result, level);
}

#[test]
fn a_healthy_server_has_no_warnings() {
    let report = judge(&healthy());
    assert_eq!(report.result, Level::Ok, "{report}");
    assert_eq!(report.checks.len(), 16, "{report}");
}

#[test]
fn what_the_server_says_of_itself() {
    use Level::{Ok, Problem, Warning};
    let nearly_full = [("used_memory", "96000000")];
    let evicts = [("used_memory", "50000000"), ("maxmemory_policy", "allkeys-lru")];
    let replica_ok = ("slave0", "ip=1,port=2,state=online,offset=90,lag=1");
    let replica_late = ("slave0", "ip=1,port=2,state=online,offset=10,lag=9");
    let replica_off = ("slave0", "ip=1,port=2,state=wait_bgsave,offset=0,lag=0");
    let one = |line| [("connected_slaves", "1"), ("master_repl_offset", "100"), line];
    let cases: &[Case<'_>] = &[
        (&[("redis_version", "6.2.14")], "server", Ok, "Redis 6.2.14"),
        (&[("redis_version", "8.8.0")], "server", Ok, "Redis 8.8.0"),
        (&[("redis_version", "6.0.9")], "server", Warning, "Redis 6.0.9"),
        (&[("redis_version", "9.0.0")], "server", Warning, "Redis 9.0.0"),
        (&[("redis_version", "soon")], "server", Warning, "Redis soon"),
        (&[("valkey_version", "9.1.2")], "server", Ok, "Valkey 9.1.2"),
        (
            &[("dragonfly_version", "df-v1.2")],
            "server",
            Warning,
            "Dragonfly df-v1.2",
        ),
        (&[("mvcc_depth", "0")], "server", Warning, "KeyDB 7.0.15"),
        (
            &[("cluster_enabled", "1")],
            "cluster",
            Problem,
            "node of a cluster",
        ),
        (&[("redis_mode", "sentinel")], "cluster", Problem, "sentinel"),
        (&evicts, "eviction", Warning, "allkeys-lru"),
        (
            &[("maxmemory_policy", "volatile-ttl")],
            "eviction",
            Warning,
            "volatile-ttl",
        ),
        (&[("maxmemory", "0")], "memory", Warning, "no maxmemory"),
        (&[("used_memory", "74900000")], "memory", Ok, "74 %"),
        (&[("used_memory", "75000000")], "memory", Warning, "75 %"),
        (&nearly_full, "memory", Problem, "91.5 MiB of 95.3 MiB used, 96 %"),
        (
            &[
                ("used_memory", "96000000"),
                ("mem_not_counted_for_evict", "90000000"),
            ],
            "memory",
            Ok,
            "6 %",
        ),
        (&[("rdb_last_bgsave_status", "err")], "persistence", Ok, "none"),
        (
            &[("aof_enabled", "1")],
            "persistence",
            Ok,
            "everysec: a restart loses the last second",
        ),
        (
            &[("aof_enabled", "1"), ("aof_last_write_status", "err")],
            "persistence",
            Problem,
            "append-only file failed",
        ),
        (&one(replica_off), "replicas", Warning, "not all in step"),
        (&one(replica_late), "replicas", Warning, "9 s and 90 bytes behind"),
        (
            &one(replica_ok),
            "replicas",
            Warning,
            "1 s and 10 bytes behind, min-replicas-to-write 0",
        ),
    ];
    for (info, check, level, found) in cases {
        let mut facts = healthy();
        if let Result::Ok(all) = &mut facts.info {
            all.extend(values(info));
        }
        only(&facts, check, *level, found);
    }
}

#[test]
fn what_it_should_be_a_part_of() {
    use Level::{Ok, Problem, Warning};
    let node = [("cluster_enabled", "1")];
    let sentinel = [("redis_mode", "sentinel"), ("cluster_enabled", "")];
    let with_replica = [
        ("connected_slaves", "1"),
        ("master_repl_offset", "100"),
        ("slave0", "ip=1,port=2,state=online,offset=90,lag=1"),
    ];
    type Parts<'a> = (Kind, &'a [(&'a str, &'a str)], Level, &'a str);
    let cases: &[Parts<'_>] = &[
        (Kind::Single, &[], Ok, "no cluster"),
        (Kind::Single, &node, Problem, "a node of a cluster"),
        (Kind::Sentinel, &node, Problem, "a node of a cluster"),
        (Kind::Sentinel, &sentinel, Problem, "a sentinel"),
        (Kind::Cluster, &node, Ok, "a node of a cluster"),
        (Kind::Cluster, &[], Problem, "no cluster"),
    ];
    for (kind, info, level, found) in cases {
        let mut facts = healthy();
        facts.kind = *kind;
        if let (Result::Ok(all), Result::Ok(config)) = (&mut facts.info, &mut facts.config) {
            all.extend(values(info));
            all.extend(values(&with_replica));
            config.extend(values(&[("min-replicas-to-write", "1")]));
        }
        only(&facts, "cluster", *level, found);
    }
    for (kind, level) in [
        (Kind::Single, Ok),
        (Kind::Sentinel, Warning),
        (Kind::Cluster, Warning),
    ] {
        let mut facts = healthy();
        facts.kind = kind;
        if let Result::Ok(all) = &mut facts.info {
            all.extend(values(if kind == Kind::Cluster { &node } else { &[] }));
        }
        only(&facts, "replicas", level, "none");
        facts = healthy();
        facts.kind = kind;
        facts.role = Result::Ok("slave".to_owned());
        assert_eq!(find(&judge(&facts), "role").level, Problem);
    }
}

#[test]
fn how_scripts_are_sent() {
    for (dialect, found) in [(Dialect::Plain, "have no flags"), (Dialect::Flags, "have flags")] {
        let mut facts = healthy();
        facts.dialect = Some(dialect);
        only(&facts, "dialect", Level::Ok, found);
    }
}

#[test]
fn what_is_configured() {
    use Level::{Ok, Problem, Warning};
    let cases: &[Case<'_>] = &[
        (&[("save", "3600 1")], "persistence", Ok, "snapshots (3600 1)"),
        (
            &[("min-replicas-to-write", "1")],
            "replicas",
            Problem,
            "writes are refused",
        ),
        (
            &[("zset-max-listpack-entries", "64")],
            "encoding",
            Warning,
            "entries 64",
        ),
        (
            &[("zset-max-listpack-value", "32")],
            "encoding",
            Warning,
            "value 32",
        ),
    ];
    for (config, check, level, found) in cases {
        let mut facts = healthy();
        if let Result::Ok(all) = &mut facts.config {
            all.extend(values(config));
        }
        only(&facts, check, *level, found);
    }
    let mut failed = healthy();
    for (values_of, line) in [
        (&mut failed.info, ("rdb_last_bgsave_status", "err")),
        (&mut failed.config, ("save", "60 1")),
    ] {
        if let Result::Ok(all) = values_of {
            all.extend(values(&[line]));
        }
    }
    only(&failed, "persistence", Problem, "snapshot failed");
    let mut old = healthy();
    old.config = Result::Ok(values(&[
        ("save", ""),
        ("min-replicas-to-write", "0"),
        ("zset-max-ziplist-entries", "100"),
        ("zset-max-ziplist-value", "64"),
    ]));
    only(&old, "encoding", Warning, "zset-max-ziplist-entries 100");
}

#[test]
fn what_was_tried() {
    let noperm = || Fault::new("NOPERM", "NOPERM no");
    let mut facts = healthy();
    facts.time_and_write = Err(Fault::new("READONLY", "READONLY no"));
    only(&facts, "time", Level::Problem, "READONLY");
    let mut facts = healthy();
    facts.scripts = Err(noperm());
    only(&facts, "scripts", Level::Problem, "NOPERM");
    let mut facts = healthy();
    facts.rights = Ok(Rights {
        user: "limiter".to_owned(),
        missing: vec!["evalsha", "set"],
    });
    only(
        &facts,
        "rights",
        Level::Problem,
        "user limiter may not use evalsha, set",
    );
    let advice = find(&judge(&facts), "rights").advice.clone();
    assert!(advice.is_some_and(|it| it.starts_with("ACL SETUSER limiter +evalsha +set")));
    let mut facts = healthy();
    facts.sample = Ok(Sample {
        keys: 5,
        all: false,
        without_ttl: 2,
        example: Some("rk:x".to_owned()),
    });
    only(&facts, "keys", Level::Warning, "2 of the first 5");
    let mut facts = healthy();
    facts.sample = Err(noperm());
    only(&facts, "keys", Level::Warning, "unknown");
}

#[test]
fn round_trips_are_held_against_the_timeout() {
    for (p50_us, p99_us, level) in [
        (150, 5_000, Level::Ok),
        (150, 5_001, Level::Warning),
        (9_999, 20_000, Level::Warning),
        (10_000, 20_000, Level::Problem),
    ] {
        let mut facts = healthy();
        facts.round_trips = Ok(RoundTrips {
            count: 200,
            p50_us,
            p99_us,
            clock_ahead_us: 0,
        });
        only(&facts, "round trip", level, "redis.op_timeout 10.00 ms");
    }
    for (clock_ahead_us, level, found) in [
        (1_000_000, Level::Ok, "1000.00 ms ahead"),
        (-1_000_001, Level::Warning, "1000.00 ms behind"),
    ] {
        let mut facts = healthy();
        facts.round_trips = Ok(RoundTrips {
            count: 200,
            p50_us: 1,
            p99_us: 1,
            clock_ahead_us,
        });
        only(&facts, "clock", level, found);
    }
}

#[test]
fn what_may_not_be_seen_is_unknown_and_no_problem() {
    let mut facts = healthy();
    facts.info = Err(Fault::new("NOPERM", "NOPERM no"));
    only(&facts, "server", Level::Warning, "unknown: NOPERM no");
    let mut facts = healthy();
    facts.config = Err(Fault::new("ERR", "ERR unknown command 'CONFIG'"));
    only(&facts, "encoding", Level::Warning, "unknown: ERR");
    let mut facts = healthy();
    facts.info = Ok(Values::new());
    facts.config = Ok(Values::new());
    assert_eq!(judge(&facts).result, Level::Warning);
}

#[test]
fn a_server_that_is_not_there_has_one_check() {
    for (code, advice) in [
        ("unreachable", "redis.url"),
        ("NOAUTH", "REDIS_AUTH"),
        ("WRONGPASS", "REDIS_AUTH"),
        ("timeout", "redis.timeout"),
        ("LOADING", "wait"),
    ] {
        let report = judge(&Facts::unreachable(1, Kind::Single, &Fault::new(code, "why")));
        assert_eq!((report.result, report.checks.len()), (Level::Problem, 1));
        let said = report.checks[0].advice.as_deref().unwrap_or_default();
        assert!(said.contains(advice), "{code}: {said}");
    }
}

/// The named check is there with this level, and every other one is ok.
pub(super) fn assert_only(checks: &[Check], check: &str, level: Level, found: &str) {
    assert!(checks.iter().any(|it| it.check == check), "{checks:?}");
    for it in checks {
        if it.check == check {
            assert_eq!(it.level, level, "{it:?}");
            assert!(it.found.contains(found), "{it:?} without {found:?}");
        } else {
            assert_eq!(it.level, Level::Ok, "beside {check}: {it:?}");
        }
    }
}
