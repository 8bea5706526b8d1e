//! The memory store: exact under concurrency, bounded, and small.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratekeeper::clock::Clock;
use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode};
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Batch, WhenFull};

use crate::limiter_oracle::{NOW, Random, SECOND, seeds};

fn batch(now: Micros, charges: &[(&str, Limit, u64)]) -> Batch {
    let mut batch = Batch {
        now,
        ..Batch::default()
    };
    for (key, limit, hits) in charges {
        let counter = batch.keys.add(7, |out| out.push_str(key));
        batch.charges.push(Charge::consume(counter, *limit, *hits));
    }
    batch
}

/// Decides and says whether the request may go on.
fn admit(store: &MemoryStore, now: Micros, charges: &[(&str, Limit, u64)]) -> bool {
    let mut batch = batch(now, charges);
    store.decide_now(&mut batch);
    !batch.outcome.denied
}

fn sliding(requests: u32, window_us: Micros) -> Limit {
    Limit::new(Algorithm::SlidingWindow, requests, window_us, None)
}

/// One admission: when the call began and ended, and its hits.
type Admission = (Micros, Micros, u64);

/// The most hits that surely lay in one window: those that began and ended within it.
fn fullest(admissions: &mut [Admission], window_us: Micros) -> u64 {
    admissions.sort_unstable();
    let mut most = 0;
    for (index, (from, _, _)) in admissions.iter().enumerate() {
        let within = admissions[index..]
            .iter()
            .take_while(|(begin, _, _)| *begin < from + window_us);
        let sum = within
            .filter(|(_, end, _)| *end < from + window_us)
            .map(|(_, _, hits)| hits)
            .sum();
        most = most.max(sum);
    }
    most
}

#[test]
fn the_audit_itself_finds_a_broken_window() {
    let mut history = vec![(10, 11, 1), (12, 13, 1), (108, 109, 1), (111, 112, 1)];
    assert_eq!(
        fullest(&mut history, 100),
        3,
        "the fourth began after the first had left"
    );
}

/// Known bug 9 of published limiters: a check and a write apart let a burst pass together.
#[test]
fn bug_09_a_race_of_64_threads_admits_exactly_the_limit() {
    for algorithm in [
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
        Algorithm::TokenBucket,
    ] {
        let store = MemoryStore::new(1_000, WhenFull::Evict);
        let limit = Limit::new(algorithm, 50, 3_600 * SECOND, None);
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        admitted.fetch_add(
                            u64::from(admit(&store, NOW, &[("k", limit, 1)])),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 50, "{algorithm:?}");
    }
}

#[test]
fn no_rolling_window_is_ever_broken_under_concurrency() {
    for seed in seeds(3) {
        let mut random = Random::new(seed);
        let store = Arc::new(MemoryStore::new(10_000, WhenFull::Evict));
        let keys: Vec<(String, Limit)> = (0..6)
            .map(|key| {
                let requests = random.pick(&[1, 7, 50, 125, 126, 900]);
                (
                    format!("key-{key}"),
                    sliding(requests, random.pick(&[5_000, 40_000, 200_000])),
                )
            })
            .collect();
        let clock = Clock::system();
        let histories: Vec<Mutex<Vec<Admission>>> = keys.iter().map(|_| Mutex::default()).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (store, clock, keys, histories, stop) = (&store, &clock, &keys, &histories, &stop);
                scope.spawn(move || {
                    let mut random = Random::new(seed * 100 + thread);
                    while !stop.load(Ordering::Relaxed) {
                        let (first, second) = (random.below(6) as usize, random.below(6) as usize);
                        let (one, two) = (1 + random.below(3), 1 + random.below(2));
                        let charges = [
                            (keys[first].0.as_str(), keys[first].1, one),
                            (keys[second].0.as_str(), keys[second].1, two),
                        ];
                        let begin = clock.now_us();
                        if admit(store, begin, &charges) {
                            let end = clock.now_us();
                            histories[first].lock().unwrap().push((begin, end, one));
                            histories[second].lock().unwrap().push((begin, end, two));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(700));
            stop.store(true, Ordering::Relaxed);
        });
        for ((key, limit), history) in keys.iter().zip(&histories) {
            let mut history = history.lock().unwrap();
            let most = fullest(&mut history, limit.window_us());
            assert!(
                most <= u64::from(limit.requests()),
                "seed {seed}, {key}: {most} of {}",
                limit.requests()
            );
        }
        let admitted: usize = histories
            .iter()
            .map(|history| history.lock().unwrap().len())
            .sum();
        assert!(
            admitted > 50,
            "seed {seed}: the audit saw only {admitted} admissions"
        );
    }
}

#[test]
fn requests_over_several_counters_are_all_or_nothing_between_threads() {
    let store = MemoryStore::new(1_000, WhenFull::Evict);
    let (wide, narrow) = (sliding(1_000, 3_600 * SECOND), sliding(10, 3_600 * SECOND));
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..50 {
                    let charges = [("wide", wide, 1), ("narrow", narrow, 1)];
                    let reversed = [charges[1], charges[0]];
                    admit(
                        store,
                        NOW,
                        if (thread + round) % 2 == 0 {
                            &charges
                        } else {
                            &reversed
                        },
                    );
                }
            });
        }
    });
    let mut rest = batch(NOW, &[("wide", wide, 1)]);
    store.decide_now(&mut rest);
    assert_eq!(
        rest.verdicts[0].used, 11,
        "denied requests charged the wide limit"
    );
}

