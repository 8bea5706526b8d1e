//! Asks a server that holds counters for everything.

use std::hash::BuildHasher as _;

use redis::{Cmd, Value, cmd};

use super::asker::{Asker, Way};
use super::facts::{Answer, Facts, Fault, Rights, RoundTrips, Sample, Values, lines};
use crate::limiter::{Algorithm, Charge, Limit, Micros, Prior};
use crate::store::Keys;
use crate::store::redis::call::{Call, Decision, Reply};
use crate::store::redis::deployment::Kind;
use crate::store::redis::script::{Dialect, Script};
use crate::store::redis::server::Server;
use crate::store::redis::slot::tag_in;

/// The longest time for measuring round trips.
const ROUND_TRIPS_WITHIN_US: Micros = 3_000_000;
/// Bounds of the look at existing keys.
const SCAN_COUNT: usize = 500;
const SCAN_WITHIN_US: Micros = 1_000_000;

/// Reads the time and then writes, as our scripts do, and leaves nothing behind.
const TIME_AND_WRITE: &str = "local now = redis.call('TIME')
redis.call('SET', KEYS[1], now[1], 'PX', 5000)
return redis.call('DEL', KEYS[1])";

const CONFIG: &[&str] = &[
    "save",
    "appendfsync",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "zset-max-ziplist-entries",
    "zset-max-ziplist-value",
];

/// Connects as a lane does, and asks for everything. On a cluster `its` says which slots this server has, for the keys that are
/// written.
pub(super) async fn collect(
    way: Way<'_>,
    server: &Server,
    its: Option<&(dyn Fn(u16) -> bool + Sync)>,
) -> Facts {
    let subject = way.subject;
    let op_timeout_us = u64::try_from(subject.op_timeout.as_micros()).unwrap_or(Micros::MAX);
    let kind = subject.deployment.kind();
    let started = way.clock.now_us();
    let mut asker = match Asker::connect(way, server, "TIME").await {
        Ok(asker) => asker,
        Err(fault) => return Facts::unreachable(op_timeout_us, kind, &fault),
    };
    let connected = Ok(asker.now_us() - started);
    let name = format!("doctor:{:016x}", std::hash::RandomState::new().hash_one(started));
    let prefix = subject.prefix.as_str();
    let probe = match its {
        None => format!("{prefix}{name}"),
        // One without slots refuses any key, which is what is to be seen then.
        Some(its) => tag_in(its).map_or_else(
            || format!("{prefix}{name}"),
            |tag| format!("{prefix}{{{tag}}}{name}"),
        ),
    };
    let user = asker.user.clone();
    let info = info(&mut asker).await;
    let dialect = load(&mut asker, &info).await;
    Facts {
        op_timeout_us,
        kind,
        connected,
        role: role(&mut asker, &info).await,
        info,
        config: config(&mut asker).await,
        rights: rights(&mut asker, kind, user, &probe).await,
        time_and_write: time_and_write(&mut asker, &probe).await,
        scripts: scripts(&mut asker, &probe, &dialect).await,
        dialect: dialect.ok(),
        round_trips: round_trips(&mut asker, way.effort.round_trips).await,
        sample: sample(&mut asker, prefix, way.effort.scans).await,
    }
}

async fn info(asker: &mut Asker<'_>) -> Answer<Values> {
    let text: String = asker.ask(&cmd("INFO")).await?;
    Ok(lines(&text))
}

/// `master` or `slave`, from whichever may be asked.
async fn role(asker: &mut Asker<'_>, info: &Answer<Values>) -> Answer<String> {
    if let Ok(Some(role)) = info.as_ref().map(|info| info.get("role")) {
        return Ok(role.clone());
    }
    let role: Vec<Value> = asker.ask(&cmd("ROLE")).await?;
    let first = role.into_iter().next().unwrap_or(Value::Nil);
    redis::from_redis_value(first).map_err(|_| Fault::new("wrong", "its answer to ROLE is none"))
}

/// One name at a time: several at once are new in Redis 7, and a pattern would bring passwords along.
async fn config(asker: &mut Asker<'_>) -> Answer<Values> {
    let mut values = Values::new();
    for name in CONFIG {
        values.extend(asker.ask::<Values>(cmd("CONFIG").arg("GET").arg(name)).await?);
    }
    Ok(values)
}

