//! What was found by trying.

use super::super::facts::Facts;
use super::super::report::{CONNECTION, Check};
use super::{ms, remedy, unknown};
use crate::store::redis::script::Dialect;

/// Nothing depends on our clock being the server's, but people who read both logs do.
const CLOCKS_APART_US: u64 = 1_000_000;

pub(super) fn connection(facts: &Facts) -> Check {
    match &facts.connected {
        Ok(took) => Check::ok(CONNECTION, format!("made in {}", ms(*took))),
        Err(fault) => Check::problem(CONNECTION, fault.to_string(), remedy(facts.kind, fault)),
    }
}

pub(super) fn rights(facts: &Facts) -> Check {
    match &facts.rights {
        Ok(rights) => {
            let user = &rights.user;
            if rights.missing.is_empty() {
                return Check::ok(
                    "rights",
                    format!("user {user} may use all commands of the scripts"),
                );
            }
            let missing = rights.missing.join(", ");
            let grant = rights.missing.join(" +");
            Check::problem(
                "rights",
                format!("user {user} may not use {missing}"),
                format!("ACL SETUSER {user} +{grant}, with keys that begin with redis.key_prefix"),
            )
        }
        Err(fault) => Check::problem("rights", fault.to_string(), remedy(facts.kind, fault)),
    }
}

pub(super) fn time_and_write(facts: &Facts) -> Check {
    match &facts.time_and_write {
        Ok(()) => Check::ok("time", "scripts may read the time and then write"),
        Err(fault) => Check::problem("time", fault.to_string(), remedy(facts.kind, fault)),
    }
}

/// How scripts are sent to this server; nothing where they could not be loaded, which [`scripts`] says.
pub(super) fn dialect(facts: &Facts) -> Option<Check> {
    let found = match facts.dialect? {
        Dialect::Flags => {
            "scripts have flags: a server that is full or read-only refuses them before they run"
        }
        Dialect::Plain => {
            "scripts have no flags, which came with Redis 7: a server that is full or read-only refuses when they write"
        }
    };
    Some(Check::ok("dialect", found))
}

pub(super) fn scripts(facts: &Facts) -> Check {
    match &facts.scripts {
        Ok(()) => Check::ok("scripts", "loaded, and admitted a first hit by each algorithm"),
        Err(fault) => Check::problem("scripts", fault.to_string(), remedy(facts.kind, fault)),
    }
}

pub(super) fn round_trips(facts: &Facts) -> Check {
    let trips = match &facts.round_trips {
        Ok(trips) => trips,
        Err(fault) => return Check::problem("round trip", fault.to_string(), remedy(facts.kind, fault)),
    };
    let timeout = facts.op_timeout_us;
    let found = format!(
        "p50 {}, p99 {} of {}, with redis.op_timeout {}",
        ms(trips.p50_us),
        ms(trips.p99_us),
        trips.count,
        ms(timeout)
    );
    let advice = "bring the server nearer, look for slow commands on it, or raise redis.op_timeout (REDIS_OP_TIMEOUT) \
                  together with the callers' timeouts";
    if trips.p50_us >= timeout {
        Check::problem(
            "round trip",
            found,
            format!("most requests will be decided without redis: {advice}"),
        )
    } else if trips.p99_us > timeout / 2 {
        Check::warning(
            "round trip",
            found,
            format!("some requests may be decided without redis: {advice}"),
        )
    } else {
        Check::ok("round trip", found)
    }
}

/// Nothing where the round trips were not seen, which says why.
pub(super) fn clock(facts: &Facts) -> Option<Check> {
    let ahead = facts.round_trips.as_ref().ok()?.clock_ahead_us;
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let found = format!("the server's is {} {side} ours", ms(ahead.unsigned_abs()));
    if ahead.unsigned_abs() > CLOCKS_APART_US {
        let advice =
            "let NTP set both, by slewing: windows follow the server's, logs and counters without redis ours";
        Some(Check::warning("clock", found, advice))
    } else {
        Some(Check::ok("clock", found))
    }
}

pub(super) fn keys(facts: &Facts) -> Check {
    let sample = match &facts.sample {
        Ok(sample) => sample,
        Err(fault) => return unknown("keys", "scan +pttl", Some(fault)),
    };
    let (keys, without) = (sample.keys, sample.without_ttl);
    let which = if sample.all { "" } else { "first " };
    let found = match &sample.example {
        None if keys == 0 => "none with our prefix".to_owned(),
        None => format!("all of the {which}{keys} with our prefix have a time to live"),
        Some(key) => {
            format!("{without} of the {which}{keys} with our prefix lack a time to live, such as {key}")
        }
    };
    if without == 0 {
        Check::ok("keys", found)
    } else {
        let advice =
            "ratekeeper wrote none of these: find who did, delete them, or set another redis.key_prefix";
        Check::warning("keys", found, advice)
    }
}
