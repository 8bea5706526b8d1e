use std::sync::{Barrier, mpsc};

use super::*;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_700_000_000 * SECOND;

fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).expect("short")
}

/// Fails in moments of their own until the breaker opens; when that was.
fn open(breaker: &Breaker, mut now: Micros) -> Micros {
    for _ in 0..MOMENTS_MAX {
        now += MOMENT_US;
        if breaker.failed(now, Reason::Timeout).is_some() {
            return now;
        }
    }
    panic!("{MOMENTS_MAX} moments of failure did not open it");
}

/// The time until the next probe.
fn pause(breaker: &Breaker, now: Micros) -> Micros {
    match breaker.probe_due(now) {
        Probe::In(pause) => micros(pause),
        other => panic!("no pause but {other:?}"),
    }
}

/// Waits for the next probe and begins it.
fn probe(breaker: &Breaker, now: Micros) -> (Micros, Ticket) {
    let due = now + pause(breaker, now);
    match breaker.probe_due(due) {
        Probe::Now(ticket) => (due, ticket),
        other => panic!("no probe but {other:?}"),
    }
}

fn is_about(pause: Micros, full: Micros) -> bool {
    (full - full / 4..=full + full / 4).contains(&pause)
}

#[test]
fn the_requests_of_one_late_call_open_nothing() {
    let breaker = Breaker::new(1);
    for request in 0..100 {
        assert_eq!(
            breaker.failed(START + request * MOMENT_US / 100, Reason::Timeout),
            None
        );
    }
    assert!(breaker.admits() && breaker.state() == State::Closed);
    // Four late calls and answers, again and again.
    let breaker = Breaker::new(1);
    for call in 1..50 {
        let now = START + call * 100_000;
        for late in 0..4 {
            for _ in 0..100 {
                assert_eq!(breaker.failed(now + late * MOMENT_US, Reason::Timeout), None);
            }
            // More answers than failures, or the ratio would open it.
            for _ in 0..140 {
                breaker.succeeded(now + late * MOMENT_US + 1);
            }
        }
    }
    assert!(breaker.admits());
}

#[test]
fn moments_in_a_row_open_it_and_a_success_starts_anew() {
    let breaker = Breaker::new(1);
    let mut now = START;
    for _ in 0..4 {
        for _ in 0..MOMENTS_MAX - 1 {
            now += MOMENT_US;
            assert_eq!(breaker.failed(now, Reason::Timeout), None);
        }
        breaker.succeeded(now);
        now += 2 * SECOND;
    }
    for _ in 0..MOMENTS_MAX - 1 {
        now += MOMENT_US;
        assert_eq!(breaker.failed(now, Reason::Timeout), None);
    }
    now += MOMENT_US;
    let opened = Transition::Opened {
        why: Reason::Busy,
        cause: Cause::Row,
        relapses: 0,
    };
    assert_eq!(breaker.failed(now, Reason::Busy), Some(opened));
    assert!(!breaker.admits() && breaker.state() == State::Open);
    assert_eq!(
        breaker.failed(now + SECOND, Reason::Busy),
        None,
        "it is open already"
    );
    let counted: Vec<_> = breaker.opened().filter(|(_, times)| *times > 0).collect();
    assert_eq!(counted, [("busy", 1)]);
}

/// Failures and successes in turn, `gap` µs apart; how many requests it took.
fn requests_until_open(failures: u64, successes: u64, gap: Micros, most: u64) -> Option<u64> {
    let breaker = Breaker::new(1);
    for request in 0..most {
        let now = START + request * gap;
        if request % (failures + successes) >= failures {
            breaker.succeeded(now);
        } else if let Some(transition) = breaker.failed(now, Reason::Timeout) {
            let cause = Cause::Ratio;
            assert!(matches!(transition, Transition::Opened { cause: it, .. } if it == cause));
            return Some(request + 1);
        }
    }
    None
}

