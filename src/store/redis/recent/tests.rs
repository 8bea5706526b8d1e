#![expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]

use std::collections::BTreeMap;

use redis::Value;

use super::*;
use crate::limiter::{Outcome, Prior, Verdict};
use crate::store::redis::script::{Dialect, Script};

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;
const START: Micros = 1_700_000_000 * SECOND;

/// A day's limit that has room for whatever the tests book.
fn limit(requests: u32) -> Limit {
    Limit::new(Algorithm::SlidingWindow, requests, DAY, None)
}

fn charge(mode: Mode, hits: u64, limit: Limit) -> Charge {
    Charge {
        counter: 0,
        limit,
        hits,
        mode,
        shadow: false,
        quota: false,
    }
}

/// One request: its keys and charges, and for each consume whether it is over.
type Asked = Vec<(String, Charge, bool)>;

/// What the script would answer to the requests, in its own layout, and which of the charges it so has booked.
fn exchange(requests: &[Asked]) -> (Call, Reply, Vec<(String, Charge)>) {
    let (mut call, mut booked) = (Call::new(), Vec::new());
    let mut flat = vec![Value::Int(START as i64)];
    for request in requests {
        let mut keys = Keys::default();
        let mut charges = Vec::new();
        for (key, charge, _) in request {
            let counter = keys.add(0, |text| text.push_str(key));
            charges.push(Charge { counter, ..*charge });
        }
        call.push(&keys, &charges, Prior::default(), 0).expect("fits");
        let judged = |over: &bool| Verdict {
            over: *over,
            ..Verdict::default()
        };
        let verdicts: Vec<_> = request.iter().map(|(_, _, over)| judged(over)).collect();
        let denied = Outcome::of(&charges, &verdicts, Prior::default()).denied;
        flat.push(Value::Int(denied.into()));
        for (key, charge, over) in request {
            let consumed = charge.mode == Mode::Consume && !over && !denied;
            if consumed || charge.mode == Mode::Record {
                booked.push((key.clone(), *charge));
            }
            let used = if *over {
                i64::from(charge.limit.requests())
            } else {
                0
            };
            if consumed {
                flat.push(Value::Int(used));
            } else {
                flat.extend([Value::Int(-used - 1), Value::Int(7)]);
            }
        }
    }
    let mut reply = Reply::default();
    call.decode(&Value::Array(flat), &mut reply)
        .expect("the script's layout");
    (call, reply, booked)
}

fn note(recent: &mut Recent, now: Micros, key: &str, hits: u64) {
    let (call, reply, _) = exchange(&[vec![(
        key.to_owned(),
        charge(Mode::Consume, hits, limit(u32::MAX)),
        false,
    )]]);
    recent.note(now, &call, &reply);
}

/// Hits by key and limit.
type Sums = BTreeMap<(String, u32), u64>;

fn all(recent: &mut Recent) -> Sums {
    let replayed = recent.replay(recent.latest, |_| true);
    let len = replayed.len();
    let sums: Sums = replayed
        .into_iter()
        .map(|it| ((it.key.into(), it.limit.requests()), it.hits))
        .collect();
    assert_eq!(sums.len(), len, "one for each key and limit");
    sums
}

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn request(&mut self, keys: u64) -> Asked {
        let charges = 1 + self.below(6);
        (0..charges)
            .map(|_| {
                let mode = [
                    Mode::Consume,
                    Mode::Consume,
                    Mode::Record,
                    Mode::Peek,
                    Mode::Refund,
                ][self.below(5) as usize];
                let limit = limit([100, 1_000][self.below(2) as usize]);
                let mut charge = charge(mode, self.below(20), limit);
                charge.shadow = self.percent(30);
                charge.quota = self.percent(10);
                let over = mode == Mode::Consume && charge.hits > 0 && self.percent(15);
                (format!("domain|key_{}", self.below(keys)), charge, over)
            })
            .collect()
    }
}

