//! The scripts on a real Redis: what they leave there, what they make of keys that are not theirs, and what they cost.

mod calls;
mod cost;
mod dialects;
mod give_back;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior};
use ratekeeper::store::Keys;
use ratekeeper::store::redis::call::{Call, Decision, Reply};
use ratekeeper::store::redis::script::{Dialect, Script};
use redis::{Cmd, Connection, ErrorKind, ServerErrorKind, Value};

use crate::limiter_oracle::Random;
use crate::lua_equals_rust::{load, run};
use crate::support::redis::Redis;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
const YEAR: Micros = 365 * 86_400 * SECOND;
const SHARED: [Algorithm; 3] = [
    Algorithm::SlidingWindow,
    Algorithm::FixedWindow,
    Algorithm::TokenBucket,
];

fn charge(counter: usize, limit: Limit, hits: u64, mode: Mode) -> Charge {
    Charge {
        counter,
        limit,
        hits,
        mode,
        shadow: false,
        quota: false,
    }
}

fn consume(limit: Limit, hits: u64) -> Charge {
    charge(0, limit, hits, Mode::Consume)
}

fn keys(names: &[&str]) -> Keys {
    let mut keys = Keys::default();
    for name in names {
        keys.add(0, |text| text.push_str(name));
    }
    keys
}

fn limit(algorithm: Algorithm, requests: u32, window: Micros) -> Limit {
    Limit::new(algorithm, requests, window, None)
}

fn server() -> (Redis, Connection) {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    (redis, connection)
}

/// Asks with the script that the service would take.
fn ask(connection: &mut Connection, call: &Call) -> Reply {
    ask_with(connection, call.script(), call)
}

fn ask_with(connection: &mut Connection, script: &Script, call: &Call) -> Reply {
    let mut reply = Reply::default();
    let value = run(connection, script, call);
    call.decode(&value, &mut reply).unwrap();
    reply
}

/// One request by itself; whether it was denied.
fn denied(connection: &mut Connection, keys: &Keys, charges: &[Charge]) -> bool {
    let mut call = Call::new();
    call.push(keys, charges, Prior::default(), 0).unwrap();
    let reply = ask(connection, &call);
    match call.decision(&reply, 0).unwrap() {
        Decision::Decided { outcome, .. } => outcome.denied,
        other => panic!("{other:?}"),
    }
}

/// Every key with its content and the instant at which it expires.
fn everything(connection: &mut Connection) -> Vec<(String, Vec<u8>, i64)> {
    let mut names: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
    names.sort();
    let one = |name: String| {
        let mut pipe = redis::pipe();
        pipe.cmd("DUMP").arg(&name).cmd("PEXPIRETIME").arg(&name);
        let (dump, expires): (Vec<u8>, i64) = pipe.query(connection).unwrap();
        (name, dump, expires)
    };
    names.into_iter().map(one).collect()
}

#[test]
fn a_denied_request_leaves_every_byte_as_it_was() {
    let (_redis, mut connection) = server();
    for algorithm in SHARED {
        let (small, large) = (
            limit(algorithm, 3, 100 * YEAR),
            limit(algorithm, 10_000, 100 * YEAR),
        );
        let name = format!("rk:{algorithm:?}");
        let (full, other, new) = (
            format!("{name}:full"),
            format!("{name}:other"),
            format!("{name}:new"),
        );
        assert!(!denied(&mut connection, &keys(&[&full]), &[consume(small, 3)]));
        assert!(!denied(&mut connection, &keys(&[&other]), &[consume(large, 7)]));
        let before = everything(&mut connection);
        let three = keys(&[&full, &other, &new]);
        for hits in [1, 2, 3, 4, u64::MAX] {
            assert!(denied(&mut connection, &keys(&[&full]), &[consume(small, hits)]));
            let fitting = [
                charge(1, large, 5, Mode::Consume),
                charge(2, large, 5, Mode::Consume),
                charge(0, small, hits, Mode::Consume),
                charge(1, large, 0, Mode::Peek),
            ];
            assert!(denied(&mut connection, &three, &fitting));
            assert_eq!(everything(&mut connection), before, "{algorithm:?}, {hits} hits");
        }
        let before_that = denied(&mut connection, &three, &[charge(1, large, 1, Mode::Consume)]);
        assert!(!before_that);
        assert_ne!(everything(&mut connection), before, "the check would see a write");
    }
}

