//! The two dialects: the same answers, and `#!lua` ends a script that could not write before it begins.

use ratekeeper::limiter::{Algorithm, Mode, Prior};
use ratekeeper::store::redis::call::Call;
use ratekeeper::store::redis::give_back::GiveBack;
use ratekeeper::store::redis::script::{Dialect, Script};
use redis::{Cmd, Connection, RedisError, Value};

use super::{MINUTE, SECOND, SHARED, charge, consume, keys, limit, load, server};
use crate::limiter_oracle::Random;
use crate::support::redis::Redis;

const DIALECTS: [Dialect; 2] = [Dialect::Plain, Dialect::Flags];

fn content(connection: &mut Connection) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
    names.sort();
    let mut dump = |name: String| {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&name).query(connection).unwrap();
        (name, dump)
    };
    names.into_iter().map(&mut dump).collect()
}

/// Commands of a random history: calls of one and of several, and give-backs of what they booked.
fn history(seed: u64) -> Vec<[Cmd; 2]> {
    let mut random = Random::new(seed);
    let (mut now, mut commands) = (1_700_000_000 * SECOND, vec![]);
    let both = |write: &dyn Fn(Dialect, &mut Cmd)| {
        DIALECTS.map(|dialect| {
            let mut command = Cmd::new();
            write(dialect, &mut command);
            command
        })
    };
    for _ in 0..300 {
        now += random.below(SECOND);
        let algorithm = random.pick(&SHARED);
        let limit = limit(algorithm, random.pick(&[5, 300]), MINUTE);
        let name = format!("rk:{algorithm:?}");
        let mut call = Call::new();
        call.set_now(now);
        let hits = 1 + random.below(9);
        for _ in 0..random.pick(&[1, 1, 3]) {
            let mode = random.pick(&[Mode::Consume, Mode::Consume, Mode::Record, Mode::Refund]);
            call.push(
                &keys(&[&name]),
                &[charge(0, limit, hits, mode)],
                Prior::default(),
                0,
            )
            .unwrap();
        }
        commands.push(both(&|dialect, command| {
            call.write_to(call.script(), dialect, command);
        }));
        if random.one_in(2) {
            let mut back = GiveBack::new(0);
            back.set_now(now + random.below(1_000));
            back.push(&name, &limit, hits, now).unwrap();
            commands.push(both(&|dialect, command| back.write_to(dialect, command)));
        }
    }
    commands
}

#[test]
fn both_dialects_run_the_same() {
    let (_plain, mut plain) = server();
    let (_flags, mut flags) = server();
    for script in Script::all() {
        let [first, second] = DIALECTS.map(|dialect| script.text(dialect));
        assert_eq!(format!("#!lua\n{first}"), second);
        assert_ne!(script.hash(DIALECTS[0]), script.hash(DIALECTS[1]));
    }
    for seed in 0..4 {
        for [first, second] in history(seed) {
            let first: Value = first.query(&mut plain).unwrap();
            let second: Value = second.query(&mut flags).unwrap();
            assert_eq!(first, second, "seed {seed}");
        }
        assert_eq!(content(&mut plain), content(&mut flags), "seed {seed}");
    }
    assert!(content(&mut plain).len() == 3, "the history left nothing");
}

/// A command of each script on a key that has nothing: all read first, and only the give-back has nothing to write.
fn commands(dialect: Dialect) -> [Cmd; 3] {
    let limit = limit(Algorithm::FixedWindow, 10, MINUTE);
    let mut call = Call::new();
    call.push(&keys(&["rk:new"]), &[consume(limit, 1)], Prior::default(), 0)
        .unwrap();
    let mut back = GiveBack::new(0);
    back.push("rk:new", &limit, 1, SECOND).unwrap();
    let mut commands = [Cmd::new(), Cmd::new(), Cmd::new()];
    call.write_to(Script::batch(), dialect, &mut commands[0]);
    call.write_to(Script::single(), dialect, &mut commands[1]);
    back.write_to(dialect, &mut commands[2]);
    commands
}

/// How often the server was asked for the time, which is what each script does first.
fn times(connection: &mut Connection) -> String {
    let info: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
    let line = info.lines().find(|line| line.starts_with("cmdstat_time:"));
    let calls = line.and_then(|line| line.split(',').next());
    calls.unwrap_or("none").to_owned()
}

/// With `#!lua` all three are refused by this code before they run; without, those that write are, on the way.
fn refused(connection: &mut Connection, code: &str) {
    let before = times(connection);
    for command in commands(Dialect::Flags) {
        let error: RedisError = command.query::<Value>(connection).unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
    }
    assert_eq!(times(connection), before, "a script has run");
    let [batch, single, back] = commands(Dialect::Plain);
    for command in [batch, single] {
        let error = command.query::<Value>(connection).unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
        assert!(
            error.to_string().contains("@user_script:"),
            "not on the way: {error}"
        );
    }
    back.query::<Value>(connection).unwrap();
    assert_ne!(times(connection), before, "a plain script begins");
}

#[test]
fn a_full_server_refuses_a_script_with_flags_at_once() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let mut connection = redis.connect();
    load(&mut connection);
    for command in commands(Dialect::Flags) {
        let _: Value = command.query(&mut connection).unwrap();
    }
    let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "1mb"])
        .query(&mut connection)
        .unwrap();
    let fill = redis::cmd("SET")
        .arg("filler")
        .arg(vec![b'x'; 2 << 20])
        .to_owned();
    let _ = fill.query::<Value>(&mut connection);
    refused(&mut connection, "OOM");
    let room: bool = redis::cmd("EXISTS").arg("rk:new").query(&mut connection).unwrap();
    assert!(!room, "something was written");
}

#[test]
fn a_replica_refuses_a_script_with_flags_at_once() {
    let primary = Redis::start();
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let (host, port) = primary
        .address()
        .split_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    let _: () = redis::cmd("REPLICAOF")
        .arg(host)
        .arg(port)
        .query(&mut connection)
        .unwrap();
    refused(&mut connection, "READONLY");
}
