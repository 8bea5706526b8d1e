//! What the script that gives back leaves in a real Redis: nothing where there is nothing to give back, keys that end, and
//! nothing at all once it comes too late.

use ratekeeper::limiter::{Algorithm, Limit, Micros, Mode, Prior, Reading};
use ratekeeper::store::redis::call::Call;
use ratekeeper::store::redis::give_back::{GIVE_BACKS_MAX, GiveBack, NotTaken};
use ratekeeper::store::redis::script::Dialect;
use redis::{Connection, Value};

use super::{MINUTE, SHARED, YEAR, ask, charge, everything, keys, limit, server, server_time};
use crate::limiter_oracle::Random;
use crate::lua_equals_rust::give_backs::send;

/// Books hits, and says when.
fn book(connection: &mut Connection, name: &str, limit: Limit, hits: u64) -> Micros {
    let mut call = Call::new();
    call.push(
        &keys(&[name]),
        &[charge(0, limit, hits, Mode::Record)],
        Prior::default(),
        0,
    )
    .unwrap();
    ask(connection, &call).now_us
}

fn one(name: &str, limit: &Limit, hits: u64, at: Micros) -> GiveBack {
    let mut call = GiveBack::new(0);
    call.push(name, limit, hits, at).unwrap();
    call
}

fn used(reading: Option<Reading>) -> u64 {
    reading.expect("a reading").used
}

#[test]
fn what_was_booked_is_given_back_and_an_empty_key_goes() {
    let (_redis, mut connection) = server();
    for algorithm in SHARED {
        let (limit, name) = (limit(algorithm, 100, 100 * YEAR), format!("rk:{algorithm:?}"));
        let first = book(&mut connection, &name, limit, 10);
        let second = book(&mut connection, &name, limit, 5);
        assert!(second > first);
        let mut both = one(&name, &limit, 10, first);
        both.push(&name, &limit, 2, second).unwrap();
        let readings = send(&mut connection, Dialect::Plain, &both);
        assert_eq!(readings.len(), 2);
        // What has drained of a bucket meanwhile stays in it, here less than a hit.
        let more = u64::from(algorithm == Algorithm::TokenBucket);
        let got = (used(readings[0]), used(readings[1]));
        assert_eq!(got, (5 + more, 3 + more), "{algorithm:?}");
        let wait = readings[1].unwrap().wait_us;
        assert!(wait > YEAR, "{algorithm:?}: {wait}");
        let ttl: i64 = redis::cmd("PTTL").arg(&name).query(&mut connection).unwrap();
        assert!(ttl > 0, "{algorithm:?}: {ttl}");
        if algorithm != Algorithm::TokenBucket {
            let rest = send(&mut connection, Dialect::Plain, &one(&name, &limit, 3, second));
            let empty = Reading {
                used: 0,
                remaining: 100,
                wait_us: rest[0].unwrap().wait_us,
            };
            assert_eq!(rest, [Some(empty)]);
            assert!(everything(&mut connection).is_empty());
        }
        let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
    }
}

#[test]
fn nothing_to_give_back_leaves_every_byte_as_it_was() {
    let (_redis, mut connection) = server();
    for algorithm in SHARED {
        let (limit, name) = (limit(algorithm, 200, MINUTE), format!("rk:{algorithm:?}"));
        let at = book(&mut connection, &name, limit, 3);
        let before = everything(&mut connection);
        let late = at.saturating_sub(2 * MINUTE);
        let mut call = one(&name, &limit, 0, at);
        call.push(&name, &limit, 3, late).unwrap();
        call.push(&name, &limit, 3, 0).unwrap();
        call.push("rk:nobody", &limit, 3, at).unwrap();
        call.push(&name, &limit, 3, at + 2 * MINUTE).unwrap();
        let readings = send(&mut connection, Dialect::Plain, &call);
        for (index, reading) in readings.into_iter().enumerate() {
            let there = if index == 3 { 0 } else { 3 };
            assert_eq!(used(reading), there, "{algorithm:?}, {index}");
        }
        assert_eq!(everything(&mut connection), before, "{algorithm:?}");
        send(&mut connection, Dialect::Plain, &one(&name, &limit, 1, at));
        assert_ne!(
            everything(&mut connection),
            before,
            "{algorithm:?}: the check would see a write"
        );
    }
}

#[test]
fn who_comes_too_late_gives_nothing_back() {
    let (_redis, mut connection) = server();
    for dialect in [Dialect::Plain, Dialect::Flags] {
        for algorithm in SHARED {
            let (limit, name) = (limit(algorithm, 10, YEAR), format!("rk:{algorithm:?}"));
            let at = book(&mut connection, &name, limit, 3);
            let before = everything(&mut connection);
            let now = server_time(&mut connection);
            let mut call = GiveBack::new(1);
            call.push(&name, &limit, 1, at).unwrap();
            call.not_after(now - 1);
            call.push(&name, &limit, 1, at).unwrap();
            call.push(&name, &limit, 1, at).unwrap();
            assert_eq!(send(&mut connection, dialect, &call), [None; 3]);
            assert_eq!(everything(&mut connection), before, "{algorithm:?}");
            // Another request of the same call is in time.
            call.not_after(5);
            call.not_after(now + MINUTE);
            call.push(&name, &limit, 1, at).unwrap();
            let readings = send(&mut connection, dialect, &call);
            assert_eq!(readings[..3], [None; 3]);
            assert_eq!(used(readings[3]), 2 + u64::from(algorithm == SHARED[2]));
            assert_ne!(everything(&mut connection), before);
            let _: () = redis::cmd("DEL").arg(&name).query(&mut connection).unwrap();
        }
    }
}