#[test]
fn half_of_a_seconds_requests_open_it() {
    // Each failure a moment of its own: half of 20 or 21.
    assert_eq!(requests_until_open(1, 1, 2_000, 10_000), Some(21));
    assert_eq!(requests_until_open(3, 1, 2_000, 10_000), Some(21));
    // A little less than half never does, at any speed; nor what is too slow to be 20 in a second.
    for gap in [10, 500, 2_000, 20_000] {
        assert_eq!(requests_until_open(2, 3, gap, 50_000), None, "every {gap} µs");
    }
    assert_eq!(requests_until_open(1, 1, 60_000, 10_000), None);
    // Fast ones take five moments, not 20 requests: 6 ms and a little.
    let fast = requests_until_open(1, 1, 10, 10_000).expect("half of them fail");
    assert!((600..700).contains(&fast), "{fast}");
}

#[test]
fn failures_older_than_a_second_are_forgotten() {
    let breaker = Breaker::new(1);
    for request in 0..15 {
        let now = START + request * 2_000;
        let _ = breaker.failed(now, Reason::Timeout);
        breaker.succeeded(now);
    }
    assert!(!breaker.admits(), "15 of 30 are too many");
    let breaker = Breaker::new(1);
    for request in 0..15 {
        let now = START + request * SECOND / 5;
        assert_eq!(breaker.failed(now, Reason::Timeout), None, "5 in any second");
        breaker.succeeded(now);
    }
    breaker.succeeded(START + 5 * SECOND);
    assert_eq!(breaker.state.load(Ordering::Relaxed), CALM);
}

#[test]
fn nobody_waits_while_nothing_fails() {
    let breaker = Breaker::new(1);
    let (done, waited) = mpsc::channel();
    std::thread::scope(|threads| {
        let held = breaker.lock();
        let breaker = &breaker;
        threads.spawn(move || {
            breaker.succeeded(START);
            let calm = breaker.admits() && breaker.state() == State::Closed;
            done.send(calm && breaker.probe_due(START) == Probe::NotNeeded)
        });
        let calm = waited.recv_timeout(Duration::from_secs(10));
        drop(held);
        assert_eq!(calm, Ok(true), "the closed path took the lock");
    });
}

#[test]
fn only_a_probe_closes_it() {
    let breaker = Breaker::new(1);
    let opened = open(&breaker, START);
    breaker.succeeded(opened + 1);
    assert!(!breaker.admits(), "a straggler is no proof");
    let (now, ticket) = probe(&breaker, opened);
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.succeeded(now);
    assert!(!breaker.admits());
    assert_eq!(pause(&breaker, now), PROBE_US_MAX, "there is one already");
    let after_us = now + 700 - opened;
    assert_eq!(
        breaker.probe_succeeded(now + 700, ticket),
        Some(Transition::Closed { after_us })
    );
    assert!(breaker.admits());
    assert_eq!(breaker.open_us(now + SECOND), after_us);
    let again = open(&breaker, now + 5 * SECOND);
    assert_eq!(
        breaker.open_us(again + 300),
        after_us + 300,
        "the present outage counts"
    );
}

#[test]
fn pauses_double_to_a_bound_and_differ_by_seed() {
    let mut firsts = Vec::new();
    for seed in 0..200 {
        let breaker = Breaker::new(seed);
        let mut now = open(&breaker, START);
        firsts.push(pause(&breaker, now));
        for full in [50_000, 100_000, 200_000, 400_000, 400_000, 400_000] {
            let drawn = pause(&breaker, now);
            assert!(is_about(drawn, full), "seed {seed}: {drawn} for {full}");
            let (due, ticket) = probe(&breaker, now);
            now = due + 20_000;
            breaker.probe_failed(now, ticket);
        }
    }
    firsts.sort_unstable();
    let (low, high) = (firsts[10], firsts[189]);
    assert!(
        low < 41_000 && high > 59_000,
        "nine tenths are within {low}..{high}"
    );
    firsts.dedup();
    assert!(firsts.len() > 150, "only {} differ", firsts.len());
}

