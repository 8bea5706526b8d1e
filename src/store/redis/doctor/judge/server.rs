//! What the server says of itself.

use super::super::facts::Facts;
use super::super::report::Check;
use super::{mib, unknown};
use crate::store::redis::deployment::Kind;

/// Used shares of `maxmemory`, in percent.
const MEMORY_HIGH: u64 = 75;
const MEMORY_FULL: u64 = 95;
/// Seconds since a replica's last word.
const LAG_MAX_S: u64 = 2;
/// Most entries, and the longest in bytes, of a full sliding window.
const WINDOW_ENTRIES: u64 = 128;
const WINDOW_VALUE: u64 = 64;

/// Servers that speak the protocol, by the line of `INFO` that only they have.
const OTHERS: &[(&str, &str)] = &[
    ("dragonfly_version", "Dragonfly"),
    ("kvrocks_version", "Kvrocks"),
    ("garnet_version", "Garnet"),
    ("mvcc_depth", "KeyDB"),
];

fn no_info(check: &'static str, facts: &Facts) -> Check {
    unknown(check, "info", facts.info.as_ref().err())
}

fn no_config(check: &'static str, facts: &Facts) -> Check {
    unknown(check, "config|get", facts.config.as_ref().err())
}

pub(super) fn kind(facts: &Facts) -> Check {
    let others = || OTHERS.iter().find(|(line, _)| facts.info(line).is_some());
    if let Some((line, name)) = others() {
        let version = facts.info(line).unwrap_or_default();
        let version = if *name == "KeyDB" {
            facts.info("redis_version").unwrap_or_default()
        } else {
            version
        };
        return Check::warning(
            "server",
            format!("{name} {version}"),
            "not tested with ratekeeper: use Redis 6.2 or later, or Valkey",
        );
    }
    if let Some(version) = facts.info("valkey_version") {
        return Check::ok("server", format!("Valkey {version}"));
    }
    let Some(version) = facts.info("redis_version") else {
        return no_info("server", facts);
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let found = format!("Redis {version}");
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= (6, 2) && major <= 8 => Check::ok("server", found),
        (Some(major), Some(_)) if major > 8 => Check::warning(
            "server",
            found,
            "newer than what ratekeeper is made for: try it before relying on it",
        ),
        (Some(_), Some(_)) => Check::warning(
            "server",
            found,
            "not supported any more: use Redis 6.2 or later, or Valkey",
        ),
        _ => Check::warning(
            "server",
            found,
            "an unknown version: use Redis 6.2 or later, or Valkey",
        ),
    }
}

pub(super) fn role(facts: &Facts) -> Check {
    match &facts.role {
        Ok(role) if role == "master" => Check::ok("role", "primary"),
        Ok(_) => {
            let link = facts.info("master_link_status").unwrap_or("unknown");
            let advice = match facts.kind {
                Kind::Single => {
                    "a replica takes no writes, or loses them: let redis.url (REDIS_URL) name the primary"
                }
                Kind::Sentinel => {
                    "it takes no writes: a failover under way ends within a minute; else see the sentinels' logs"
                }
                Kind::Cluster => "it takes no writes: a replica takes over just now; else see agreement",
            };
            Check::problem("role", format!("replica, link to its primary {link}"), advice)
        }
        Err(fault) => unknown("role", "info", Some(fault)),
    }
}

pub(super) fn cluster(facts: &Facts) -> Check {
    let mode = facts.info("redis_mode").or(facts.info("server_mode"));
    match (facts.info("cluster_enabled"), mode, facts.kind) {
        (_, Some("sentinel"), _) => Check::problem(
            "cluster",
            "a sentinel",
            "it holds no keys: set redis.type (REDIS_TYPE) sentinel, and put the primary's name first in redis.url (REDIS_URL)",
        ),
        (Some("1"), ..) | (_, Some("cluster"), _) => match facts.kind {
            Kind::Cluster => Check::ok("cluster", "a node of a cluster"),
            Kind::Single | Kind::Sentinel => Check::problem(
                "cluster",
                "a node of a cluster",
                "it refuses keys of other nodes: set redis.type (REDIS_TYPE) cluster, with nodes in redis.url (REDIS_URL)",
            ),
        },
        (Some("0"), ..) | (None, Some("standalone"), _) => match facts.kind {
            Kind::Cluster => Check::problem(
                "cluster",
                "no cluster",
                "set redis.type (REDIS_TYPE) single, or let redis.url (REDIS_URL) name a cluster's nodes",
            ),
            Kind::Single | Kind::Sentinel => Check::ok("cluster", "no cluster"),
        },
        _ => no_info("cluster", facts),
    }
}

pub(super) fn eviction(facts: &Facts) -> Check {
    let Some(policy) = facts.info("maxmemory_policy") else {
        return no_info("eviction", facts);
    };
    if policy == "noeviction" {
        return Check::ok("eviction", policy);
    }
    let advice = "CONFIG SET maxmemory-policy noeviction: when memory is full, this one forgets counters, and with them limits";
    Check::warning("eviction", policy, advice)
}

pub(super) fn memory(facts: &Facts) -> Check {
    let (Some(used), Some(max)) = (facts.number("used_memory"), facts.number("maxmemory")) else {
        return no_info("memory", facts);
    };
    if max == 0 {
        let found = format!("{} used, no maxmemory", mib(used));
        return Check::warning(
            "memory",
            found,
            "set maxmemory, and an alarm below it: without it a full machine ends the server",
        );
    }
    // Buffers for replicas and the append-only file do not count.
    let used = used.saturating_sub(facts.number("mem_not_counted_for_evict").unwrap_or(0));
    let percent = u64::try_from(u128::from(used) * 100 / u128::from(max)).unwrap_or(u64::MAX);
    let found = format!("{} of {} used, {percent} %", mib(used), mib(max));
    let refuses = facts.info("maxmemory_policy") == Some("noeviction");
    if percent >= MEMORY_FULL && refuses {
        Check::problem(
            "memory",
            found,
            "raise maxmemory or make room: a full server refuses every charge",
        )
    } else if percent >= MEMORY_HIGH {
        Check::warning("memory", found, "raise maxmemory, or make room")
    } else {
        Check::ok("memory", found)
    }
}