#[test]
fn every_key_has_a_time_to_live_whatever_the_limit() {
    let (_redis, mut connection) = server();
    let windows = [
        1,
        7,
        999,
        SECOND,
        MINUTE,
        86_400 * SECOND,
        YEAR,
        100 * YEAR,
        u64::MAX,
    ];
    let mut random = Random::new(4);
    let mut call = Call::new();
    for round in 0..1_500 {
        call.clear();
        for _ in 0..1 + random.below(6) {
            let algorithm = random.pick(&SHARED);
            let window = random.pick(&windows);
            let name = format!("rk:{algorithm:?}:{window}:{}", random.below(4));
            let requests = random.pick(&[0, 1, 10, 1_000, u32::MAX]);
            let burst = random.one_in(3).then(|| random.pick(&[1, 5, u32::MAX]));
            let hits = random.pick(&[1, 1, 2, 50, 1 << 32, u64::MAX]);
            let mode = random.pick(&[Mode::Consume, Mode::Record, Mode::Record, Mode::Refund]);
            let limit = Limit::new(algorithm, requests, window, burst);
            call.push(
                &keys(&[&name]),
                &[charge(0, limit, hits, mode)],
                Prior::default(),
                0,
            )
            .unwrap();
        }
        ask(&mut connection, &call);
        for name in call.keys() {
            let ttl: i64 = redis::cmd("PTTL").arg(name).query(&mut connection).unwrap();
            let longest = i64::try_from(300 * YEAR / 1_000).unwrap();
            // -2: expired already; -1 would be a key for ever.
            assert!(
                ttl == -2 || (0..longest).contains(&ttl),
                "round {round}: {name}: PTTL {ttl}"
            );
        }
    }
    // A window's key is gone soon after its content is: an eighth of the window later at most.
    assert!(!denied(
        &mut connection,
        &keys(&["rk:short"]),
        &[consume(limit(SHARED[0], 5, SECOND), 1)]
    ));
    let ttl: i64 = redis::cmd("PTTL").arg("rk:short").query(&mut connection).unwrap();
    assert!((1..=1_135).contains(&ttl), "{ttl}");
}

/// Nobody can record so much in a test's time, so the counters are put there.
#[test]
fn records_stop_at_2_to_the_52_units() {
    let (_redis, mut connection) = server();
    const FULL: u64 = 1 << 52;
    let now = 1_700_000_000 * SECOND;
    let almost = (FULL - 10).to_string();
    let window = format!("{} {almost}", now - now % MINUTE);
    for (name, command) in [
        (
            "rk:set",
            vec!["ZADD", "rk:set", "0", "0", "1699999999000000", &almost],
        ),
        ("rk:window", vec!["SET", "rk:window", &window]),
    ] {
        let algorithm = if name == "rk:set" { SHARED[0] } else { SHARED[1] };
        let limit = limit(algorithm, 5, MINUTE);
        let _: Value = redis::cmd(command[0])
            .arg(&command[1..])
            .query(&mut connection)
            .unwrap();
        for hits in [4, 100, 1 << 32] {
            let mut call = Call::new();
            call.set_now(now);
            call.push(
                &keys(&[name]),
                &[charge(0, limit, hits, Mode::Record)],
                Prior::default(),
                0,
            )
            .unwrap();
            call.push(
                &keys(&[name]),
                &[charge(0, limit, 0, Mode::Peek)],
                Prior::default(),
                0,
            )
            .unwrap();
            let reply = ask(&mut connection, &call);
            for request in 0..2 {
                let Some(Decision::Decided { verdicts, .. }) = call.decision(&reply, request) else {
                    panic!("{name}: not decided");
                };
                let used = if hits == 4 { FULL - 6 } else { FULL };
                assert_eq!(verdicts[0].used, used, "{name}, {hits} hits, request {request}");
            }
        }
    }
}