#[test]
fn a_probe_without_a_word_frees_its_place() {
    let breaker = Breaker::new(1);
    let (now, lost) = probe(&breaker, open(&breaker, START));
    assert!(matches!(breaker.probe_due(now + PROBE_US_MAX - 1), Probe::In(_)));
    let Probe::Now(second) = breaker.probe_due(now + PROBE_US_MAX) else {
        panic!("its place is not free");
    };
    breaker.probe_failed(now + PROBE_US_MAX, lost);
    assert_eq!(breaker.state(), State::HalfOpen, "only the second one counts");
    assert!(breaker.probe_succeeded(now + PROBE_US_MAX + 1, second).is_some());
}

#[test]
fn a_trip_opens_at_once_and_overtakes_a_probe() {
    let breaker = Breaker::new(1);
    let opened = Transition::Opened {
        why: Reason::Disconnected,
        cause: Cause::Trip,
        relapses: 0,
    };
    assert_eq!(breaker.trip(START, Reason::Disconnected), Some(opened));
    assert!(is_about(pause(&breaker, START), PAUSE_US));
    // Open, with a long pause: it becomes a short one.
    let mut now = START;
    for _ in 0..4 {
        let (due, ticket) = probe(&breaker, now);
        now = due;
        breaker.probe_failed(now, ticket);
    }
    assert!(is_about(pause(&breaker, now), PAUSE_US_MAX));
    assert_eq!(breaker.trip(now, Reason::Disconnected), None);
    assert!(is_about(pause(&breaker, now), PAUSE_US));
    // And one that is about to end is not put off.
    let due = now + pause(&breaker, now);
    assert_eq!(breaker.trip(due - 10, Reason::Disconnected), None);
    let (now, ticket) = probe(&breaker, due - 10);
    assert_eq!(now, due);
    // The probe was sent to the address that is no longer the node's.
    assert_eq!(breaker.trip(now + 1, Reason::Disconnected), None);
    assert_eq!(breaker.probe_succeeded(now + 2, ticket), None);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.opened().map(|(_, times)| times).sum::<u64>(), 1);
}

/// A node with 2,000 requests a second from `START` on, and its breaker.
struct Simulated {
    breaker: Breaker,
    probing: Option<(Micros, Ticket)>,
    opened: Vec<Micros>,
    admitted: Vec<Micros>,
}

impl Simulated {
    fn run(
        seed: u64,
        until: Micros,
        probes: impl Fn(Micros) -> bool,
        requests: impl Fn(Micros) -> bool,
    ) -> Self {
        let mut it = Self {
            breaker: Breaker::new(seed),
            probing: None,
            opened: Vec::new(),
            admitted: Vec::new(),
        };
        for now in (START..until).step_by(500) {
            it.probing = match it.probing.take() {
                // A probe takes 5 ms.
                Some((sent, ticket)) if now >= sent + 5_000 => {
                    if probes(sent) {
                        assert!(it.breaker.probe_succeeded(now, ticket).is_some());
                    } else {
                        it.breaker.probe_failed(now, ticket);
                    }
                    None
                }
                None => match it.breaker.probe_due(now) {
                    Probe::Now(ticket) => Some((now, ticket)),
                    _ => None,
                },
                under_way => under_way,
            };
            if !it.breaker.admits() {
                continue;
            }
            it.admitted.push(now);
            if requests(now) {
                it.breaker.succeeded(now);
            } else if it.breaker.failed(now, Reason::Timeout).is_some() {
                it.opened.push(now);
            }
        }
        it
    }
}

#[test]
fn a_node_is_in_use_within_a_second_of_its_return_even_with_false_starts() {
    let mut worst = 0;
    for seed in 0..300 {
        let back = START + 50_000 + seed * 17_000;
        // Probes work from its return on, requests only when their connections are back: up to 400 ms later.
        let usable = back + (seed % 5) * 100_000;
        let it = Simulated::run(seed, back + 2 * SECOND, |now| now >= back, |now| now >= usable);
        let first = it.admitted.iter().find(|now| **now >= usable).expect("in use");
        let since = *it.opened.last().expect("it was away");
        assert!(
            since < usable && *first < back + SECOND,
            "seed {seed}: used {} µs after",
            first - back
        );
        worst = worst.max(first - back);
    }
    println!("in use {worst} µs after the return at the latest");
    assert!(
        worst > 400_000,
        "no outage was long enough for this to prove a thing"
    );
}

