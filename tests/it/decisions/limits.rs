//! The numbers of a status: what is left, and when.

use ratekeeper::limiter::{Algorithm, Charge, Limit, Mode};
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Batch, WhenFull};

use super::*;

/// Answers of one limit over time: (microseconds since the start, hits, over, left, reset).
fn check_times(limit: &str, table: &[(u64, &str, bool, u32, u64)]) {
    let policy = format!("domain: d\ndescriptors: [{{key: k, rate_limit: {{{limit}}}}}]");
    let service = Deciding::new(&[&policy]);
    let start = service.clock.now_us();
    for &(at, hits, over, left, reset) in table {
        service.clock.set(start + at);
        let answer = decide(&service, &asks(&[&format!("k{hits}")]));
        assert_eq!(
            (row(&answer), resets(&answer)),
            ((over, vec![(over, left)]), vec![Some(reset)]),
            "at {at}"
        );
    }
}

#[test]
fn a_sliding_windows_reset_is_exact_and_rounded_up() {
    check_times(
        "unit: minute, requests_per_unit: 3",
        &[
            (0, "", OK, 2, 60),
            (1, "", OK, 1, 60),
            (10 * SECOND, "", OK, 0, 60),
            (10 * SECOND, "", OVER, 0, 50),
            (10 * SECOND + 1, "", OVER, 0, 50),
            (11 * SECOND, "", OVER, 0, 49),
            // A look asks when the counter will be empty, a denied hit when it would fit.
            (11 * SECOND, "*0", OK, 0, 59),
            (60 * SECOND - 1, "", OVER, 0, 1),
            (60 * SECOND, "", OK, 0, 60),
            (60 * SECOND, "", OVER, 0, 1),
            (60 * SECOND + 1, "", OK, 0, 60),
            (60 * SECOND + 1, "", OVER, 0, 10),
            (200 * SECOND, "*0", OK, 3, 0),
        ],
    );
    check_times(
        "unit: minute, requests_per_unit: 10, charge: admitted",
        &[
            (0, "*4", OK, 6, 60),
            (5 * SECOND, "*4", OK, 2, 60),
            (10 * SECOND, "*3", OVER, 2, 50),
            (10 * SECOND, "*7", OVER, 2, 55),
            (10 * SECOND, "*11", OVER, 2, 60),
            (10 * SECOND, "*2", OK, 0, 60),
        ],
    );
}

#[test]
fn a_sliding_window_of_ticks_errs_to_the_safe_side() {
    // 1,000 hits in 125 s stand in ticks of one second, and a hit leaves when the end of its tick does.
    let policy = "domain: d
descriptors: [{key: k, rate_limit: {unit: second, unit_multiplier: 125, requests_per_unit: 1000, charge: admitted}}]";
    let service = Deciding::new(&[policy]);
    service
        .clock
        .set(service.clock.now_us().next_multiple_of(SECOND) + SECOND / 2);
    let answer = decide(&service, &asks(&["k*1000"]));
    assert_eq!(
        (row(&answer), resets(&answer)),
        ((false, vec![(OK, 0)]), vec![Some(125)])
    );
    let limit = answer.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!(
        (limit.requests_per_unit, limit.unit_multiplier),
        (1_000, Some(125))
    );
    advance(&service, 125 * SECOND);
    let answer = decide(&service, &asks(&["k*1"]));
    assert_eq!(
        (answer.denied, resets(&answer)),
        (true, vec![Some(1)]),
        "the tick ends half a second later"
    );
    advance(&service, SECOND / 2);
    assert!(!decide(&service, &asks(&["k*1"])).denied);
}

#[test]
fn a_fixed_windows_reset_is_its_end() {
    check_times(
        "unit: hour, requests_per_unit: 2, algorithm: fixed_window",
        &[
            (0, "*0", OK, 2, window_left(0)),
            (SECOND / 2, "", OK, 1, window_left(SECOND / 2)),
            (SECOND, "", OK, 0, window_left(SECOND)),
            (SECOND, "", OVER, 0, window_left(SECOND)),
        ],
    );
}

/// Seconds, rounded up, to the end of the hour that the test starts in.
fn window_left(at: u64) -> u64 {
    let now = crate::limiter_oracle::NOW + at;
    ((now / HOUR + 1) * HOUR - now).div_ceil(SECOND)
}

