//! The scripts against the limiter, operation by operation on the same random histories: every verdict and every counter's content
//! must be equal.

mod edges;
pub mod give_backs;
mod leases;

use std::collections::HashMap;

use ratekeeper::limiter::{self, Algorithm, Charge, Limit, Micros, Mode, Prior, State, Verdict};
use ratekeeper::store::Keys;
use ratekeeper::store::redis::call::{Call, Decision, Reply};
use ratekeeper::store::redis::script::{Dialect, Script};
use redis::{Cmd, Connection, Value};

use crate::limiter_oracle::Random;
use crate::support::redis::Redis;

/// Histories of one run; the number of each is its seed.
const HISTORIES: u64 = 120;
const CALLS: usize = 120;
const CHARGES_EXPECTED: usize = 50_000;

const SECOND: Micros = 1_000_000;
const YEAR: Micros = 365 * 86_400 * SECOND;
/// The longest wait that a script gives: above it doubles are not exact.
const WAIT_MAX: Micros = 1 << 53;
/// In the year 2096: with 100 years to come below 2^53.
const LATEST: Micros = 4_000_000_000 * SECOND;

/// One counter that a history uses, with the limits that charge it.
struct Subject {
    key: String,
    limits: Vec<Limit>,
}

fn subject(random: &mut Random, seed: u64, number: u64, window: Micros) -> Subject {
    let algorithm = random.pick(&[
        Algorithm::SlidingWindow,
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
        Algorithm::TokenBucket,
    ]);
    let exact_only = random.one_in(3);
    let limits = (0..=random.below(3)).map(|_| {
        let requests = match random.below(8) {
            0 => random.pick(&[0, 1, 125, 126, 127, u32::MAX, u32::MAX - 1]),
            1..=3 => random.below(12) as u32,
            _ if exact_only => random.below(126) as u32,
            4 | 5 => random.below(400) as u32,
            _ => random.next() as u32 >> random.below(32),
        };
        let burst = random.one_in(3).then(|| random.next() as u32 >> random.below(32));
        // A window is part of a key; yet nothing breaks if it is not.
        let window = if random.one_in(40) { window / 2 + 1 } else { window };
        Limit::new(algorithm, requests, window, burst)
    });
    Subject {
        limits: limits.collect(),
        key: format!("rk:{{{seed}|{number}}}"),
    }
}

/// One request of a call.
struct Asked {
    keys: Keys,
    charges: Vec<Charge>,
    prior: Prior,
    not_after: Micros,
}

fn hits(random: &mut Random, limit: &Limit) -> u64 {
    match random.below(20) {
        0 => 0,
        1..=9 => 1,
        10..=14 => random.below(u64::from(limit.burst()) / 4 + 2),
        15 => limit.burst().into(),
        16 => u64::from(limit.burst()) + 1,
        17 => random.pick(&[1 << 32, (1 << 32) + 1, 1 << 52, u64::MAX]),
        _ => random.below(30),
    }
}

fn asked(random: &mut Random, subjects: &[Subject], now: Micros, charges: u64) -> Asked {
    let mut keys = Keys::default();
    let only_consumes = random.one_in(2);
    let plain = random.one_in(2);
    let charges = (0..charges).map(|_| {
        let subject = &subjects[random.below(subjects.len() as u64) as usize];
        let limit = random.pick(&subject.limits);
        let mode = match random.below(10) {
            _ if only_consumes => Mode::Consume,
            0..=5 => Mode::Consume,
            6 => Mode::Record,
            7 => Mode::Peek,
            _ => Mode::Refund,
        };
        Charge {
            counter: keys.add(0, |text| text.push_str(&subject.key)),
            limit,
            hits: hits(random, &limit),
            mode,
            shadow: !plain && random.one_in(5),
            quota: !plain && random.one_in(3),
        }
    });
    let charges = charges.collect();
    let prior = if random.one_in(6) {
        let quota_limits = random.below(3) as u32;
        Prior {
            denied: random.one_in(3),
            quota_limits,
            quota_over: random.below(u64::from(quota_limits) + 1) as u32,
            never_deny: random.one_in(3),
        }
    } else {
        Prior::default()
    };
    let not_after = match random.below(12) {
        0 => now - 1,
        1 => now,
        2 => now + 5,
        _ => 0,
    };
    Asked {
        keys,
        charges,
        prior,
        not_after,
    }
}

/// Calls with one request and with many, short and long ones.
fn call_of(random: &mut Random, subjects: &[Subject], now: Micros) -> Vec<Asked> {
    let requests = random.pick(&[1, 1, 1, 2, 3, 6, 20]);
    (0..requests)
        .map(|_| {
            let charges = random.pick(&[1, 1, 1, 2, 3]);
            asked(random, subjects, now, charges)
        })
        .collect()
}

