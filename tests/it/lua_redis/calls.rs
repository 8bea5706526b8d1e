//! Calls and replies by themselves: bounds, large ones, malformed ones.

use ratekeeper::limiter::{Algorithm, Charge, Mode, Prior};
use ratekeeper::store::redis::call::{CHARGES_MAX, Call, REQUEST_CHARGES_MAX, Refused, Reply};
use redis::Value;

use super::{MINUTE, SHARED, YEAR, charge, consume, denied, everything, keys, limit, server};
use crate::limiter_oracle::Random;

/// More than one unpacking can hold: the rows come in pieces.
#[test]
fn a_request_of_thousands_of_charges_is_still_one() {
    let (_redis, mut connection) = server();
    let names: Vec<String> = (0..3_000).map(|n| format!("rk:many:{n}")).collect();
    let all = keys(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let charges = |last: u64| -> Vec<Charge> {
        let one = |n: usize| {
            let hits = if n == 2_999 { last } else { 1 };
            charge(
                n,
                limit(SHARED[n % 3], 1 + n as u32, 100 * YEAR),
                hits,
                Mode::Consume,
            )
        };
        (0..3_000).map(one).collect()
    };
    assert!(denied(&mut connection, &all, &charges(3_001)));
    assert!(everything(&mut connection).is_empty());
    assert!(!denied(&mut connection, &all, &charges(3_000)));
    assert_eq!(everything(&mut connection).len(), 3_000);
    assert!(denied(&mut connection, &all, &charges(1)));
}

#[test]
fn a_call_has_bounds() {
    let window = limit(Algorithm::SlidingWindow, 5, MINUTE);
    let one = keys(&["rk:one"]);
    let mut call = Call::new();
    assert!(call.has_room(REQUEST_CHARGES_MAX), "alone");
    for _ in 0..CHARGES_MAX {
        assert!(call.has_room(1));
        call.push(&one, &[consume(window, 1)], Prior::default(), 0)
            .unwrap();
    }
    assert!(!call.has_room(1));
    assert_eq!(
        (call.requests(), call.charges(), call.keys().len()),
        (CHARGES_MAX, CHARGES_MAX, 1)
    );
    let many = vec![consume(window, 1); REQUEST_CHARGES_MAX + 1];
    let refused = Refused::TooManyCharges(REQUEST_CHARGES_MAX + 1);
    assert_eq!(call.push(&one, &many, Prior::default(), 0), Err(refused));
    let local = limit(Algorithm::LocalBucket, 5, MINUTE);
    assert_eq!(
        call.push(&one, &[consume(local, 1)], Prior::default(), 0),
        Err(Refused::LocalScope)
    );
    assert_eq!(call.charges(), CHARGES_MAX);
    call.clear();
    assert!(call.is_empty());
}

#[test]
fn a_malformed_reply_is_an_error() {
    let window = limit(Algorithm::SlidingWindow, 5, MINUTE);
    let mut call = Call::new();
    call.push(&keys(&["rk:a"]), &[consume(window, 1)], Prior::default(), 0)
        .unwrap();
    call.push(
        &keys(&["rk:b"]),
        &[charge(0, window, 1, Mode::Peek)],
        Prior::default(),
        0,
    )
    .unwrap();
    let decode = |numbers: &[i64]| {
        let value = Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect());
        call.decode(&value, &mut Reply::default())
    };
    let good = [9, 0, 3, 0, -3, 7];
    decode(&good).unwrap();
    decode(&[9, 2, 3, 2]).unwrap();
    for length in 0..good.len() {
        decode(&good[..length]).unwrap_err();
    }
    for bad in [
        [-1, 0, 3, 0, -3, 7].as_slice(),
        &[9, 0, 3, 0, -3, -7],   // a wait below 0
        &[9, 0, 3, 0, -3, 7, 0], // too many numbers
        &[9, 0, 5, 0, -3, 7],    // over, but allowed
        &[9, 1, 3, 0, -3, 7],    // fits, but denied
        &[9, 0, 3, 0, 2],        // no wait
        &[9, 4, 3, 0, -3, 7],    // no such status
        &[9, 3, 0, 0, -3, 7],    // no such key
        &[9, 3, 3, 0, -3, 7],    // no such key
        &[9, 0, i64::MIN, 0, -3, 7],
    ] {
        decode(bad).unwrap_err();
    }
    for value in [
        Value::Nil,
        Value::Okay,
        Value::Array(vec![Value::Nil]),
        Value::SimpleString("9".to_owned()),
    ] {
        call.decode(&value, &mut Reply::default()).unwrap_err();
    }
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let numbers: Vec<i64> = (0..random.below(9))
            .map(|_| random.next() as i64 >> random.below(64))
            .collect();
        let _ = decode(&numbers); // any result, but no panic
    }
}