/// A million recorded hits at ever new instants, by limits of different ticks on one key.
#[test]
fn a_sorted_set_stays_a_listpack_in_a_storm_of_records() {
    let (_redis, mut connection) = server();
    let limits =
        [1, 125, 126, 1_000, u32::MAX].map(|requests| limit(Algorithm::SlidingWindow, requests, MINUTE));
    let mut random = Random::new(5);
    let mut call = Call::new();
    let mut now = 1_700_000_000 * SECOND;
    let (mut most, mut full) = (0, 0);
    for _ in 0..3_000 {
        now += random.pick(&[1, 1, 1_000, 100_000, 500_000]);
        call.clear();
        call.set_now(now);
        for _ in 0..1 + random.below(4) {
            let charge = charge(0, random.pick(&limits), 1 + random.below(300), Mode::Record);
            call.push(&keys(&["rk:storm"]), &[charge], Prior::default(), 0)
                .unwrap();
        }
        ask(&mut connection, &call);
        let mut pipe = redis::pipe();
        pipe.cmd("OBJECT")
            .arg("ENCODING")
            .arg("rk:storm")
            .cmd("ZCARD")
            .arg("rk:storm");
        // A set that was a skiplist for a moment stays one.
        let (encoding, entries): (String, usize) = pipe.query(&mut connection).unwrap();
        assert_eq!(encoding, "listpack", "{entries} entries");
        most = most.max(entries);
        full += usize::from(entries == 127);
    }
    assert_eq!(most, 127);
    assert!(full > 100, "only {full} times full: no storm");
}