pub(super) fn persistence(facts: &Facts) -> Check {
    let (Some(aof), Some(snapshot)) = (facts.info("aof_enabled"), facts.info("rdb_last_bgsave_status"))
    else {
        return no_info("persistence", facts);
    };
    let (save, aof) = (facts.config("save"), aof == "1");
    let log = "see the server's log, and whether its disk is full";
    if aof
        && facts
            .info("aof_last_write_status")
            .is_some_and(|status| status != "ok")
    {
        return Check::problem(
            "persistence",
            "the last write to the append-only file failed: writes are refused",
            log,
        );
    }
    let stops = facts.config("stop-writes-on-bgsave-error") != Some("no");
    if snapshot != "ok" && stops && save != Some("") {
        return Check::problem("persistence", "the last snapshot failed: writes are refused", log);
    }
    let found = match (aof, save) {
        (true, _) => {
            let sync = facts.config("appendfsync").unwrap_or("unknown");
            let lost = match sync {
                "always" => "nothing, but each call waits for the disk",
                "no" => "what the system had not written yet",
                _ => "the last second or so",
            };
            format!("append-only file, appendfsync {sync}: a restart loses {lost}")
        }
        (false, Some("")) => "none: a restart forgets all counters".to_owned(),
        (false, Some(save)) => format!("snapshots ({save}): a restart forgets all since the last one"),
        (false, None) => {
            "no append-only file, snapshots unknown: a restart forgets all since the last one".to_owned()
        }
    };
    Check::ok("persistence", found)
}

pub(super) fn replicas(facts: &Facts) -> Check {
    let Some(count) = facts.number("connected_slaves") else {
        return no_info("replicas", facts);
    };
    let wanted: Option<u64> = facts
        .config("min-replicas-to-write")
        .and_then(|it| it.parse().ok());
    // With no such setting the line is missing.
    let good = facts.number("min_slaves_good_slaves").unwrap_or(count);
    let text = wanted.map_or_else(|| "unknown".to_owned(), |wanted| wanted.to_string());
    if wanted.is_some_and(|wanted| good < wanted) {
        let found = format!("{good} in time, min-replicas-to-write {text}: writes are refused");
        return Check::problem(
            "replicas",
            found,
            "bring replicas back, or lower min-replicas-to-write",
        );
    }
    if count == 0 {
        return match facts.kind {
            Kind::Single => Check::ok("replicas", "none"),
            Kind::Sentinel | Kind::Cluster => Check::warning(
                "replicas",
                "none",
                "give it one: if it is lost, nothing takes its place, and limits are counted without redis",
            ),
        };
    }
    let lags = (0..count).map(|at| replica_lag(facts, at));
    let Some((lag, behind)) = lags
        .collect::<Option<Vec<_>>>()
        .and_then(|lags| lags.into_iter().max())
    else {
        let found = format!("{count}, not all in step");
        return Check::warning(
            "replicas",
            found,
            "see INFO replication: a failover to such a replica loses counters",
        );
    };
    let found =
        format!("{count}, the slowest {lag} s and {behind} bytes behind, min-replicas-to-write {text}");
    if lag > LAG_MAX_S {
        Check::warning(
            "replicas",
            found,
            "look at the network and the replica: a failover to it loses what it lacks",
        )
    } else if wanted == Some(0) {
        let advice = "set min-replicas-to-write 1: else a primary that is cut off counts on, and that is lost at the failover";
        Check::warning("replicas", found, advice)
    } else {
        Check::ok("replicas", found)
    }
}

/// Seconds since a replica's last word, and bytes that it lacks; `None` for one that is not in step.
fn replica_lag(facts: &Facts, at: u64) -> Option<(u64, u64)> {
    let line = facts.info(&format!("slave{at}"))?;
    let part = |name: &str| {
        let mut parts = line.split(',').filter_map(|part| part.split_once('='));
        parts.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if part("state") != Some("online") {
        return None;
    }
    let lag = part("lag")?.parse().ok()?;
    let offset: u64 = part("offset")?.parse().ok()?;
    let written = facts.number("master_repl_offset")?;
    Some((lag, written.saturating_sub(offset)))
}

pub(super) fn encoding(facts: &Facts) -> Check {
    let number = |new: &str, old: &str| {
        let (name, value) = [new, old]
            .into_iter()
            .find_map(|name| Some((name.to_owned(), facts.config(name)?)))?;
        Some((name, value.parse::<u64>().ok()?))
    };
    let entries = number("zset-max-listpack-entries", "zset-max-ziplist-entries");
    let value = number("zset-max-listpack-value", "zset-max-ziplist-value");
    let (Some((entries_name, entries)), Some((value_name, value))) = (entries, value) else {
        return no_config("encoding", facts);
    };
    let found = format!("{entries_name} {entries}, {value_name} {value}");
    if entries >= WINDOW_ENTRIES && value >= WINDOW_VALUE {
        return Check::ok("encoding", found);
    }
    let advice = format!(
        "CONFIG SET {entries_name} {WINDOW_ENTRIES}, CONFIG SET {value_name} {WINDOW_VALUE}: below, a full sliding window \
         takes eight times the memory"
    );
    Check::warning("encoding", found, advice)
}