#[test]
fn only_what_was_booked_is_kept() {
    let wide = limit(100);
    let denied = vec![
        ("a".to_owned(), charge(Mode::Consume, 1, wide), false),
        ("b".to_owned(), charge(Mode::Consume, 2, wide), true),
        ("c".to_owned(), charge(Mode::Record, 3, wide), false),
    ];
    let allowed = vec![
        ("a".to_owned(), charge(Mode::Consume, 10, wide), false),
        ("c".to_owned(), charge(Mode::Peek, 20, wide), false),
        ("c".to_owned(), charge(Mode::Refund, 30, wide), false),
        ("d".to_owned(), charge(Mode::Consume, 0, wide), false),
    ];
    let (call, reply, booked) = exchange(&[denied, allowed]);
    assert_eq!(booked.len(), 3);
    let mut recent = Recent::default();
    recent.note(START, &call, &reply);
    let expected = [(("a".to_owned(), 100), 10), (("c".to_owned(), 100), 3)];
    assert_eq!(all(&mut recent), BTreeMap::from(expected));
    assert!(recent.is_empty() && recent.bytes() == 0, "it was taken out");
}

#[test]
fn requests_that_were_too_late_or_not_ours_booked_nothing() {
    let mut call = Call::new();
    let mut keys = Keys::default();
    let counter = keys.add(0, |text| text.push('a'));
    for hits in 1..4 {
        let charge = Charge {
            counter,
            ..charge(Mode::Record, hits, limit(100))
        };
        call.push(&keys, &[charge], Prior::default(), 1).expect("fits");
    }
    let numbers = [START as i64, 2, 3, 1, 0, -1, 7];
    let mut reply = Reply::default();
    call.decode(&Value::Array(numbers.map(Value::Int).to_vec()), &mut reply)
        .expect("the layout");
    assert_eq!(
        call.booked(&reply)
            .map(|(_, charge)| charge.hits)
            .collect::<Vec<_>>(),
        [3]
    );
}

#[test]
fn the_age_counts_from_the_latest_confirmation() {
    let mut recent = Recent::default();
    note(&mut recent, START, "old", 1);
    note(&mut recent, START + 1, "first", 2);
    note(&mut recent, START + SPAN_US + 1, "last", 3);
    // A failover of six seconds.
    recent.forget(START + SPAN_US + 1 + 6 * SECOND);
    let replayed = recent.replay(START + SPAN_US + 6 * SECOND, |_| true);
    let keys: Vec<_> = replayed.iter().map(|it| (&*it.key, it.hits)).collect();
    assert_eq!(keys, [("last", 3), ("first", 2)], "the newest first");
    // And one that was never confirmed anything again.
    note(&mut recent, START + 20 * SECOND, "idle", 1);
    recent.forget(START + 30 * SECOND);
    assert!(!recent.is_empty());
    recent.forget(START + 30 * SECOND + 1);
    assert!(recent.is_empty() && recent.bytes() == 0);
}

#[test]
fn hits_whose_window_is_over_are_left_out() {
    let mut recent = Recent::default();
    let limits = [
        Limit::new(Algorithm::SlidingWindow, 10, SECOND, None),
        Limit::new(Algorithm::SlidingWindow, 1_000, SECOND, None),
        Limit::new(Algorithm::FixedWindow, 20, SECOND, None),
        Limit::new(Algorithm::TokenBucket, 30, SECOND, None),
    ];
    let asked = limits.map(|limit| vec![("key".to_owned(), charge(Mode::Consume, 2, limit), false)]);
    let (call, reply, _) = exchange(&asked);
    for (after, expected) in [
        (SECOND - 1, vec![10, 20, 30, 1_000]),
        (SECOND, vec![10, 30, 1_000]),
        (SECOND + 1, vec![30, 1_000]),
        (SECOND + 8_000, vec![30]),
    ] {
        recent.note(START, &call, &reply);
        let mut left: Vec<_> = recent
            .replay(START + after, |_| true)
            .iter()
            .map(|it| it.limit.requests())
            .collect();
        left.sort_unstable();
        assert_eq!(left, expected, "{after} µs later");
    }
}

#[test]
fn hits_are_summed_to_a_bound_and_replayed_as_records() {
    let mut recent = Recent::default();
    for _ in 0..3 {
        let record = charge(Mode::Record, u64::MAX, limit(5));
        let (call, reply, _) = exchange(&[vec![("key".to_owned(), record, false)]]);
        recent.note(START, &call, &reply);
    }
    let replayed = recent.replay(START, |_| true);
    assert_eq!(replayed.len(), 1);
    let (keys, charges) = replayed[0].request();
    assert_eq!(
        (keys.get(0), charges[0].hits, charges[0].mode),
        ("key", RECORD_HITS_MAX, Mode::Record)
    );
    let mut call = Call::new();
    call.push(&keys, &charges, Prior::default(), 0).expect("fits");
    assert_eq!(
        call.script().hash(Dialect::Flags),
        Script::batch().hash(Dialect::Flags)
    );
    // What could not be recorded is there the next time.
    recent.put_back(&replayed);
    assert_eq!(recent.replay(START, |_| true), replayed);
}

