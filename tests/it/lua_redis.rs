//! x
use ratekeeper::limiter::{Algorithm, Charge, Limit, Mode, Prior};
use ratekeeper::store::Keys;
use ratekeeper::store::redis::call::Call;
use ratekeeper::store::redis::script::Script;
use redis::{Cmd, Connection, Value};

use crate::lua_equals_rust::{Random, load};
use crate::support::redis::Redis;

fn consume(limit: Limit, hits: u64) -> Charge {
    Charge { counter: 0, limit, hits, mode: Mode::Consume, shadow: false, quota: false }
}

fn one_key(key: &str) -> Keys {
    let mut keys = Keys::default();
    keys.add(0, |text| text.push_str(key));
    keys
}

/// Microseconds of Redis a charge, in calls of so many requests of one consume each.
fn cost(connection: &mut Connection, limit: Limit, keys: u64, per_call: usize, script: Option<&Script>) -> f64 {
    let total = 200_000;
    let mut random = Random(1);
    let mut call = Call::new();
    let mut sent = 0;
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query(connection).unwrap();
    while sent < total {
        let mut pipe = redis::pipe();
        for _ in 0..(256 / per_call).max(4) {
            call.clear();
            for _ in 0..per_call {
                let key = one_key(&format!("rk:{{api|user={:08}}}:s1:60", random.below(keys)));
                call.push(&key, &[consume(limit, 1)], Prior::default(), 0).unwrap();
            }
            let mut command = Cmd::new();
            call.write_to(script.unwrap_or_else(|| call.script()), &mut command);
            pipe.add_command(command);
            sent += per_call;
        }
        let _: Vec<Value> = pipe.query(connection).unwrap();
    }
    let info: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
    let stats = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    let per = stats.split("usec_per_call=").nth(1).unwrap().split(',').next().unwrap();
    per.parse::<f64>().unwrap() / per_call as f64
}

#[test]
#[ignore = "a measurement; run it alone: cargo test -- --ignored --nocapture what_a_charge_costs_redis"]
fn what_a_charge_costs_redis() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    println!("{:<44}{:>8}{:>8}{:>8}{:>8}", "us of Redis a charge, charges a call", 1, 4, 16, 64);
    let window = 60_000_000;
    for (name, algorithm, requests, keys) in [
        ("sliding, 100 a minute, 100,000 keys", Algorithm::SlidingWindow, 100, 100_000),
        ("sliding, 10,000 a minute, 100,000 keys", Algorithm::SlidingWindow, 10_000, 100_000),
        ("sliding, 100 a minute, 1,000 keys", Algorithm::SlidingWindow, 100, 1_000),
        ("sliding, 1,000,000 a minute, 16 keys", Algorithm::SlidingWindow, 1_000_000, 16),
        ("sliding, 10 a minute, 16 keys (all denied)", Algorithm::SlidingWindow, 10, 16),
        ("fixed, 100 a minute, 100,000 keys", Algorithm::FixedWindow, 100, 100_000),
        ("bucket, 100 a minute, 100,000 keys", Algorithm::TokenBucket, 100, 100_000),
    ] {
        let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
        let limit = Limit::new(algorithm, requests, window, None);
        cost(&mut connection, limit, keys, 64, None);
        let batch = [1, 4, 16, 64].map(|n| cost(&mut connection, limit, keys, n, Some(Script::batch())));
        let [one, four, sixteen, most] = batch;
        println!("{name:<44}{one:>8.2}{four:>8.2}{sixteen:>8.2}{most:>8.2}");
        let single = cost(&mut connection, limit, keys, 1, None);
        println!("{:<44}{single:>8.2}", "  the small script");
    }
}