/// Sends every command that the scripts use in a form that changes nothing. Servers look at rights before anything else, so that
/// any other error is none here. `ACL DRYRUN` would tell the same, but is a right of administrators, and new in Redis 7.
async fn rights(asker: &mut Asker<'_>, kind: Kind, user: String, probe: &str) -> Answer<Rights> {
    let no_such_script = "0".repeat(40);
    let mut commands: Vec<(&'static str, Vec<&str>)> = vec![
        ("evalsha", vec!["EVALSHA", &no_such_script, "1", probe]),
        ("script|load", vec!["SCRIPT", "LOAD", "return 1"]),
        ("time", vec!["TIME"]),
        ("zrange", vec!["ZRANGE", probe, "0", "0"]),
        ("zrangebyscore", vec!["ZRANGEBYSCORE", probe, "0", "0"]),
        ("zcount", vec!["ZCOUNT", probe, "0", "0"]),
        ("zcard", vec!["ZCARD", probe]),
        ("zadd", vec!["ZADD", probe, "XX", "0", "x"]),
        ("zrem", vec!["ZREM", probe, "x"]),
        ("zremrangebyrank", vec!["ZREMRANGEBYRANK", probe, "0", "0"]),
        ("get", vec!["GET", probe]),
        ("set", vec!["SET", probe, "x", "XX", "PX", "1000"]),
        ("del", vec!["DEL", probe]),
        ("pexpire", vec!["PEXPIRE", probe, "1000"]),
    ];
    if kind == Kind::Cluster {
        // It holds for the next command alone.
        commands.extend([
            ("cluster|slots", vec!["CLUSTER", "SLOTS"]),
            ("asking", vec!["ASKING"]),
        ]);
    }
    let mut rights = Rights {
        // Who may not ask is who we said we are.
        user: asker.ask(cmd("ACL").arg("WHOAMI")).await.unwrap_or(user),
        missing: Vec::new(),
    };
    for (name, words) in commands {
        let mut command = Cmd::new();
        command.arg(words);
        match asker.ask::<Value>(&command).await {
            Err(fault) if fault.code == "NOPERM" => rights.missing.push(name),
            Err(fault) if ["timeout", "unreachable"].contains(&fault.code.as_str()) => return Err(fault),
            _ => {}
        }
    }
    Ok(rights)
}

async fn time_and_write(asker: &mut Asker<'_>, probe: &str) -> Answer<()> {
    let hash: String = asker.ask(cmd("SCRIPT").arg("LOAD").arg(TIME_AND_WRITE)).await?;
    asker.ask(cmd("EVALSHA").arg(hash).arg(1).arg(probe)).await
}

/// Loads the scripts as a lane does: with flags where the server knows them, without where it is too old or does not take them.
async fn load(asker: &mut Asker<'_>, info: &Answer<Values>) -> Answer<Dialect> {
    let version = info.as_ref().ok().and_then(|info| info.get("redis_version"));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major >= 7) {
        let loaded = load_in(asker, Dialect::Flags).await;
        if loaded.is_ok() || major.is_some() {
            return loaded.map(|()| Dialect::Flags);
        }
    }
    load_in(asker, Dialect::Plain).await.map(|()| Dialect::Plain)
}

async fn load_in(asker: &mut Asker<'_>, dialect: Dialect) -> Answer<()> {
    for script in Script::all() {
        let () = asker
            .ask(cmd("SCRIPT").arg("LOAD").arg(script.text(dialect)))
            .await?;
    }
    Ok(())
}

