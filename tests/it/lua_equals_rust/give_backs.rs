//! Giving back in Redis against the limiter, among all else that a counter goes through.

use std::collections::HashMap;

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior, Reading, State};
use ratekeeper::store::Keys;
use ratekeeper::store::redis::give_back::GiveBack;
use ratekeeper::store::redis::script::Dialect;
use redis::{Cmd, Connection, Value};

use super::{Asked, Pair, Random, SECOND, Subject, WAIT_MAX, crowd, in_redis, in_rust, load, step, subject};
use crate::support::redis::Redis;

const HISTORIES: u64 = 120;
const CALLS: usize = 150;
const GIVE_BACKS_EXPECTED: usize = 20_000;

/// What was charged: mostly it was booked, at times not.
#[derive(Clone, Debug)]
struct Charged {
    key: String,
    limit: Limit,
    hits: u64,
    at: Micros,
}

#[derive(Debug, Default)]
struct Covered {
    give_backs: usize,
    by_algorithm: HashMap<Algorithm, usize>,
    below_newer: usize,
    full: usize,
    unchanged: usize,
}

fn charge(
    random: &mut Random,
    subject: &Subject,
    crowded: bool,
    now: Micros,
    open: &mut Vec<Charged>,
) -> Asked {
    use Mode::{Consume, Record, Refund};
    let limit = random.pick(&subject.limits);
    let mode = if crowded && !random.one_in(60) {
        random.pick(&[Consume, Record, Record])
    } else {
        random.pick(&[Consume, Consume, Consume, Record, Refund])
    };
    let part = random.pick(&[1, 3, 20, 100]);
    let most = u64::from(limit.burst()) / part + 1;
    let hits = 1 + random.below(if crowded { most.min(6) } else { most });
    let mut keys = Keys::default();
    let counter = keys.add(0, |text| text.push_str(&subject.key));
    if mode != Mode::Refund {
        let key = subject.key.clone();
        let at = now;
        open.push(Charged { key, limit, hits, at });
    }
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

/// One of the last charges, at times changed into one that never was.
fn chosen(random: &mut Random, crowded: bool, open: &mut Vec<Charged>) -> Option<Charged> {
    let back = random.pick(&[1, 3, 8, 40, 1, 2][if crowded { 1..4 } else { 0..6 }]);
    let index = open.len().checked_sub(1 + random.below(back) as usize)?;
    let mut charged = open.remove(index);
    match random.below(16) {
        0 => charged.at += random.below(3),
        1 => charged.at -= random.below(2_000),
        2 => charged.hits = random.pick(&[0, 1, 1 << 32, 1 << 53, u64::MAX]),
        _ => {}
    }
    Some(charged)
}

/// The limiter's own answer.
fn expected(charged: &Charged, now: Micros, states: &mut HashMap<String, State>) -> Reading {
    let Charged { key, limit, hits, at } = charged;
    let mut state = states
        .remove(key)
        .unwrap_or_else(|| State::new(limit.algorithm()));
    if state.level(now, limit).used > 0 {
        state.give_back(now, limit, *hits, *at);
    }
    let level = state.level(now, limit);
    let reading = Reading {
        used: level.used_hits(),
        remaining: level.remaining_hits(),
        wait_us: state.empty_us(now, limit, 0).min(WAIT_MAX),
    };
    if !state.is_empty() {
        states.insert(key.clone(), state);
    }
    reading
}

pub fn send(connection: &mut Connection, dialect: Dialect, call: &GiveBack) -> Vec<Option<Reading>> {
    let mut command = Cmd::new();
    call.write_to(dialect, &mut command);
    let value: Value = command
        .query(connection)
        .unwrap_or_else(|error| panic!("{error}"));
    call.decode(&value)
        .unwrap_or_else(|error| panic!("{error}: {value:?}"))
}

fn dump(connection: &mut Connection, key: &str) -> (Option<Vec<u8>>, i64) {
    let mut pipe = redis::pipe();
    pipe.cmd("DUMP").arg(key).cmd("PEXPIRETIME").arg(key);
    pipe.query(connection).unwrap()
}

/// One call of some give-backs, and the comparison of all that it answers and leaves behind.
fn give_back(
    pair: &mut Pair<'_>,
    dialect: Dialect,
    place: &str,
    now: Micros,
    all: &[Charged],
    covered: &mut Covered,
) {
    let mut call = GiveBack::new(0);
    call.set_now(now);
    let (mut want, mut before) = (vec![], vec![]);
    for charged in all {
        call.push(&charged.key, &charged.limit, charged.hits, charged.at)
            .unwrap();
        let state = in_rust(pair.states.get(&charged.key));
        before.push((state, dump(pair.connection, &charged.key)));
        if let Some(State::SlidingWindow(window)) = pair.states.get(&charged.key) {
            let tick = charged.limit.tick_us();
            let score = charged.at.div_ceil(tick) * tick;
            let entries: Vec<_> = window.entries().collect();
            covered.full += usize::from(entries.len() == 127);
            let index = entries.iter().position(|entry| entry.0 == score);
            covered.below_newer += usize::from(index.is_some_and(|index| index + 1 < entries.len()));
        }
        want.push(Some(expected(charged, now, &mut pair.states)));
    }
    let got = send(pair.connection, dialect, &call);
    assert_eq!(got, want, "{place}: {all:#?}");
    for (charged, (before, dumped)) in all.iter().zip(before) {
        let algorithm = charged.limit.algorithm();
        let after = in_rust(pair.states.get(&charged.key));
        assert_eq!(
            in_redis(pair.connection, &charged.key, algorithm),
            after,
            "{place}: {all:#?}"
        );
        let (content, expires) = dump(pair.connection, &charged.key);
        assert!(
            content.is_none() || expires > 0,
            "{place}: no time to live: {charged:?}"
        );
        let alone = all.iter().filter(|other| other.key == charged.key).count() == 1;
        if alone && before == after {
            assert_eq!((content, expires), dumped, "{place}: a byte of {charged:?}");
            covered.unchanged += 1;
        }
        covered.give_backs += 1;
        *covered.by_algorithm.entry(algorithm).or_default() += 1;
    }
}

fn history(seed: u64, connection: &mut Connection, covered: &mut Covered) {
    let mut random = Random::new(seed);
    let crowded = seed.is_multiple_of(4);
    let windows = [60 * SECOND, 86_400 * SECOND, 999, SECOND];
    let window = random.pick(&windows[..if crowded { 2 } else { 4 }]);
    let subjects: Vec<Subject> = if crowded {
        let mut crowd = crowd(&mut random, seed, window);
        if seed.is_multiple_of(8) {
            // Only without ticks a list gets full.
            crowd.limits.retain(|limit| limit.tick_us() == 1);
        }
        vec![crowd]
    } else {
        (0..=random.below(4))
            .map(|n| subject(&mut random, seed, n, window))
            .collect()
    };
    let mut now = 1_700_000_000 * SECOND + random.below(window);
    let mut pair = Pair::new(connection);
    let mut open = vec![];
    let dialect = random.pick(&[Dialect::Plain, Dialect::Flags]);
    for number in 0..if crowded { 8 * CALLS } else { CALLS } {
        now = if crowded && !random.one_in(100) {
            now + random.below(window / 1_000)
        } else if random.one_in(3) {
            step(&mut random, now, window)
        } else {
            now + random.below(window / 100)
        };
        let place = format!("seed {seed}, call {number}, now {now}, window {window}");
        let charges: Vec<Asked> = (0..random.pick(&[1, 1, 2, 3]))
            .map(|_| {
                let subject = &subjects[random.below(subjects.len() as u64) as usize];
                charge(&mut random, subject, crowded, now, &mut open)
            })
            .collect();
        pair.ask(&place, None, now, &charges);
        let later = [
            0,
            0,
            1,
            2,
            window / 1_000,
            window / if crowded { 2_000 } else { 100 },
        ];
        now += random.pick(&later);
        let count = if crowded {
            random.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2])
        } else {
            random.pick(&[0, 1, 1, 2, 4])
        };
        let all: Vec<Charged> = (0..count)
            .filter_map(|_| chosen(&mut random, crowded, &mut open))
            .collect();
        if !all.is_empty() {
            give_back(&mut pair, dialect, &place, now, &all, covered);
        }
    }
}

#[test]
fn the_script_gives_back_as_the_limiter_does() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let first: u64 = std::env::var("LUA_FIRST_SEED").map_or(0, |text| text.parse().unwrap());
    let mut covered = Covered::default();
    println!("histories of the seeds {first}..{}", first + HISTORIES);
    for seed in first..first + HISTORIES {
        history(seed, &mut connection, &mut covered);
    }
    println!("{covered:?}");
    assert!(covered.give_backs >= GIVE_BACKS_EXPECTED, "{covered:?}");
    assert!(
        covered.below_newer > 2_000 && covered.full > 500 && covered.unchanged > 1_000,
        "{covered:?}"
    );
    assert!(
        covered.by_algorithm.len() == 3 && covered.by_algorithm.values().all(|count| *count > 1_500),
        "{covered:?}"
    );
}