#[test]
fn a_false_start_under_the_returning_load_costs_a_short_pause_only() {
    for seed in 0..300 {
        let back = START + 2 * SECOND + seed * 17_000;
        // The first requests after its return find it cold: for 10 ms they fail.
        let first = std::cell::Cell::new(None);
        let requests = |now: Micros| {
            if now < back {
                return false;
            }
            let begin = first.get().unwrap_or(now);
            first.set(Some(begin));
            now >= begin + 10_000
        };
        let it = Simulated::run(seed, back + 2 * SECOND, |now| now >= back, requests);
        let warm = first.get().expect("it came back") + 10_000;
        let used = it.admitted.iter().find(|now| **now >= warm).expect("in use");
        assert_eq!(it.opened.len(), 2, "seed {seed}: the outage, and the false start");
        assert!(
            used - back < 700_000,
            "seed {seed}: used {} µs after",
            used - back
        );
    }
}

#[test]
fn a_node_that_takes_probes_but_no_requests_does_not_flap() {
    for seed in 0..20 {
        let it = Simulated::run(seed, START + 60 * SECOND, |_| true, |_| false);
        let gaps: Vec<_> = it.opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            gaps.len() < 200,
            "seed {seed}: opened {} times in a minute",
            gaps.len()
        );
        assert!(
            gaps[3..].iter().all(|gap| *gap >= 300_000),
            "seed {seed}: {gaps:?}"
        );
        // Each costs the requests of five moments: 13 at this speed.
        assert!(it.admitted.len() <= 13 * (it.opened.len() + 1), "seed {seed}");
    }
}

#[test]
fn one_probe_at_a_time_under_eight_threads() {
    let breaker = Breaker::new(1);
    let mut now = open(&breaker, START);
    for round in 0..300 {
        now += SECOND;
        let begin = Barrier::new(8);
        let mut tickets: Vec<Ticket> = std::thread::scope(|threads| {
            let ask = || {
                begin.wait();
                let mine = (0..50).filter_map(|_| match breaker.probe_due(now) {
                    Probe::Now(ticket) => Some(ticket),
                    _ => None,
                });
                mine.collect::<Vec<_>>()
            };
            let asking: Vec<_> = (0..8).map(|_| threads.spawn(ask)).collect();
            asking
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(tickets.len(), 1, "round {round}");
        breaker.probe_failed(now, tickets.remove(0));
    }
}

#[test]
fn threads_open_it_once_and_nobody_is_admitted_until_a_probe_succeeds() {
    for seed in 0..100 {
        let breaker = Breaker::new(seed);
        let begin = Barrier::new(8);
        let fail = |thread: u64| {
            let mut opened = 0;
            begin.wait();
            for request in 0..200 {
                let now = START + request * MOMENT_US + thread;
                opened += u64::from(breaker.failed(now, Reason::Timeout).is_some());
                // From the first time on that it was seen open, late answers tell of success.
                if !breaker.admits() {
                    breaker.succeeded(now);
                    assert!(!breaker.admits(), "seed {seed}");
                }
            }
            opened
        };
        let opened: u64 = std::thread::scope(|threads| {
            let fail = &fail;
            let failing: Vec<_> = (0..8).map(|thread| threads.spawn(move || fail(thread))).collect();
            failing
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(opened, 1, "seed {seed}");
        let Probe::Now(ticket) = breaker.probe_due(START + SECOND) else {
            panic!("no probe a second later");
        };
        assert!(breaker.probe_succeeded(START + SECOND, ticket).is_some() && breaker.admits());
    }
}