/// Runs the scripts that decide: a consume alone, and one of each algorithm in a call.
async fn scripts(asker: &mut Asker<'_>, probe: &str, dialect: &Answer<Dialect>) -> Answer<()> {
    let dialect = *dialect.as_ref().map_err(Fault::clone)?;
    let algorithms = [
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
        Algorithm::TokenBucket,
    ];
    for algorithms in [&algorithms[..1], &algorithms[..]] {
        let (call, keys) = call(algorithms, probe)?;
        let mut command = Cmd::new();
        call.write_to(call.script(), dialect, &mut command);
        let value = asker.ask::<Value>(&command).await;
        // Should this fail, their time to live ends them.
        let _ = asker.ask::<Value>(cmd("DEL").arg(keys)).await;
        let mut reply = Reply::default();
        let wrong = |text: &str| Fault::new("wrong", text);
        call.decode(&value?, &mut reply)
            .map_err(|error| wrong(&error.to_string()))?;
        match call.decision(&reply, 0) {
            Some(Decision::Decided { verdicts, .. }) if verdicts.iter().all(|it| !it.over) => {}
            _ => return Err(wrong("the script did not admit a first hit")),
        }
    }
    Ok(())
}

/// A call with a hit on a new counter of each algorithm, and its keys.
fn call(algorithms: &[Algorithm], probe: &str) -> Answer<(Call, Vec<String>)> {
    let mut keys = Keys::default();
    let mut charges = Vec::new();
    for &algorithm in algorithms {
        let counter = keys.add(0, |key| {
            key.push_str(probe);
            key.push(':');
            key.push_str(algorithm.name());
        });
        let limit = Limit::new(algorithm, 10, 1_000_000, None);
        charges.push(Charge::consume(counter, limit, 1));
    }
    let mut call = Call::new();
    call.push(&keys, &charges, Prior::default(), 0)
        .map_err(|refused| Fault::new("wrong", &refused.to_string()))?;
    let names = call.keys().map(str::to_owned).collect();
    Ok((call, names))
}

/// By `TIME`, which costs what `PING` does, needs no right that the scripts do not need, and tells the clock as well.
async fn round_trips(asker: &mut Asker<'_>, count: usize) -> Answer<RoundTrips> {
    let (time, end) = (cmd("TIME"), asker.now_us() + ROUND_TRIPS_WITHIN_US);
    let mut times = Vec::with_capacity(count);
    let mut fastest: Option<(Micros, i64)> = None;
    while times.len() < count {
        asker.pause().await;
        let sent = asker.now_us();
        if sent > end && !times.is_empty() {
            break;
        }
        let (seconds, micros): (u64, u64) = asker.ask(&time).await?;
        let took = asker.now_us() - sent;
        let (server, ours) = (seconds * 1_000_000 + micros, sent + took / 2);
        if fastest.is_none_or(|(least, _)| took < least) {
            fastest = Some((took, server.cast_signed().saturating_sub(ours.cast_signed())));
        }
        times.push(took);
    }
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    Ok(RoundTrips {
        count: times.len(),
        p50_us: percentile(50),
        p99_us: percentile(99),
        clock_ahead_us: fastest.map_or(0, |(_, ahead)| ahead),
    })
}

async fn sample(asker: &mut Asker<'_>, prefix: &str, scans: usize) -> Answer<Sample> {
    let (pattern, end) = (pattern(prefix), asker.now_us() + SCAN_WITHIN_US);
    let mut sample = Sample::default();
    let mut cursor = "0".to_owned();
    for _ in 0..scans {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(&pattern);
        let (next, keys): (String, Vec<Vec<u8>>) = asker.ask(scan.arg("COUNT").arg(SCAN_COUNT)).await?;
        for key in keys {
            asker.pause().await;
            // -2 is a key that is gone by now.
            match asker.ask::<i64>(cmd("PTTL").arg(&key)).await? {
                -2 => continue,
                -1 => {
                    sample.without_ttl += 1;
                    let name = || String::from_utf8_lossy(&key).into_owned();
                    sample.example.get_or_insert_with(name);
                }
                _ => {}
            }
            sample.keys += 1;
            if asker.now_us() > end {
                return Ok(sample);
            }
        }
        cursor = next;
        if cursor == "0" {
            sample.all = true;
            break;
        }
        if asker.now_us() > end {
            break;
        }
    }
    Ok(sample)
}

/// What matches all keys that begin with the prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for letter in prefix.chars() {
        if "*?[]^\\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_prefix_with_wildcards_matches_itself_only() {
        assert_eq!(pattern("rk:"), "rk:*");
        assert_eq!(pattern("a*[b]?"), "a\\*\\[b\\]\\?*");
    }
}
