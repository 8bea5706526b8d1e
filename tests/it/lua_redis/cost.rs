//! What a charge costs Redis.

use ratekeeper::limiter::{Algorithm, Limit, Prior};
use ratekeeper::store::redis::call::Call;
use ratekeeper::store::redis::script::{Dialect, Script};
use redis::{Cmd, Connection, Value};

use super::{consume, keys, load};
use crate::limiter_oracle::Random;
use crate::support::redis::Redis;

/// Microseconds of Redis a charge, in calls of so many requests of one consume each: the best of some runs, since others use
/// the machine too.
fn cost(
    connection: &mut Connection,
    limit: Limit,
    distinct: u64,
    per_call: usize,
    script: Option<&Script>,
) -> f64 {
    let mut random = Random::new(1);
    let mut best = f64::MAX;
    for _ in 0..12 {
        let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query(connection).unwrap();
        for _ in 0..16 {
            let mut pipe = redis::pipe();
            for _ in 0..(512 / per_call) {
                pipe.add_command(command_for(&mut random, limit, distinct, per_call, script));
            }
            let _: Vec<Value> = pipe.query(connection).unwrap();
        }
        let info: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
        let stats = info
            .lines()
            .find(|line| line.starts_with("cmdstat_evalsha:"))
            .unwrap();
        let per = stats
            .split("usec_per_call=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        best = best.min(per.parse::<f64>().unwrap() / per_call as f64);
    }
    best
}

fn command_for(
    random: &mut Random,
    limit: Limit,
    distinct: u64,
    requests: usize,
    script: Option<&Script>,
) -> Cmd {
    let mut call = Call::new();
    for _ in 0..requests {
        let key = keys(&[&format!("rk:{{api|user={:08}}}:s1:60", random.below(distinct))]);
        call.push(&key, &[consume(limit, 1)], Prior::default(), 0)
            .unwrap();
    }
    let mut command = Cmd::new();
    let script = script.unwrap_or_else(|| call.script());
    call.write_to(script, Dialect::Plain, &mut command);
    command
}

#[test]
#[ignore = "a measurement; run it alone: cargo test -- --ignored --nocapture what_a_charge_costs_redis"]
fn what_a_charge_costs_redis() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    println!(
        "{:<44}{:>8}{:>8}{:>8}{:>8}",
        "us of Redis a charge, charges a call", 1, 4, 16, 64
    );
    let window = 60_000_000;
    for (name, algorithm, requests, keys) in [
        (
            "sliding, 100 a minute, 100,000 keys",
            Algorithm::SlidingWindow,
            100,
            100_000,
        ),
        (
            "sliding, 10,000 a minute, 100,000 keys",
            Algorithm::SlidingWindow,
            10_000,
            100_000,
        ),
        (
            "sliding, 100 a minute, 1,000 keys",
            Algorithm::SlidingWindow,
            100,
            1_000,
        ),
        (
            "sliding, 1,000,000 a minute, 16 keys",
            Algorithm::SlidingWindow,
            1_000_000,
            16,
        ),
        (
            "sliding, 10 a minute, 16 keys (all denied)",
            Algorithm::SlidingWindow,
            10,
            16,
        ),
        (
            "fixed, 100 a minute, 100,000 keys",
            Algorithm::FixedWindow,
            100,
            100_000,
        ),
        (
            "bucket, 100 a minute, 100,000 keys",
            Algorithm::TokenBucket,
            100,
            100_000,
        ),
    ] {
        let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
        let limit = Limit::new(algorithm, requests, window, None);
        for _ in 0..3 {
            cost(&mut connection, limit, keys, 64, None);
        }
        let batch = [1, 4, 16, 64].map(|n| cost(&mut connection, limit, keys, n, Some(Script::batch())));
        let [one, four, sixteen, most] = batch;
        println!("{name:<44}{one:>8.2}{four:>8.2}{sixteen:>8.2}{most:>8.2}");
        let single = cost(&mut connection, limit, keys, 1, None);
        println!("{:<44}{single:>8.2}", "  the small script");
    }
}