#[test]
fn a_full_store_forgets_the_least_recently_used() {
    let store = MemoryStore::new(4, WhenFull::Evict);
    let limit = sliding(1, 3_600 * SECOND);
    for key in ["a", "b", "c", "d"] {
        assert!(admit(&store, NOW, &[(key, limit, 1)]));
    }
    for key in ["a", "b", "c", "d"] {
        assert!(
            !admit(&store, NOW, &[(key, limit, 1)]),
            "{key} was forgotten too early"
        );
    }
    assert!(admit(&store, NOW, &[("e", limit, 1)]));
    assert_eq!(store.len(), 4);
    assert_eq!(store.stats().evicted.load(Ordering::Relaxed), 1);
    assert!(admit(&store, NOW, &[("a", limit, 1)]), "the oldest was to go");
    assert!(!admit(&store, NOW, &[("d", limit, 1)]), "the newest was to stay");
}

#[test]
fn a_full_store_can_count_new_keys_together() {
    let store = MemoryStore::new(2, WhenFull::Overflow);
    let limit = sliding(2, 3_600 * SECOND);
    assert!(admit(&store, NOW, &[("a", limit, 1)]) && admit(&store, NOW, &[("b", limit, 1)]));
    assert!(admit(&store, NOW, &[("c", limit, 1)]) && admit(&store, NOW, &[("d", limit, 1)]));
    assert!(
        !admit(&store, NOW, &[("e", limit, 1)]),
        "c and d used up the shared counter"
    );
    assert!(!admit(&store, NOW, &[("x", limit, 1), ("y", limit, 1)]));
    assert!(
        admit(&store, NOW, &[("a", limit, 1)]),
        "what has a counter keeps it"
    );
    assert_eq!(store.stats().evicted.load(Ordering::Relaxed), 0);
    assert_eq!(store.stats().overflowed.load(Ordering::Relaxed), 5);
    let store = MemoryStore::new(1, WhenFull::Overflow);
    assert!(admit(&store, NOW, &[("a", limit, 1)]));
    assert!(
        !admit(&store, NOW, &[("x", limit, 1), ("y", limit, 2)]),
        "one counter, so the two see each other"
    );
    assert!(admit(&store, NOW, &[("x", limit, 1), ("y", limit, 1)]));
}

#[test]
fn counters_leave_by_themselves_once_they_have_run_out() {
    let store = MemoryStore::new(100_000, WhenFull::Evict);
    for (name, algorithm) in [
        ("s", Algorithm::SlidingWindow),
        ("f", Algorithm::FixedWindow),
        ("t", Algorithm::TokenBucket),
    ] {
        let limit = Limit::new(algorithm, 5, SECOND, None);
        for key in 0..1_000 {
            assert!(admit(&store, NOW, &[(&format!("{name}{key}"), limit, 1)]));
        }
    }
    assert_eq!(store.len(), 3_000);
    store.sweep(NOW + SECOND / 1_000);
    store.sweep_part(NOW + SECOND / 1_000);
    assert_eq!(store.len(), 3_000, "nothing has run out yet");
    store.sweep_part(NOW + 2 * SECOND);
    assert_eq!(store.len(), 0, "a part of so few is all of them");
    // Two slots are looked at for each new key, so about as many have run out as are live.
    let limit = sliding(5, SECOND);
    for key in 0..100_000_u64 {
        admit(
            &store,
            NOW + 10 * SECOND + key * 100,
            &[(&key.to_string(), limit, 1)],
        );
    }
    let kept = store.len();
    assert!(
        (10_000..30_000).contains(&kept),
        "{kept} of 100,000 keys are kept, 10,000 are live"
    );
}