#[test]
fn a_token_bucket_fills_steadily() {
    check_times(
        "unit: minute, requests_per_unit: 6, algorithm: token_bucket, burst: 2",
        &[
            (0, "", OK, 1, 10),
            (0, "", OK, 0, 20),
            (0, "", OVER, 0, 10),
            (10 * SECOND - 1, "", OVER, 0, 1),
            (10 * SECOND, "", OK, 0, 20),
            (30 * SECOND, "*0", OK, 2, 0),
            (30 * SECOND, "*4", OVER, 0, 60),
            (30 * SECOND, "*0", OVER, 0, 20),
        ],
    );
}

#[test]
fn a_shared_threshold_counts_all_values_of_its_pattern_together() {
    let service = Deciding::new(&["
domain: d
descriptors:
  - {key: file, value: 'img/*', share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 2}}
  - {key: file, value: 'doc/*', rate_limit: {unit: hour, requests_per_unit: 2}}
  - key: tenant
    value: 't*'
    share_threshold: true
    descriptors: [{key: user, rate_limit: {unit: hour, requests_per_unit: 1}}]
"]);
    let denied = |entries: &[&str]| decide(&service, &[descriptor(entries)]).denied;
    assert!(!denied(&["file=img/a"]) && !denied(&["file=img/b"]) && denied(&["file=img/c"]));
    assert!(
        !denied(&["file=doc/a"])
            && !denied(&["file=doc/b"])
            && !denied(&["file=doc/a"])
            && denied(&["file=doc/a"])
    );
    assert!(!denied(&["tenant=t1", "user=u"]) && denied(&["tenant=t2", "user=u"]));
    assert!(
        !denied(&["tenant=t2", "user=v"]),
        "the user's level is not shared"
    );
    // Both in one request: the second sees the first.
    let service = Deciding::new(&["
domain: d
descriptors: [{key: file, value: '*', share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 3}}]"]);
    let both = [descriptor(&["file=a"]), descriptor(&["file=b"])];
    assert_eq!(row(&decide(&service, &both)), (false, vec![(OK, 2), (OK, 1)]));
    assert_eq!(row(&decide(&service, &both)), (true, vec![(OK, 1), (OVER, 0)]));
}

/// The reference server's key of a counter is the request's own key and the pattern: a pattern in the key shares values, not
/// keys.
#[test]
fn a_shared_threshold_on_a_key_pattern_keeps_the_keys_apart() {
    let service = Deciding::new(&["
domain: d
descriptors: [{key: 'user*', share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 1}}]"]);
    let denied = |entry: &str| decide(&service, &[descriptor(&[entry])]).denied;
    assert!(
        !denied("user1=a") && denied("user1=b"),
        "values of one key are counted together"
    );
    assert!(!denied("user2=a"), "another key is counted apart");
}

/// A counter that a request has just made must outlive the making of the request's next one.
#[test]
fn new_counters_of_one_request_are_all_kept() {
    let store = MemoryStore::new(64, WhenFull::Evict);
    let now = crate::limiter_oracle::NOW;
    let limit = Limit::new(Algorithm::FixedWindow, 5, HOUR, None);
    let ask = |names: &[String], now: u64| {
        let mut batch = Batch {
            now,
            ..Batch::default()
        };
        for name in names {
            let counter = batch.keys.add(0, |out| out.push_str(name));
            let (mode, shadow, quota) = (Mode::Consume, false, false);
            batch.charges.push(Charge {
                counter,
                limit,
                hits: 1,
                mode,
                shadow,
                quota,
            });
        }
        store.decide_now(&mut batch);
        batch
            .verdicts
            .iter()
            .map(|verdict| verdict.remaining)
            .collect::<Vec<_>>()
    };
    let names: Vec<String> = (0..20).map(|name| format!("k{name}")).collect();
    // New ones, ones that exist, and ones that have run out meanwhile together with new ones.
    assert_eq!(ask(&names[..10], now), [4; 10]);
    assert_eq!(ask(&names[..10], now), [3; 10]);
    assert_eq!(ask(&names, now + HOUR), [4; 20]);
    assert_eq!(ask(&names, now + HOUR), [3; 20]);
}