#[test]
fn a_key_that_is_not_ours_spoils_only_its_own_request() {
    let (_redis, mut connection) = server();
    let strangers: [(&str, Algorithm, &[&str]); 12] = [
        ("rk:list", Algorithm::SlidingWindow, &["LPUSH", "rk:list", "1"]),
        ("rk:text", Algorithm::SlidingWindow, &["SET", "rk:text", "1"]),
        (
            "rk:words",
            Algorithm::SlidingWindow,
            &["ZADD", "rk:words", "1", "a", "2", "b"],
        ),
        (
            "rk:alone",
            Algorithm::SlidingWindow,
            &["ZADD", "rk:alone", "5", "5"],
        ),
        (
            "rk:huge",
            Algorithm::SlidingWindow,
            &["ZADD", "rk:huge", "0", "0", "1", "1e300"],
        ),
        (
            "rk:set",
            Algorithm::FixedWindow,
            &["ZADD", "rk:set", "0", "0", "5", "5"],
        ),
        ("rk:empty", Algorithm::FixedWindow, &["SET", "rk:empty", ""]),
        ("rk:bucket", Algorithm::FixedWindow, &["SET", "rk:bucket", "5@5"]),
        (
            "rk:long",
            Algorithm::FixedWindow,
            &["SET", "rk:long", "1 99999999999999999999"],
        ),
        ("rk:hash", Algorithm::TokenBucket, &["HSET", "rk:hash", "a", "b"]),
        ("rk:window", Algorithm::TokenBucket, &["SET", "rk:window", "5 5"]),
        ("rk:number", Algorithm::TokenBucket, &["SET", "rk:number", "5"]),
    ];
    let good = limit(Algorithm::SlidingWindow, 1_000, MINUTE);
    for (name, algorithm, command) in strangers {
        let _: Value = redis::cmd(command[0])
            .arg(&command[1..])
            .query(&mut connection)
            .unwrap();
        let before: Vec<u8> = redis::cmd("DUMP").arg(name).query(&mut connection).unwrap();
        let bad = limit(algorithm, 10, MINUTE);
        for mode in [Mode::Consume, Mode::Record, Mode::Peek, Mode::Refund] {
            let mut call = Call::new();
            let spoilt = [charge(0, good, 1, Mode::Record), charge(1, bad, 1, mode)];
            call.push(&keys(&["rk:good"]), &[consume(good, 1)], Prior::default(), 0)
                .unwrap();
            call.push(&keys(&["rk:beside", name]), &spoilt, Prior::default(), 0)
                .unwrap();
            call.push(&keys(&["rk:good"]), &[consume(good, 1)], Prior::default(), 0)
                .unwrap();
            call.push(&keys(&[name]), &[consume(bad, 1)], Prior::default(), 0)
                .unwrap();
            let reply = ask(&mut connection, &call);
            for request in [0, 2] {
                let decision = call.decision(&reply, request).unwrap();
                assert!(
                    matches!(decision, Decision::Decided { .. }),
                    "{name}: {decision:?}"
                );
            }
            for request in [1, 3] {
                assert_eq!(
                    call.decision(&reply, request),
                    Some(Decision::NotOurs { key: name })
                );
            }
        }
        let mut call = Call::new();
        call.push(&keys(&[name]), &[consume(bad, 1)], Prior::default(), 0)
            .unwrap();
        let reply = ask_with(&mut connection, Script::single(), &call);
        assert_eq!(call.decision(&reply, 0), Some(Decision::NotOurs { key: name }));
        let after: Vec<u8> = redis::cmd("DUMP").arg(name).query(&mut connection).unwrap();
        assert_eq!(after, before, "{name}");
    }
    let beside: bool = redis::cmd("EXISTS")
        .arg("rk:beside")
        .query(&mut connection)
        .unwrap();
    assert!(!beside, "something of a spoilt request was written");
    // The same key with two algorithms in one call: the first has it.
    let mut call = Call::new();
    for algorithm in SHARED {
        let charge = consume(limit(algorithm, 10, MINUTE), 1);
        call.push(&keys(&["rk:mixed"]), &[charge], Prior::default(), 0)
            .unwrap();
    }
    let reply = ask(&mut connection, &call);
    assert!(matches!(call.decision(&reply, 0), Some(Decision::Decided { .. })));
    assert_eq!(
        call.decision(&reply, 1),
        Some(Decision::NotOurs { key: "rk:mixed" })
    );
    assert_eq!(
        call.decision(&reply, 2),
        Some(Decision::NotOurs { key: "rk:mixed" })
    );
}

fn server_time(connection: &mut Connection) -> Micros {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(connection).unwrap();
    seconds * SECOND + micros
}

#[test]
fn the_servers_time_decides_also_who_comes_too_late() {
    let (_redis, mut connection) = server();
    let limit = limit(Algorithm::SlidingWindow, 10, MINUTE);
    for script in [Script::batch(), Script::single()] {
        let before = server_time(&mut connection);
        for (not_after, late) in [
            (0, false),
            (1, true),
            (before - 1, true),
            (before + MINUTE, false),
        ] {
            let mut call = Call::new();
            let name = format!("rk:late:{not_after}:{}", script.hash(Dialect::Plain));
            call.push(&keys(&[&name]), &[consume(limit, 1)], Prior::default(), not_after)
                .unwrap();
            let reply = ask_with(&mut connection, script, &call);
            assert!((before..=server_time(&mut connection)).contains(&reply.now_us));
            let decision = call.decision(&reply, 0).unwrap();
            assert_eq!(decision == Decision::TooLate, late, "{decision:?}");
            let exists: bool = redis::cmd("EXISTS").arg(&name).query(&mut connection).unwrap();
            assert_eq!(exists, !late);
        }
    }
}