/// The limiter's own answer, on counters of its own. `None` if it comes too late.
fn expected(
    asked: &Asked,
    now: Micros,
    states: &mut HashMap<String, State>,
) -> Option<(Vec<Verdict>, limiter::Outcome)> {
    if asked.not_after > 0 && now > asked.not_after {
        return None;
    }
    let names: Vec<String> = (0..asked.keys.len())
        .map(|i| asked.keys.get(i).to_owned())
        .collect();
    let mut counters: Vec<Option<State>> = names.iter().map(|name| states.remove(name)).collect();
    let mut verdicts = Vec::new();
    let outcome = limiter::decide(now, &asked.charges, &mut counters, asked.prior, &mut verdicts);
    for (name, state) in names.into_iter().zip(counters) {
        if let Some(state) = state.filter(|state| !state.is_empty()) {
            states.insert(name, state);
        }
    }
    for (verdict, charge) in verdicts.iter_mut().zip(&asked.charges) {
        // A bucket's wait of 285 years and more, after the clock stepped back.
        verdict.wait_us = verdict.wait_us.min(WAIT_MAX);
        verdict.unbooked.wait_us = verdict.unbooked.wait_us.min(WAIT_MAX);
        // What was booked has no unbooked reading in a reply.
        if charge.mode == Mode::Consume && !verdict.over && !outcome.denied {
            verdict.unbooked.used = verdict.used;
            verdict.unbooked.remaining = verdict.remaining;
            verdict.unbooked.wait_us = verdict.wait_us;
        }
    }
    Some((verdicts, outcome))
}

/// The content of a counter in one notation for both sides.
fn in_rust(state: Option<&State>) -> String {
    match state {
        None => "nothing".to_owned(),
        Some(State::SlidingWindow(window)) => {
            let entries: Vec<String> = window
                .entries()
                .map(|(score, total)| format!("{total}@{score}"))
                .collect();
            entries.join(" ")
        }
        Some(other) => format!("{other:?}"),
    }
}

fn in_redis(connection: &mut Connection, key: &str, algorithm: Algorithm) -> String {
    if algorithm == Algorithm::SlidingWindow {
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES");
        ask.cmd("OBJECT").arg("ENCODING").arg(key);
        let (entries, encoding): (Vec<(String, f64)>, Option<String>) = ask.query(connection).unwrap();
        assert!(
            encoding.as_deref().is_none_or(|it| it == "listpack"),
            "{key} with {} entries is a {encoding:?}",
            entries.len()
        );
        let entries: Vec<String> = entries
            .into_iter()
            .map(|(total, score)| format!("{total}@{score:.0}"))
            .collect();
        return if entries.is_empty() {
            "nothing".to_owned()
        } else {
            entries.join(" ")
        };
    }
    let text: Option<String> = redis::cmd("GET").arg(key).query(connection).unwrap();
    let Some(text) = text else {
        return "nothing".to_owned();
    };
    if algorithm == Algorithm::FixedWindow {
        let (start, count) = text.split_once(' ').unwrap();
        format!("FixedWindow(FixedWindow {{ start: {start}, count: {count} }})")
    } else {
        let (debt, at) = text.split_once('@').unwrap();
        format!("TokenBucket(TokenBucket {{ debt: {debt}, at: {at} }})")
    }
}

/// One call.
pub fn run(connection: &mut Connection, script: &Script, call: &Call) -> Value {
    let mut command = Cmd::new();
    call.write_to(script, Dialect::Plain, &mut command);
    command
        .query(connection)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// One counter with limits of several ticks, charged at ever new instants, so that its list is full most of the time.
fn crowd(random: &mut Random, seed: u64, window: Micros) -> Subject {
    let many = 130 + random.below(400) as u32;
    // A tick gathers what would be entries of their own: mostly limits without.
    let requests = if random.one_in(3) {
        [100, 125, many, 1_000, u32::MAX, 126]
    } else {
        [60, 100, 124, 125, 1, random.pick(&[many, 1_000, u32::MAX])]
    };
    let limits = requests.map(|requests| Limit::new(Algorithm::SlidingWindow, requests, window, None));
    Subject {
        limits: limits.to_vec(),
        key: format!("rk:{{{seed}|crowd}}"),
    }
}

fn crowding(random: &mut Random, subject: &Subject) -> Vec<Asked> {
    let one = |random: &mut Random| {
        let limit = random.pick(&subject.limits);
        let (mode, hits) = match random.below(12) {
            0..=5 => (Mode::Record, 1 + random.below(5)),
            6 if random.one_in(5) => (Mode::Refund, 1 + random.below(12)),
            7 => (Mode::Consume, u64::from(limit.requests()) - random.below(2)),
            _ => (Mode::Consume, 1 + random.below(60)),
        };
        let mut keys = Keys::default();
        let counter = keys.add(0, |text| text.push_str(&subject.key));
        let charge = Charge {
            counter,
            limit,
            hits,
            mode,
            shadow: false,
            quota: false,
        };
        Asked {
            keys,
            charges: vec![charge],
            prior: Prior::default(),
            not_after: 0,
        }
    };
    (0..random.pick(&[1, 1, 2, 5])).map(|_| one(random)).collect()
}

/// The next instant: mostly the same or a little later, at times a window later, or back.
fn step(random: &mut Random, now: Micros, window: Micros) -> Micros {
    let next = match random.below(16) {
        0..=4 => now,
        5 => now + 1,
        6..=9 => now + random.below(window / 100 + 2),
        10..=12 => now + random.below(window / 3 + 2),
        13 => now + window,
        14 if window < YEAR => now + random.below(3 * window),
        _ => now - random.below(window.min(now / 4)),
    };
    next.min(LATEST)
}

/// Both sides of one history.
struct Pair<'c> {
    connection: &'c mut Connection,
    states: HashMap<String, State>,
    call: Call,
    reply: Reply,
}