#[test]
fn a_node_that_takes_over_has_it_all() {
    let mut recent = Recent::default();
    note(&mut recent, START, "key", 1);
    let replayed = recent.replay(START, |_| true);
    let mut heir = Recent::default();
    heir.put_back(&replayed);
    heir.forget(START + SECOND);
    assert_eq!(heir.replay(START + SECOND, |_| true), replayed);
}

#[test]
fn keys_that_did_not_move_stay() {
    let mut recent = Recent::default();
    for step in 0..3_000 {
        note(&mut recent, START + step * 500, &format!("key_{}", step % 10), 1);
    }
    let before = recent.bytes();
    let moved = recent.replay(START, |key| key.ends_with('3'));
    assert_eq!(moved.iter().map(|it| it.hits).collect::<Vec<_>>(), [300]);
    assert!(recent.bytes() <= before);
    let left = all(&mut recent);
    assert!(
        left.len() == 9 && left.values().all(|hits| *hits == 300),
        "{left:?}"
    );
}

/// Random calls next to a list of all that was ever booked: all of the kept span is there, and nothing from more than a chunk before
/// it.
#[test]
fn a_replay_is_what_was_booked_in_the_kept_span() {
    let (mut replays, mut inexact) = (0, 0);
    for seed in 1..=150 {
        let random = &mut Random(seed);
        let (mut recent, mut naive, mut now) = (Recent::default(), Vec::new(), START);
        let mut latest = START;
        let step = [50, 5_000, 100_000][random.below(3) as usize];
        for _ in 0..400 {
            now += random.below(step);
            // Threads tell their times a little out of order.
            let told = now - random.below(50).min(now - START);
            latest = latest.max(told);
            let requests: Vec<_> = (0..1 + random.below(4)).map(|_| random.request(40)).collect();
            let (call, reply, booked) = exchange(&requests);
            recent.note(told, &call, &reply);
            naive.extend(
                booked
                    .into_iter()
                    .filter(|(_, it)| it.hits > 0)
                    .map(|it| (latest, it)),
            );
            if !random.percent(3) {
                continue;
            }
            replays += 1;
            let digit = random.below(12).to_string();
            let wanted = |key: &str| digit.len() > 1 || key.ends_with(&digit);
            let (mut least, mut most): (Sums, Sums) = Default::default();
            naive.retain(|(at, (key, charge))| {
                for (sums, from) in [(&mut least, SPAN_US), (&mut most, SPAN_US + chunk::CHUNK_US)] {
                    if wanted(key) && at + from >= latest {
                        *sums.entry((key.clone(), charge.limit.requests())).or_default() += charge.hits;
                    }
                }
                !wanted(key)
            });
            let replayed = recent.replay(now, wanted);
            assert!(
                replayed.is_sorted_by_key(|it| std::cmp::Reverse(it.at)),
                "seed {seed}"
            );
            let found: Sums = replayed
                .into_iter()
                .map(|it| ((it.key.into(), it.limit.requests()), it.hits))
                .collect();
            assert!(found.keys().eq(least.keys()), "seed {seed}: {found:?}, {least:?}");
            for (key, hits) in found {
                assert!(
                    (least[&key]..=most[&key]).contains(&hits),
                    "seed {seed}: {key:?}, {hits}"
                );
                inexact += u32::from(hits != least[&key]);
            }
            assert!(recent.is_whole() && recent.dropped() == 0, "seed {seed}");
        }
    }
    assert!(replays > 1_000, "only {replays} replays");
    assert!(inexact > 20, "only {inexact} that a chunk kept");
}

