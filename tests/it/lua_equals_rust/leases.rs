//! Booking ahead in Redis against the limiter, with refunds and give-backs beside it.

use std::collections::HashMap;

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior, State};
use ratekeeper::store::Keys;
use ratekeeper::store::guard::Granted;
use ratekeeper::store::redis::give_back::GiveBack;
use ratekeeper::store::redis::lease::{LeaseCall, LeaseReply, ahead_key};
use ratekeeper::store::redis::script::Dialect;
use redis::{Cmd, Connection, Value};

use super::give_backs::send as give_back;
use super::{Asked, Pair, Random, SECOND, in_redis, in_rust, load, run, step};
use crate::support::redis::Redis;

const HISTORIES: u64 = 80;
const CALLS: usize = 200;

#[derive(Debug, Default)]
struct Covered {
    leases: usize,
    dry: usize,
    refunds_beside: usize,
    refunds_of_nothing: usize,
    refunds_after: usize,
    given_back: usize,
}

/// What is booked ahead of one key: by Redis' own marker.
#[derive(Default)]
struct Ahead(HashMap<String, Micros>);

impl Ahead {
    fn is_active(&self, key: &str, now: Micros) -> bool {
        self.0.get(key).is_some_and(|till| *till > now)
    }
}

fn lease(connection: &mut Connection, dialect: Dialect, call: &LeaseCall) -> LeaseReply {
    let mut command = Cmd::new();
    call.write_to(dialect, &mut command);
    let value: Value = command
        .query(connection)
        .unwrap_or_else(|error| panic!("{error}"));
    call.decode(&value)
        .unwrap_or_else(|error| panic!("{error}: {value:?}"))
}

fn compare(pair: &mut Pair<'_>, place: &str, key: &str, algorithm: Algorithm) {
    let redis = in_redis(pair.connection, key, algorithm);
    assert_eq!(redis, in_rust(pair.states.get(key)), "{place}, {key}");
}

fn charge(key: &str, limit: Limit, hits: u64, mode: Mode) -> Asked {
    let mut keys = Keys::default();
    let counter = keys.add(0, |text| text.push_str(key));
    Asked {
        keys,
        charges: vec![Charge {
            counter,
            limit,
            hits,
            mode,
            shadow: false,
            quota: false,
        }],
        prior: Prior::default(),
        not_after: 0,
    }
}

/// A refund beside hits that are booked ahead.
fn refund_beside(
    pair: &mut Pair<'_>,
    place: &str,
    key: &str,
    limit: Limit,
    hits: u64,
    now: Micros,
    covered: &mut Covered,
) {
    let asked = charge(key, limit, hits, Mode::Refund);
    pair.call.clear();
    pair.call.set_now(now);
    pair.call
        .push(&asked.keys, &asked.charges, asked.prior, 0)
        .unwrap();
    let script = pair.call.script();
    let value = run(pair.connection, script, &pair.call);
    pair.call
        .decode(&value, &mut pair.reply)
        .unwrap_or_else(|error| panic!("{place}: {error}: {value:?}"));
    let before = in_rust(pair.states.get(key));
    if let Some(state) = pair.states.get_mut(key)
        && state.level(now, &limit).used > 0
    {
        state.refund_beside_leases(now, &limit, hits);
        if state.is_empty() {
            pair.states.remove(key);
        }
    }
    covered.refunds_beside += 1;
    covered.refunds_of_nothing += usize::from(before == in_rust(pair.states.get(key)));
}