/// Known bug 4: keys that never expire.
#[test]
fn bug_04_no_counter_lives_for_ever() {
    let store = MemoryStore::new(100_000, WhenFull::Evict);
    let mut random = Random::new(4);
    for key in 0..5_000 {
        let algorithm = random.pick(&[
            Algorithm::SlidingWindow,
            Algorithm::FixedWindow,
            Algorithm::TokenBucket,
        ]);
        let limit = Limit::new(
            algorithm,
            random.next() as u32,
            1 + random.below(100 * 31_536_000 * SECOND),
            None,
        );
        let mode = random.pick(&[Mode::Consume, Mode::Record, Mode::Refund, Mode::Peek]);
        let mut batch = batch(
            NOW,
            &[(&key.to_string(), limit, random.next() >> random.below(64))],
        );
        batch.charges[0].mode = mode;
        store.decide_now(&mut batch);
    }
    assert!(store.len() > 1_000);
    store.sweep(u64::MAX - 1);
    assert_eq!(store.len(), 0);
}

#[test]
fn a_key_costs_at_most_200_bytes() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::TokenBucket] {
        let store = MemoryStore::new(4_000_000, WhenFull::Evict);
        let limit = Limit::new(algorithm, 100, 3_600 * SECOND, None);
        let mut most = 0;
        for key in 0..200_000_u64 {
            admit(&store, NOW, &[(&format!("user-{key}"), limit, 1)]);
            // The worst moment of growing lists is right after they grew.
            if key > 50_000 && key % 10_000 == 0 {
                most = most.max(store.bytes() / store.len());
            }
        }
        println!("{algorithm:?}: at most {most} bytes a key");
        assert!(most <= 200, "{algorithm:?}: {most} bytes a key");
    }
}

#[test]
fn a_sliding_window_of_ten_hits_costs_at_most_400_bytes() {
    let store = MemoryStore::new(4_000_000, WhenFull::Evict);
    let limit = sliding(100, 3_600 * SECOND);
    for hit in 0..10 {
        for key in 0..100_000_u64 {
            let asked = [(&*format!("user-{key}"), limit, 1)];
            assert!(admit(&store, NOW + hit * SECOND, &asked));
        }
    }
    let bytes = store.bytes() / store.len();
    println!("{bytes} bytes a key");
    assert!(bytes <= 400, "{bytes} bytes a key");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// The table against a plain map, while keys come, run out, and are refunded away.
    #[test]
    fn agrees_with_a_plain_map(seed in 0_u64..1_000_000) {
        let mut random = Random::new(seed);
        let store = MemoryStore::new(10_000, WhenFull::Evict);
        let limit = Limit::new(Algorithm::FixedWindow, 5, SECOND, None);
        let mut naive: std::collections::HashMap<u64, (u64, u64)> = std::collections::HashMap::new();
        let mut now = NOW;
        for _ in 0..500 {
            now += random.below(SECOND / 20);
            let (key, hits) = (random.below(60), 1 + random.below(2));
            let refund = random.one_in(4);
            let mut batch = batch(now, &[(&key.to_string(), limit, hits)]);
            if refund {
                batch.charges[0].mode = Mode::Refund;
            }
            store.decide_now(&mut batch);
            let window = now / SECOND;
            let entry = naive.entry(key).or_insert((window, 0));
            if entry.0 != window {
                *entry = (window, 0);
            }
            if refund {
                entry.1 = entry.1.saturating_sub(hits);
            } else if entry.1 + hits <= 5 {
                entry.1 += hits;
            } else {
                proptest::prop_assert!(batch.outcome.denied);
            }
            proptest::prop_assert_eq!(batch.verdicts[0].used, entry.1);
            if random.one_in(50) {
                store.sweep(now);
            }
        }
    }
}
