//! What random histories rarely reach: totals near the end of a double, full lists.

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior, State};
use ratekeeper::store::Keys;
use ratekeeper::store::redis::script::Script;
use redis::{Connection, Value};

use super::{Asked, Pair, Random, SECOND, crowd, crowding, in_redis, in_rust, load};
use crate::support::redis::Redis;

/// Totals start anew before a double could lose a hit. A history that long takes years, but totals count only by their
/// differences: the same history with all of them raised must give the same answers.
#[test]
fn totals_start_anew_before_they_are_too_large() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let window = 60 * SECOND;
    for (seed, script) in [
        (0, Some(Script::batch())),
        (1, None),
        (2, Some(Script::batch())),
        (3, None),
    ] {
        let mut random = Random::new(seed);
        let subject = crowd(&mut random, seed, window);
        let mut pair = Pair::new(&mut connection);
        let mut now = 1_700_000_000 * SECOND;
        let (mut raised, mut anew) = (false, 0);
        for number in 0..900 {
            let mut requests = crowding(&mut random, &subject);
            if script.is_none() {
                requests.truncate(1);
                requests[0].charges[0].mode = Mode::Consume;
            }
            pair.ask(&format!("seed {seed}, call {number}"), script, now, &requests);
            now += random.below(window / 50);
            let entries = totals(pair.connection, &subject.key);
            let lowest = entries.first().map_or(0, |entry| entry.0);
            let differences: Vec<_> = entries
                .iter()
                .map(|(total, score)| (*score, total - lowest))
                .collect();
            let rust: Vec<_> = match pair.states.get(&subject.key) {
                Some(State::SlidingWindow(list)) => list.entries().collect(),
                _ => Vec::new(),
            };
            let below = rust.first().map_or(0, |entry| entry.1);
            let wanted: Vec<_> = rust
                .iter()
                .map(|(score, total)| (*score, total - below))
                .collect();
            assert_eq!(differences, wanted, "seed {seed}, call {number}");
            let ttl: i64 = redis::cmd("PTTL")
                .arg(&subject.key)
                .query(pair.connection)
                .unwrap();
            assert_ne!(ttl, -1, "seed {seed}, call {number}: no time to live");
            anew += usize::from(raised && lowest == 0);
            raised = lowest > 0 && raised;
            if !raised && entries.len() > 20 {
                raise(pair.connection, &subject.key, &entries);
                raised = true;
            }
        }
        assert!(anew > 0, "seed {seed}: totals started anew {anew} times");
    }
}

fn totals(connection: &mut Connection, key: &str) -> Vec<(u64, Micros)> {
    let entries: Vec<(u64, f64)> = redis::cmd("ZRANGE")
        .arg(key)
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query(connection)
        .unwrap();
    entries
        .into_iter()
        .map(|(total, score)| (total, score as Micros))
        .collect()
}

/// Raises all totals of a set to just below where they start anew.
fn raise(connection: &mut Connection, key: &str, entries: &[(u64, Micros)]) {
    let by = (1 << 52) + (1 << 51) - 700 - entries.last().unwrap().0;
    let mut pipe = redis::pipe();
    pipe.cmd("DEL").arg(key);
    for (total, score) in entries {
        pipe.cmd("ZADD").arg(key).arg(*score).arg(total + by);
    }
    pipe.cmd("PEXPIRE").arg(key).arg(3_600_000);
    let _: Value = pipe.query(connection).unwrap();
}

fn one(key: &str, limit: Limit, hits: u64, mode: Mode) -> Asked {
    let mut keys = Keys::default();
    let counter = keys.add(0, |text| text.push_str(key));
    let charges = vec![Charge {
        counter,
        limit,
        hits,
        mode,
        shadow: false,
        quota: false,
    }];
    Asked {
        keys,
        charges,
        prior: Prior::default(),
        not_after: 0,
    }
}

/// In a full list the newest entry takes the new hits and their score; a wait for just that entry is for the new score.
#[test]
fn a_full_list_merges_as_the_limiters_does() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let exact = Limit::new(Algorithm::SlidingWindow, 100, 60 * SECOND, None);
    let ticks = Limit::new(Algorithm::SlidingWindow, 5_000, 60 * SECOND, None);
    for (number, script) in [Script::batch(), Script::single()].into_iter().enumerate() {
        let mut pair = Pair::new(&mut connection);
        let key = format!("rk:full:{number}");
        let mut now = 1_700_000_000 * SECOND + 1;
        let compare = |pair: &mut Pair<'_>, entries: usize| {
            let list = in_redis(pair.connection, &key, Algorithm::SlidingWindow);
            assert_eq!(list, in_rust(pair.states.get(&key)));
            assert_eq!(list.split(' ').count(), entries);
        };
        for _ in 0..125 {
            now += 1;
            pair.ask(
                "filling",
                Some(Script::batch()),
                now,
                &[one(&key, exact, 1, Mode::Record)],
            );
        }
        compare(&mut pair, 126);
        now += 1;
        pair.ask(
            "the last place",
            Some(script),
            now,
            &[one(&key, ticks, 1, Mode::Consume)],
        );
        compare(&mut pair, 127);
        now += SECOND;
        pair.ask("full", Some(script), now, &[one(&key, ticks, 10, Mode::Consume)]);
        compare(&mut pair, 127);
        now += SECOND;
        let waits_for_the_newest = one(&key, ticks, 5_000 - 4, Mode::Consume);
        let requests = [one(&key, ticks, 1, Mode::Record), waits_for_the_newest];
        pair.ask("a wait in a full list", None, now, &requests);
        compare(&mut pair, 127);
    }
}
