#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::store::Keys;

const NOW: Micros = 1_700_000_000_000_000;
const MS: Micros = 1_000;

/// A minute's limit has ticks of 480 ms.
fn charge(hits: u64) -> Charge {
    let limit = Limit::new(Algorithm::SlidingWindow, 1_000_000, 60_000 * MS, None);
    Charge::consume(0, limit, hits)
}

fn hash() -> u64 {
    let mut keys = Keys::default();
    let at = keys.add(0, |text| text.push_str("key"));
    keys.hash(at)
}

fn spend(leases: &Leases, hits: u64, now: Micros) -> (Found, Todo) {
    leases.spend(hash(), "key", &charge(hits), now, true)
}

/// Asks until a call is to be made.
fn heat(leases: &Leases, now: Micros) -> (Wanted, oneshot::Receiver<()>) {
    for step in 0..100 {
        let now = now + step * MS / 10;
        if let (
            Found::Soon(wait),
            Todo {
                wanted: Some(wanted), ..
            },
        ) = spend(leases, 1, now)
        {
            return (wanted, wait);
        }
    }
    panic!("it does not get hot");
}

fn grant(leases: &Leases, wanted: &Wanted, hits: u64, now: Micros) -> Option<Returned> {
    let granted = Granted {
        now_us: now,
        used: 100,
        hits,
    };
    leases.granted(wanted, granted, now, now + MS)
}

/// A time at which a tick begins.
fn tick_begins() -> Micros {
    NOW.div_ceil(480 * MS) * 480 * MS + 1
}

#[test]
fn hits_are_spent_until_they_are_used_up_and_no_longer_than_granted() {
    let (leases, now) = (Leases::default(), tick_begins());
    let (wanted, mut wait) = heat(&leases, now);
    assert!(wait.try_recv().is_err(), "nothing is there yet");
    assert!(grant(&leases, &wanted, 10, now).is_none());
    assert!(wait.try_recv().is_ok(), "who waits is told");
    for spent in 1..=10 {
        let (Found::Spent(verdict, _), _) = spend(&leases, 1, now + 2 * MS) else {
            panic!("hit {spent} is there");
        };
        assert_eq!(
            (
                verdict.over,
                verdict.used,
                verdict.remaining,
                verdict.unbooked.used
            ),
            (false, 100 + spent, 1_000_000 - 100 - spent, 99 + spent)
        );
    }
    assert!(!matches!(spend(&leases, 1, now + 2 * MS).0, Found::Spent(..)));
    assert_eq!(leases.stats.spent.load(Ordering::Relaxed), 10);
}

#[test]
fn a_lease_ends_with_its_tick() {
    let (leases, begin) = (Leases::default(), tick_begins());
    let (wanted, _wait) = heat(&leases, begin);
    // 20 ms before the end of the tick.
    let late = begin + 460 * MS;
    assert!(grant(&leases, &wanted, 50, late).is_none());
    assert!(matches!(spend(&leases, 1, late + 19 * MS).0, Found::Spent(..)));
    let (found, todo) = spend(&leases, 1, late + 20 * MS);
    assert!(matches!(found, Found::Soon(_) | Found::Nothing), "{found:?}");
    let returned = todo.returned.unwrap();
    assert_eq!((returned.hits, returned.at), (49, late));
}

#[test]
fn what_is_not_asked_for_is_given_back() {
    let (leases, now) = (Leases::default(), tick_begins());
    let (wanted, _wait) = heat(&leases, now);
    grant(&leases, &wanted, 50, now);
    assert!(leases.collect(now + 50 * MS, false).is_empty());
    assert_eq!(leases.held(), 50);
    let returned = leases.collect(now + 101 * MS, false);
    assert_eq!(returned.iter().map(|it| it.hits).collect::<Vec<_>>(), [50]);
    assert_eq!(leases.held(), 0);
    assert!(leases.collect(now + 102 * MS, false).is_empty(), "once");
    // Long after that it is forgotten, and must get hot anew.
    leases.collect(now + 5_000 * MS, false);
    assert!(matches!(spend(&leases, 1, now + 5_001 * MS).0, Found::Nothing));
}

#[test]
fn an_undone_hit_can_be_spent_again_or_is_given_back() {
    let (leases, now) = (Leases::default(), tick_begins());
    let (wanted, _wait) = heat(&leases, now);
    grant(&leases, &wanted, 10, now);
    let (Found::Spent(_, booked), _) = spend(&leases, 4, now + MS) else {
        panic!("it is there");
    };
    assert!(leases.undo(hash(), "key", &charge(4), booked).is_none());
    let (found, todo) = spend(&leases, 10, now + 2 * MS);
    assert!(matches!(found, Found::Spent(..)));
    leases.failed(&todo.wanted.unwrap(), now + 2 * MS);
    // The next tick's lease is another one.
    let (wanted, _wait) = heat(&leases, now + 500 * MS);
    grant(&leases, &wanted, 10, now + 500 * MS);
    let returned = leases.undo(hash(), "key", &charge(10), booked).unwrap();
    assert_eq!((returned.hits, returned.at), (10, now));
}

#[test]
fn a_call_that_grants_nothing_or_fails_lets_requests_go_to_the_store() {
    let (leases, now) = (Leases::default(), tick_begins());
    let (wanted, mut wait) = heat(&leases, now);
    grant(&leases, &wanted, 0, now);
    assert!(wait.try_recv().is_ok());
    assert!(matches!(spend(&leases, 1, now + 2 * MS).0, Found::Nothing));
    let (wanted, mut wait) = heat(&leases, now + 10 * MS);
    leases.failed(&wanted, now + 11 * MS);
    assert!(wait.try_recv().is_ok());
    assert!(matches!(spend(&leases, 1, now + 12 * MS).0, Found::Nothing));
}

#[test]
fn another_limit_on_the_same_key_is_another_lease() {
    let (leases, now) = (Leases::default(), tick_begins());
    let (wanted, _wait) = heat(&leases, now);
    grant(&leases, &wanted, 10, now);
    let lower = Charge {
        limit: Limit::new(Algorithm::SlidingWindow, 500, 60_000 * MS, None),
        ..charge(1)
    };
    let (found, _) = leases.spend(hash(), "key", &lower, now + MS, true);
    assert!(!matches!(found, Found::Spent(..)));
}

#[test]
fn what_can_not_be_leased() {
    let is = |algorithm, requests, window_us, mode| {
        let limit = Limit::new(algorithm, requests, window_us, None);
        is_leasable(
            &Charge {
                limit,
                mode,
                ..charge(1)
            },
            Prior::default(),
        )
    };
    use Algorithm::{FixedWindow, SlidingWindow, TokenBucket};
    assert!(is(SlidingWindow, 126, 1_000 * MS, Mode::Consume));
    assert!(!is(SlidingWindow, 125, 1_000 * MS, Mode::Consume));
    assert!(!is(SlidingWindow, 126, 100 * MS, Mode::Consume));
    assert!(is(FixedWindow, 126, 1_000 * MS, Mode::Consume));
    assert!(!is(FixedWindow, 125, 1_000 * MS, Mode::Consume));
    assert!(!is(TokenBucket, 1_000, 1_000 * MS, Mode::Consume));
    for mode in [Mode::Record, Mode::Peek, Mode::Refund] {
        assert!(!is(SlidingWindow, 126, 1_000 * MS, mode));
    }
    let quota = Charge {
        quota: true,
        ..charge(1)
    };
    assert!(!is_leasable(&quota, Prior::default()));
    let denied = Prior {
        denied: true,
        ..Prior::default()
    };
    assert!(!is_leasable(&charge(1), denied));
}