fn history(seed: u64, connection: &mut Connection, covered: &mut Covered) {
    let mut random = Random::new(seed);
    let window = random.pick(&[SECOND, 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND]);
    let algorithm = random.pick(&[
        Algorithm::SlidingWindow,
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
    ]);
    let key = format!("rk:{{{seed}|leased}}");
    let limits: Vec<Limit> = [100, 126, 500, 1_000, 50_000]
        .iter()
        .take(1 + random.below(5) as usize)
        .map(|requests| Limit::new(algorithm, *requests, window, None))
        .collect();
    let mut now = 1_700_000_000 * SECOND + random.below(window);
    let mut pair = Pair::new(connection);
    let mut ahead = Ahead::default();
    let mut open: Vec<(Limit, u64, Micros)> = Vec::new();
    for number in 0..CALLS {
        now = match random.below(4) {
            0 => step(&mut random, now, window),
            1 => now,
            _ => now + random.below(window / 200),
        };
        let place = format!("seed {seed}, call {number}, now {now}, window {window}");
        let limit = random.pick(&limits);
        let dialect = random.pick(&[Dialect::Plain, Dialect::Flags]);
        match random.below(8) {
            0..=2 => {
                let (wanted, parts) = (random.below(300), random.pick(&[1, 1, 2, 5, 70_000]));
                let not_after = random.pick(&[0, 0, 0, now - 1, now]);
                let mut call = LeaseCall::new(&key, limit, wanted, parts, not_after).unwrap();
                call.set_now(now);
                let got = lease(pair.connection, dialect, &call);
                if not_after > 0 && now > not_after {
                    assert_eq!(got, LeaseReply::TooLate, "{place}");
                    continue;
                }
                let state = pair
                    .states
                    .entry(key.clone())
                    .or_insert_with(|| State::new(algorithm));
                let used = state.level(now, &limit).used;
                let hits = state.lease(now, &limit, wanted, parts.into());
                if state.is_empty() {
                    pair.states.remove(&key);
                }
                let now_us = now;
                let want = LeaseReply::Granted(Granted { now_us, used, hits });
                assert_eq!(got, want, "{place}: {wanted} of {limit:?}, {parts} parts");
                covered.leases += 1;
                covered.dry += usize::from(hits == 0);
                if hits > 0 {
                    open.push((limit, hits, now));
                    if algorithm == Algorithm::SlidingWindow {
                        let till = ahead.0.entry(key.clone()).or_default();
                        *till = (*till).max(now.div_ceil(limit.tick_us()) * limit.tick_us());
                    }
                }
            }
            3 | 4 => {
                let hits = 1 + random.below(200);
                if ahead.is_active(&key, now) {
                    refund_beside(&mut pair, &place, &key, limit, hits, now, covered);
                } else {
                    covered.refunds_after += usize::from(ahead.0.contains_key(&key));
                    pair.ask(&place, None, now, &[charge(&key, limit, hits, Mode::Refund)]);
                }
            }
            5 => {
                let Some((limit, hits, at)) = open.pop() else {
                    continue;
                };
                let mut call = GiveBack::new(0);
                call.set_now(now);
                let rest = 1 + random.below(hits);
                call.push(&key, &limit, rest, at).unwrap();
                give_back(pair.connection, dialect, &call);
                if let Some(state) = pair.states.get_mut(&key)
                    && state.level(now, &limit).used > 0
                {
                    state.give_back(now, &limit, rest, at);
                    if state.is_empty() {
                        pair.states.remove(&key);
                    }
                }
                covered.given_back += 1;
            }
            _ => {
                let mode = random.pick(&[Mode::Consume, Mode::Consume, Mode::Record]);
                pair.ask(
                    &place,
                    None,
                    now,
                    &[charge(&key, limit, 1 + random.below(60), mode)],
                );
            }
        }
        compare(&mut pair, &place, &key, algorithm);
        for key in [key.clone(), ahead_key(&key)] {
            let mut ask = redis::pipe();
            ask.cmd("EXISTS").arg(&key).cmd("PTTL").arg(&key);
            let (exists, ttl): (bool, i64) = ask.query(pair.connection).unwrap();
            assert!(!exists || ttl > 0, "{place}: {key} lives for ever");
        }
    }
}

#[test]
fn the_script_books_ahead_as_the_limiter_does() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let first: u64 = std::env::var("LUA_FIRST_SEED").map_or(0, |text| text.parse().unwrap());
    println!("histories of the seeds {first}..{}", first + HISTORIES);
    let mut covered = Covered::default();
    for seed in first..first + HISTORIES {
        history(seed, &mut connection, &mut covered);
    }
    println!("{covered:?}");
    assert!(covered.leases > 3_000 && covered.dry > 300, "{covered:?}");
    assert!(
        covered.refunds_beside > 300
            && covered.refunds_of_nothing > 30
            && covered.refunds_beside - covered.refunds_of_nothing > 100
            && covered.refunds_after > 100,
        "{covered:?}"
    );
    assert!(covered.given_back > 500, "{covered:?}");
}