/// Calls of 64 charges with keys of some length, so many charges a second, for so long; the log, and its memory second by second.
fn loaded(charges_per_second: u64, key_bytes: usize, seconds: u64) -> (Recent, Vec<(usize, usize)>) {
    let mut recent = Recent::default();
    let call_us = 64 * SECOND / charges_per_second;
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let requests = (0..64).map(|charge_number| {
                let key = format!("{:0key_bytes$}", number * 64 + charge_number);
                vec![(key, charge(Mode::Consume, 1, limit(100)), false)]
            });
            exchange(&requests.collect::<Vec<_>>())
        })
        .collect();
    let mut memory = vec![(usize::MAX, 0); seconds as usize];
    for (step, now) in (START..START + seconds * SECOND)
        .step_by(call_us as usize)
        .enumerate()
    {
        let (call, reply, _) = &calls[step % calls.len()];
        recent.note(now, call, reply);
        let bytes = recent.chunks.iter().map(Chunk::bytes).sum::<usize>();
        assert_eq!(bytes, recent.bytes(), "the account is wrong");
        assert!(bytes <= BYTES_MAX, "{bytes} bytes");
        let (low, high) = &mut memory[((now - START) / SECOND) as usize];
        (*low, *high) = ((*low).min(bytes), (*high).max(bytes));
    }
    (recent, memory)
}

#[test]
fn memory_stays_flat_under_full_load() {
    let (mut recent, memory) = loaded(20_000, 60, 10);
    for (low, high) in &memory[4..] {
        assert!(high - low <= high / 10, "{memory:?}");
    }
    assert!(recent.is_whole() && recent.dropped() == 0);
    let (latest, from) = (recent.latest, recent.from());
    let kept: u64 = recent.replay(latest, |_| true).iter().map(|it| it.hits).sum();
    let calls = (latest - from) / (64 * SECOND / 20_000) + 1;
    assert_eq!(kept, calls * 64);
}

/// What is charged on few keys takes the same memory at any rate.
#[test]
fn a_hot_key_takes_no_more_memory() {
    let mut recent = Recent::default();
    let (call, reply, _) = exchange(&[vec![
        (
            "key".to_owned(),
            charge(Mode::Consume, 1, limit(100)),
            false
        );
        64
    ]]);
    for step in 0..200_000 {
        recent.note(START + step * 20, &call, &reply);
    }
    assert!(recent.bytes() < 16 * 80_000, "{} bytes", recent.bytes());
    assert!(recent.is_whole());
    let hits = all(&mut recent)[&("key".to_owned(), 100)];
    let of_span = 64 * SPAN_US / 20;
    assert!(
        (of_span..=of_span + 64 * chunk::CHUNK_US / 20 + 64).contains(&hits),
        "{hits}"
    );
}

#[test]
fn beyond_the_bound_the_oldest_go_and_it_says_so() {
    let (mut recent, memory) = loaded(60_000, 100, 5);
    assert!(
        memory[2..].iter().all(|(low, high)| high - low <= high / 10),
        "{memory:?}"
    );
    assert!(!recent.is_whole() && recent.dropped() > 100_000);
    let replayed = recent.replay(recent.latest, |_| true);
    let kept: u64 = replayed.iter().map(|it| it.hits).sum();
    assert!((50_000..84_000).contains(&kept), "{kept} in 8 MiB");
    // Whole again, once what was dropped would be too old anyhow.
    let latest = recent.latest;
    note(&mut recent, latest + SPAN_US + SECOND, "key", 1);
    assert!(recent.is_whole());
    // A key that nothing can hold.
    note(&mut recent, latest + SPAN_US + SECOND, &"k".repeat(BYTES_MAX), 1);
    assert!(!recent.is_whole() && recent.bytes() == 0);
}

#[test]
fn keys_of_any_length_and_more_limits_than_a_chunk_holds() {
    let mut recent = Recent::default();
    let mut expected = BTreeMap::new();
    for number in 0..200_u32 {
        let key = "k".repeat(number as usize * 700);
        let limit = limit(1_000 + number);
        let (call, reply, _) = exchange(&[vec![(key.clone(), charge(Mode::Consume, 1, limit), false)]]);
        recent.note(START, &call, &reply);
        if number >= 190 {
            expected.insert((key, 1_000 + number), 1);
        }
    }
    assert!(recent.bytes() <= BYTES_MAX);
    let found = all(&mut recent);
    assert!(expected.iter().all(|(key, hits)| found.get(key) == Some(hits)));
}