#[test]
fn a_key_that_is_not_ours_spoils_only_its_own_give_back() {
    let (_redis, mut connection) = server();
    let strangers: [(&str, &[&str], &[Algorithm]); 6] = [
        ("rk:list", &["LPUSH", "rk:list", "1"], &SHARED),
        ("rk:text", &["SET", "rk:text", "1"], &SHARED),
        ("rk:words", &["ZADD", "rk:words", "1", "a", "2", "b"], &SHARED),
        (
            "rk:between",
            &["ZADD", "rk:between", "0", "0", "50", "x", "70", "7"],
            &SHARED,
        ),
        (
            "rk:falling",
            &["ZADD", "rk:falling", "0", "1", "50", "0", "70", "7"],
            &SHARED,
        ),
        ("rk:window", &["SET", "rk:window", "0 5"], &[SHARED[0], SHARED[2]]),
    ];
    for (name, command, algorithms) in strangers {
        let _: Value = redis::cmd(command[0])
            .arg(&command[1..])
            .query(&mut connection)
            .unwrap();
        for algorithm in algorithms {
            let limit = limit(*algorithm, 10, MINUTE);
            let beside = format!("rk:beside:{algorithm:?}");
            let at = 50;
            let record = charge(0, limit, 2, Mode::Record);
            let mut booking = Call::new();
            booking.set_now(at);
            booking
                .push(&keys(&[&beside]), &[record], Prior::default(), 0)
                .unwrap();
            ask(&mut connection, &booking);
            let before = everything(&mut connection);
            let mut call = GiveBack::new(0);
            call.set_now(60);
            call.push(name, &limit, 1, at).unwrap();
            let readings = send(&mut connection, Dialect::Plain, &call);
            assert_eq!(readings, [None], "{name}, {algorithm:?}");
            assert_eq!(everything(&mut connection), before, "{name}, {algorithm:?}");
            call.push(&beside, &limit, 2, at).unwrap();
            let readings = send(&mut connection, Dialect::Plain, &call);
            assert_eq!(readings[0], None, "{name}, {algorithm:?}");
            assert!(used(readings[1]) < 2);
            let _: () = redis::cmd("DEL").arg(&beside).query(&mut connection).unwrap();
        }
    }
}

#[test]
fn a_call_of_give_backs_has_bounds() {
    let window = limit(Algorithm::SlidingWindow, 5, MINUTE);
    let local = limit(Algorithm::LocalBucket, 5, MINUTE);
    let mut call = GiveBack::new(0);
    assert_eq!(call.push("rk:a", &local, 1, 1), Err(NotTaken::LocalScope));
    assert!(call.is_empty());
    for number in 0..GIVE_BACKS_MAX {
        call.push(["rk:a", "rk:b"][number % 2], &window, 1, 1).unwrap();
    }
    assert_eq!(call.push("rk:c", &window, 1, 1), Err(NotTaken::Full));
    assert_eq!((call.len(), call.keys().len()), (GIVE_BACKS_MAX, 2));
    let (_redis, mut connection) = server();
    assert_eq!(send(&mut connection, Dialect::Flags, &call).len(), GIVE_BACKS_MAX);
    assert!(send(&mut connection, Dialect::Plain, &GiveBack::new(0)).is_empty());
}

#[test]
fn a_malformed_reply_to_a_give_back_is_an_error() {
    let window = limit(Algorithm::SlidingWindow, 5, MINUTE);
    let mut call = one("rk:a", &window, 1, 1);
    call.push("rk:b", &window, 1, 1).unwrap();
    let decode = |numbers: &[i64]| {
        let value = Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect());
        call.decode(&value)
    };
    let reading = Reading {
        used: 3,
        remaining: 2,
        wait_us: 7,
    };
    assert_eq!(decode(&[9, 3, 7, -1]).unwrap(), [Some(reading), None]);
    assert_eq!(decode(&[9, -2, 3, 7]).unwrap(), [None, Some(reading)]);
    for bad in [
        [].as_slice(),
        &[-9, 3, 7, -1],
        &[9, 3, 7],
        &[9, 3, 7, -3],
        &[9, 3, -7, -1],
        &[9, 3, 7, 3],
        &[9, -1, -1, 0],
        &[9, i64::MIN, 7, -1],
    ] {
        decode(bad).unwrap_err();
    }
    for value in [Value::Nil, Value::Okay, Value::Array(vec![Value::Nil])] {
        call.decode(&value).unwrap_err();
    }
    let mut random = Random::new(8);
    for _ in 0..20_000 {
        let numbers: Vec<i64> = (0..random.below(7))
            .map(|_| random.next() as i64 >> random.below(64))
            .collect();
        let _ = decode(&numbers); // any result, but no panic
    }
}