/// A caller that gave up while Redis stood still must not be charged when it goes on.
#[test]
fn a_call_that_waits_out_a_freeze_charges_nothing() {
    let (redis, mut connection) = server();
    let limit = limit(Algorithm::SlidingWindow, 10, MINUTE);
    let mut call = Call::new();
    let not_after = server_time(&mut connection) + SECOND / 5;
    call.push(
        &keys(&["rk:frozen"]),
        &[consume(limit, 1)],
        Prior::default(),
        not_after,
    )
    .unwrap();
    let mut command = Cmd::new();
    call.write_to(call.script(), Dialect::Plain, &mut command);
    redis.freeze();
    let mut stream = TcpStream::connect(redis.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&command.get_packed_command()).unwrap();
    sleep(Duration::from_millis(400));
    redis.thaw();
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).unwrap();
    let value = redis::parse_redis_value(&answer[..length]).unwrap();
    let mut reply = Reply::default();
    call.decode(&value, &mut reply).unwrap();
    assert_eq!(call.decision(&reply, 0), Some(Decision::TooLate));
    assert!(everything(&mut connection).is_empty());
}

#[test]
fn a_server_without_the_script_says_so_and_has_done_nothing() {
    let mut redis = Redis::start();
    let mut connection = redis.connect();
    let mut call = Call::new();
    let limit = limit(Algorithm::FixedWindow, 10, MINUTE);
    call.push(&keys(&["rk:unknown"]), &[consume(limit, 1)], Prior::default(), 0)
        .unwrap();
    let mut command = Cmd::new();
    call.write_to(call.script(), Dialect::Plain, &mut command);
    let unknown = |connection: &mut Connection| command.query::<Value>(connection).unwrap_err().kind();
    let no_script = ErrorKind::Server(ServerErrorKind::NoScript);
    assert_eq!(unknown(&mut connection), no_script);
    assert!(everything(&mut connection).is_empty());
    load(&mut connection);
    ask(&mut connection, &call);
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut connection).unwrap();
    assert_eq!(unknown(&mut connection), no_script);
    // Nor does a server that was started anew know it.
    load(&mut connection);
    redis.restart();
    assert_eq!(unknown(&mut redis.connect()), no_script);
}

/// What an access-control list has to allow: `lua/README.md` says the same.
pub const COMMANDS: &str = "+evalsha +script|load +time +zrange +zrangebyscore +zcount +zcard +zadd +zremrangebyrank +get +set +del +pexpire";

#[test]
fn few_commands_and_the_keys_of_the_prefix_are_enough() {
    let (_redis, mut connection) = server();
    let user = ["ACL", "SETUSER", "limiter", "on", "nopass", "~rk:*"];
    let _: () = redis::cmd(user[0])
        .arg(&user[1..])
        .arg(COMMANDS.split(' ').collect::<Vec<_>>())
        .query(&mut connection)
        .unwrap();
    let _: () = redis::cmd("AUTH")
        .arg("limiter")
        .arg("any")
        .query(&mut connection)
        .unwrap();
    load(&mut connection);
    let mut random = Random::new(6);
    let mut call = Call::new();
    let mut now = 1_700_000_000 * SECOND;
    for _ in 0..2_000 {
        now += random.below(SECOND);
        call.clear();
        call.set_now(now);
        for _ in 0..random.pick(&[1, 1, 4]) {
            let algorithm = random.pick(&SHARED);
            let limit = limit(algorithm, random.pick(&[5, 200]), MINUTE);
            let mode = random.pick(&[
                Mode::Consume,
                Mode::Consume,
                Mode::Record,
                Mode::Peek,
                Mode::Refund,
            ]);
            let charge = charge(0, limit, random.pick(&[1, 3, 1 << 32]), mode);
            call.push(
                &keys(&[&format!("rk:{algorithm:?}")]),
                &[charge],
                Prior::default(),
                0,
            )
            .unwrap();
        }
        ask(&mut connection, &call);
    }
}
