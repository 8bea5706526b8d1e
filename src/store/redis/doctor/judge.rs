//! What the facts mean. Asks nothing.

mod cluster;
mod probes;
mod sentinels;
mod server;

pub(super) use self::cluster::of_cluster;
pub(super) use self::sentinels::of_sentinels;
use super::facts::{Facts, Fault};
use super::report::Check;
use crate::limiter::Micros;
use crate::store::redis::deployment::Kind;

/// All checks of a server that holds counters; one that can't be reached has one.
pub(super) fn of_server(facts: &Facts) -> Vec<Check> {
    let connection = probes::connection(facts);
    if facts.connected.is_err() {
        return vec![connection];
    }
    let mut checks = vec![connection];
    match &facts.info {
        Ok(_) => {
            checks.extend([server::kind(facts), server::role(facts), server::cluster(facts)]);
        }
        Err(fault) => {
            checks.push(unknown("server", "info", Some(fault)));
            // That one may be told apart by other means.
            if facts.role.is_ok() {
                checks.push(server::role(facts));
            }
        }
    }
    checks.extend([probes::rights(facts), probes::time_and_write(facts)]);
    checks.extend(probes::dialect(facts));
    checks.extend([probes::scripts(facts), probes::round_trips(facts)]);
    checks.extend(probes::clock(facts));
    // One line is enough to say that INFO is not allowed.
    if facts.info.is_ok() {
        checks.extend([
            server::eviction(facts),
            server::memory(facts),
            server::persistence(facts),
            server::replicas(facts),
        ]);
    }
    checks.extend([server::encoding(facts), probes::keys(facts)]);
    checks
}

/// A value that could not be seen.
fn unknown(check: &'static str, right: &str, fault: Option<&Fault>) -> Check {
    let why = fault.map_or_else(|| "not said by the server".to_owned(), Fault::to_string);
    let advice = match fault {
        Some(fault) if fault.code != "NOPERM" => {
            "look at it by other means, such as the provider's".to_owned()
        }
        _ => format!("allow +{right} to this user to have it checked, or look at it by other means"),
    };
    Check::warning(check, format!("unknown: {why}"), advice)
}

/// What to do about a refusal by a part of such a deployment.
fn remedy(kind: Kind, fault: &Fault) -> &'static str {
    match (fault.code.as_str(), kind) {
        ("READONLY" | "MASTERDOWN", Kind::Sentinel) => {
            "what the sentinels name is a replica: a failover under way ends within a minute; else see their logs"
        }
        ("READONLY" | "MASTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT", Kind::Cluster) => {
            "slots move or a replica takes over: try again in a minute; else see agreement"
        }
        ("CLUSTERDOWN", Kind::Cluster) => "see state and slots",
        ("unreachable" | "timeout", Kind::Sentinel) => {
            "see whether the primary runs, and whether it is reached from here by the address that the sentinels name"
        }
        ("unreachable" | "timeout", Kind::Cluster) => {
            "see whether the node runs, and whether it is reached from here by the address that the cluster names"
        }
        (code, _) => usual_remedy(code),
    }
}

fn usual_remedy(code: &str) -> &'static str {
    match code {
        "NOAUTH" => "the server asks for a password: set redis.auth (REDIS_AUTH)",
        "WRONGPASS" => "correct redis.auth (REDIS_AUTH), or user and password in redis.url (REDIS_URL)",
        "NOPERM" => "grant the rights that docs/redis.md lists, and keys that begin with redis.key_prefix",
        "READONLY" => "let redis.url (REDIS_URL) name the primary",
        "OOM" => "the server's memory is full: raise maxmemory, or make room",
        "LOADING" => "the server still reads its data: wait",
        "CLUSTERDOWN" | "MOVED" | "CROSSSLOT" => "a cluster's node: set redis.type (REDIS_TYPE) cluster",
        "MISCONF" => "the last snapshot failed, so writes are refused: see the server's log, or set save ''",
        "NOREPLICAS" => "writes are refused for want of replicas: see replicas",
        "MASTERDOWN" => "a replica without its primary: let redis.url (REDIS_URL) name the primary",
        "BUSY" => "somebody's script runs too long: SCRIPT KILL, and give limits a server of their own",
        "timeout" => {
            "look for slow commands on the server and at the network, or raise redis.timeout (REDIS_TIMEOUT)"
        }
        "unreachable" => "see whether the server runs, and whether redis.url (REDIS_URL) names it",
        _ => "see the server's log; scripts must be allowed",
    }
}

/// Milliseconds with two digits.
fn ms(us: Micros) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}

/// Mebibytes with one digit.
fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

#[cfg(test)]
mod tests;