impl<'c> Pair<'c> {
    fn new(connection: &'c mut Connection) -> Self {
        Self {
            connection,
            states: HashMap::new(),
            call: Call::new(),
            reply: Reply::default(),
        }
    }

    /// Asks both and compares all that they answer.
    fn ask(&mut self, place: &str, script: Option<&Script>, now: Micros, requests: &[Asked]) {
        self.call.clear();
        self.call.set_now(now);
        for request in requests {
            self.call
                .push(&request.keys, &request.charges, request.prior, request.not_after)
                .unwrap();
        }
        let value = run(
            self.connection,
            script.unwrap_or_else(|| self.call.script()),
            &self.call,
        );
        let decoded = self.call.decode(&value, &mut self.reply);
        decoded.unwrap_or_else(|error| panic!("{place}: {error}: {value:?}"));
        assert_eq!(self.reply.now_us, now);
        for (index, request) in requests.iter().enumerate() {
            let want = expected(request, now, &mut self.states);
            let got = match self.call.decision(&self.reply, index).unwrap() {
                Decision::Decided { verdicts, outcome } => Some((verdicts.to_vec(), outcome)),
                Decision::TooLate => None,
                Decision::NotOurs { key } => panic!("{place}: {key} is not ours"),
            };
            assert_eq!(got, want, "{place}, request {index}: {:#?}", request.charges);
        }
    }
}

fn history(seed: u64, connection: &mut Connection) -> usize {
    let mut random = Random::new(seed);
    let window = random.pick(&[
        7,
        999,
        SECOND,
        60 * SECOND,
        3_600 * SECOND,
        86_400 * SECOND,
        86_400 * SECOND,
        100 * YEAR,
    ]);
    let crowded = window >= SECOND && seed.is_multiple_of(5);
    let subjects: Vec<Subject> = if crowded {
        vec![crowd(&mut random, seed, window)]
    } else {
        (0..=random.below(6))
            .map(|n| subject(&mut random, seed, n, window))
            .collect()
    };
    let mut now = 1_700_000_000 * SECOND + random.below(YEAR);
    let mut pair = Pair::new(connection);
    let mut charges = 0;
    for step_number in 0..if crowded { 3 * CALLS } else { CALLS } {
        let requests = if crowded {
            let end = window / random.pick(&[20, 400, 400, 1_000, 1_000, 1_000]);
            now = (now + random.below(end)).min(LATEST) - random.pick(&[0, 0, 0, 0, window / 2_000]);
            crowding(&mut random, &subjects[0])
        } else {
            now = step(&mut random, now, window);
            call_of(&mut random, &subjects, now)
        };
        let script = random.one_in(3).then(Script::batch);
        let place = format!("seed {seed}, call {step_number}, now {now}, window {window}");
        pair.ask(&place, script, now, &requests);
        charges += requests
            .iter()
            .map(|request| request.charges.len())
            .sum::<usize>();
        for subject in &subjects {
            let redis = in_redis(pair.connection, &subject.key, subject.limits[0].algorithm());
            assert_eq!(
                redis,
                in_rust(pair.states.get(&subject.key)),
                "{place}, {}",
                subject.key
            );
        }
    }
    charges
}

/// Loads the scripts into a fresh server.
pub fn load(connection: &mut Connection) {
    for (script, dialect) in Script::all()
        .iter()
        .flat_map(|it| [(it, Dialect::Plain), (it, Dialect::Flags)])
    {
        let hash: String = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script.text(dialect))
            .query(connection)
            .unwrap();
        assert_eq!(hash, script.hash(dialect));
    }
}

#[test]
fn scripts_decide_and_write_as_the_limiter_does() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    load(&mut connection);
    let first: u64 = std::env::var("LUA_FIRST_SEED").map_or(0, |text| text.parse().unwrap());
    let seeds = first..first + HISTORIES;
    println!("histories of the seeds {seeds:?}");
    let charges: usize = seeds.map(|seed| history(seed, &mut connection)).sum();
    println!("{charges} charges compared");
    assert!(charges >= CHARGES_EXPECTED, "only {charges} charges");
    // Every write leaves a time to live.
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    for key in keys {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!(ttl > 0, "{key}: PTTL {ttl}");
    }
}
