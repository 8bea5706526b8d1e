//! The rules of a request, through the whole decider, in the mode that is the default: sliding windows, and a denied request
//! costs nothing.

mod answers;
mod limits;
mod outage;
mod overrides;
mod policies;

use ratekeeper::decision::{Answer, Options};

use crate::asking::{Ask, advance, ask, descriptor, metric};
use crate::deciding::{Deciding, options};
use crate::limiter_oracle::SECOND;

const HOUR: u64 = 3_600 * SECOND;

/// Limits of an hour, each of them the number that its name ends with.
const POLICY: &str = "
domain: d
descriptors:
  - {key: one, rate_limit: {unit: hour, requests_per_unit: 1}}
  - {key: two, rate_limit: {unit: hour, requests_per_unit: 2}}
  - {key: ten, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: zero, rate_limit: {unit: hour, requests_per_unit: 0}}
  - {key: priced, rate_limit: {unit: hour, requests_per_unit: 10, charge: admitted}}
  - {key: counted, rate_limit: {unit: hour, requests_per_unit: 2, charge: always}}
  - {key: shadow1, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}
  - {key: quota1, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}
  - {key: quota2, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 2}}
  - {key: shadowquota1, shadow_mode: true, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}
  - {key: local2, rate_limit: {unit: hour, requests_per_unit: 2, scope: local}}
  - {key: localquota1, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 1, scope: local}}
  - {key: open, rate_limit: {unlimited: true}}
";

/// What a row of a table says: whether the request is denied, and of each descriptor whether it is over and what is left.
type Row = (bool, Vec<(bool, u32)>);

fn row(answer: &Answer) -> Row {
    (
        answer.denied,
        answer
            .statuses
            .iter()
            .map(|status| (status.over, status.remaining))
            .collect(),
    )
}

fn resets(answer: &Answer) -> Vec<Option<u64>> {
    answer.statuses.iter().map(|status| status.reset_s).collect()
}

fn decide(service: &Deciding, asks: &[Ask]) -> Answer {
    ask(service, "d", 0, asks).unwrap()
}

/// One hit, or those of `name*hits`, of each limit.
fn asks(names: &[&str]) -> Vec<Ask> {
    let one = |name: &&str| match name.split_once('*') {
        Some((name, hits)) => descriptor(&[name]).hits(hits.parse().unwrap()),
        None => descriptor(&[name]),
    };
    names.iter().map(one).collect()
}

/// What is left of a limit, by a look at it.
fn left(service: &Deciding, name: &str) -> u32 {
    decide(service, &[descriptor(&[name]).hits(0)]).statuses[0].remaining
}

/// A request's limits and its row.
type Step<'a> = (&'a [&'a str], bool, &'a [(bool, u32)]);

/// Asks a new service these requests one after the other, and holds each answer against its row.
fn check(options: Options, table: &[Step<'_>]) -> Deciding {
    let service = Deciding::with(&[POLICY], options);
    for (at, (names, denied, statuses)) in table.iter().enumerate() {
        let answer = decide(&service, &asks(names));
        assert_eq!(
            row(&answer),
            (*denied, statuses.to_vec()),
            "request {at}: {names:?}"
        );
    }
    service
}

const OK: bool = false;
const OVER: bool = true;

#[test]
fn bug_10_multi_limit_partial_charge() {
    for order in [["ten", "one"], ["one", "ten"]] {
        let service = Deciding::new(&[POLICY]);
        assert!(!decide(&service, &asks(&order)).denied);
        for _ in 0..20 {
            assert!(decide(&service, &asks(&order)).denied);
        }
        assert_eq!(
            left(&service, "ten"),
            9,
            "a request that `one` denied was charged to `ten`"
        );
        advance(&service, HOUR - 1);
        assert!(decide(&service, &asks(&order)).denied);
        advance(&service, 1);
        assert!(
            !decide(&service, &asks(&order)).denied,
            "denied requests prolonged the window"
        );
    }
}

#[test]
fn a_denied_request_shows_what_would_have_fit() {
    let service = check(
        options(),
        &[
            // Each sees the charges of the same request before it, and shows the counter after its own.
            (&["priced*3", "priced*4"], false, &[(OK, 7), (OK, 3)]),
            // Denied by the last one: the others stay OK and show the counter without their own hits.
            (
                &["priced*1", "priced*2", "zero"],
                true,
                &[(OK, 3), (OK, 2), (OVER, 0)],
            ),
            // What does not fit behind what does is over; what fits behind that still sees only the fitting ones.
            (
                &["priced*2", "priced*2", "priced*1"],
                true,
                &[(OK, 3), (OVER, 1), (OK, 1)],
            ),
            (
                &["priced*3", "open", "two"],
                false,
                &[(OK, 0), (OK, u32::MAX), (OK, 1)],
            ),
        ],
    );
    let answer = decide(&service, &asks(&["priced*1", "two", "none"]));
    assert_eq!(row(&answer), (true, vec![(OVER, 0), (OK, 1), (OK, 0)]));
    assert_eq!(resets(&answer), [Some(3_600), Some(3_600), None]);
    assert!(answer.statuses[2].current_limit.is_none(), "nothing matches it");
    let answer = decide(&service, &asks(&["priced*11", "ten"]));
    assert_eq!(
        resets(&answer),
        [Some(3_600), Some(0)],
        "can never fit: the window; an empty counter: none"
    );
}

#[test]
fn a_shadow_limit_is_charged_as_if_enforced_and_stops_nothing() {
    let service = check(
        options(),
        &[
            (&["shadow1", "ten"], false, &[(OK, 0), (OK, 9)]),
            (&["shadow1", "ten"], false, &[(OK, 0), (OK, 8)]),
            (&["shadow1", "zero"], true, &[(OK, 0), (OVER, 0)]),
        ],
    );
    advance(&service, HOUR);
    // Only when the whole request is allowed.
    assert!(decide(&service, &asks(&["shadow1", "zero"])).denied);
    assert_eq!(left(&service, "shadow1"), 1);
}

#[test]
fn quota_limits_deny_when_all_of_them_are_over() {
    let service = check(
        options(),
        &[
            (&["quota1", "quota2"], false, &[(OK, 0), (OK, 1)]),
            (
                &["quota1", "quota2", "ten"],
                false,
                &[(OVER, 0), (OK, 0), (OK, 9)],
            ),
            (
                &["quota1", "quota2", "ten"],
                true,
                &[(OVER, 0), (OVER, 0), (OK, 9)],
            ),
            (&["quota1"], true, &[(OVER, 0)]),
            // A limit that is not matched is none, and a shadow limit's quota is never over.
            (&["quota1", "none"], true, &[(OVER, 0), (OK, 0)]),
            (&["shadowquota1"], false, &[(OK, 0)]),
            (&["shadowquota1"], false, &[(OK, 0)]),
            (&["shadowquota1", "quota1"], false, &[(OK, 0), (OVER, 0)]),
        ],
    );
    assert_eq!(left(&service, "ten"), 9);
    check(
        options(),
        &[
            // An enforced limit denies alone, and then no quota is used.
            (&["quota1", "zero"], true, &[(OK, 1), (OVER, 0)]),
            (&["quota1", "two"], false, &[(OK, 0), (OK, 1)]),
        ],
    );
}

#[test]
fn the_global_shadow_mode_denies_nothing_and_says_what_it_would() {
    let shadow = Options {
        shadow_mode: true,
        ..options()
    };
    let service = check(
        shadow.clone(),
        &[
            (&["one", "ten"], false, &[(OK, 0), (OK, 9)]),
            (&["one", "ten"], false, &[(OVER, 0), (OK, 8)]),
            (&["one", "shadow1"], false, &[(OVER, 0), (OK, 0)]),
            (&["shadow1"], false, &[(OK, 0)]),
        ],
    );
    assert_eq!(metric(&service, "ratekeeper_global_shadow_mode_total", ""), 2);
    let service = check(
        shadow,
        &[
            (&["quota1", "quota2"], false, &[(OK, 0), (OK, 1)]),
            // One quota limit of two would not have denied the request.
            (&["quota1", "quota2"], false, &[(OVER, 0), (OK, 0)]),
        ],
    );
    assert_eq!(metric(&service, "ratekeeper_global_shadow_mode_total", ""), 0);
}

#[test]
fn the_global_quota_mode_makes_every_limit_a_quota() {
    check(
        Options {
            quota_mode: true,
            ..options()
        },
        &[
            (&["one", "two"], false, &[(OK, 0), (OK, 1)]),
            (&["one", "two"], false, &[(OVER, 0), (OK, 0)]),
            (&["one", "two"], true, &[(OVER, 0), (OVER, 0)]),
            // What matches nothing, or nothing that counts, does not let the request through.
            (
                &["one", "none", "open"],
                true,
                &[(OVER, 0), (OK, 0), (OK, u32::MAX)],
            ),
        ],
    );
}

#[test]
fn local_and_global_limits_are_denied_together() {
    let service = check(
        options(),
        &[
            (&["local2", "one"], false, &[(OK, 1), (OK, 0)]),
            // The store denies: the bucket gets its hit back and shows it.
            (&["local2", "one"], true, &[(OK, 1), (OVER, 0)]),
            (&["one", "local2"], true, &[(OVER, 0), (OK, 1)]),
            (&["local2", "ten"], false, &[(OK, 0), (OK, 9)]),
            // The bucket denies: the store is not charged.
            (&["local2", "ten"], true, &[(OVER, 0), (OK, 9)]),
            (&["ten", "local2"], true, &[(OK, 9), (OVER, 0)]),
        ],
    );
    assert_eq!(left(&service, "ten"), 9);
    let answer = decide(&service, &asks(&["local2"]));
    assert_eq!(
        resets(&answer),
        [Some(1_800)],
        "one of two hits an hour comes back after half of it"
    );
    advance(&service, HOUR / 2);
    assert!(!decide(&service, &asks(&["local2"])).denied);
}

#[test]
fn quota_limits_of_both_scopes_are_one_set() {
    check(
        options(),
        &[
            (&["localquota1", "quota2"], false, &[(OK, 0), (OK, 1)]),
            (&["localquota1", "quota2"], false, &[(OVER, 0), (OK, 0)]),
            (&["localquota1", "quota2"], true, &[(OVER, 0), (OVER, 0)]),
            (&["localquota1"], true, &[(OVER, 0)]),
        ],
    );
    check(
        options(),
        &[
            (&["quota1", "localquota1"], false, &[(OK, 0), (OK, 0)]),
            (
                &["quota1", "localquota1", "local2"],
                true,
                &[(OVER, 0), (OVER, 0), (OK, 2)],
            ),
        ],
    );
    check(
        options(),
        &[
            (&["quota1"], false, &[(OK, 0)]),
            // The global quota is over, the local one has room: allowed, and charged to that one only.
            (&["quota1", "localquota1"], false, &[(OVER, 0), (OK, 0)]),
            (&["quota1", "localquota1"], true, &[(OVER, 0), (OVER, 0)]),
        ],
    );
}

#[test]
fn a_local_limit_records_and_peeks_like_any_other() {
    let service = check(
        options(),
        &[
            (&["local2*5"], true, &[(OVER, 0)]),
            (&["local2*0"], true, &[(OVER, 0)]),
        ],
    );
    assert!(!decide(&service, &[descriptor(&["local2"]).refund(4)]).denied);
    assert_eq!(left(&service, "local2"), 1);
}

#[test]
fn refunds_never_deny_and_only_later_requests_see_them() {
    let service = check(options(), &[(&["two", "two"], false, &[(OK, 1), (OK, 0)])]);
    let refund = |hits| descriptor(&["two"]).refund(hits);
    let answer = decide(&service, &[refund(1), descriptor(&["two"])]);
    assert_eq!(
        row(&answer),
        (true, vec![(OK, 1), (OVER, 0)]),
        "seen by its own request"
    );
    assert_eq!(
        row(&decide(&service, &asks(&["two"]))),
        (false, vec![(OK, 0)]),
        "lost with the denied request"
    );
    assert_eq!(
        row(&decide(&service, &[refund(100)])),
        (false, vec![(OK, 2)]),
        "the floor is 0"
    );
    assert_eq!(
        row(&decide(&service, &[refund(1)])),
        (false, vec![(OK, 2)]),
        "a credit beyond the limit"
    );
    assert_eq!(
        row(&decide(&service, &asks(&["two", "two", "two"]))).1[2],
        (OVER, 0)
    );
    // The request's own number is the refund's if it has none.
    let whole = Ask {
        refund: true,
        ..descriptor(&["ten"])
    };
    assert!(!decide(&service, &asks(&["ten*7"])).denied);
    assert_eq!(ask(&service, "d", 5, &[whole]).unwrap().statuses[0].remaining, 8);
}

#[test]
fn a_peek_writes_nothing_and_is_over_only_above_the_limit() {
    check(
        options(),
        &[
            (&["two*0"], false, &[(OK, 2)]),
            (&["two"], false, &[(OK, 1)]),
            (&["two"], false, &[(OK, 0)]),
            (&["two*0"], false, &[(OK, 0)]),
            (&["two"], true, &[(OVER, 0)]),
            (&["two*0"], false, &[(OK, 0)]),
            (&["two*1"], true, &[(OVER, 0)]),
            (&["two*0"], true, &[(OVER, 0)]),
            // A limit of 0 blocks hits, not a look.
            (&["zero*0"], false, &[(OK, 0)]),
            (&["zero"], true, &[(OVER, 0)]),
        ],
    );
    let service = Deciding::new(&[POLICY]);
    assert_eq!(
        ask(&service, "d", 0, &asks(&["two"])).unwrap().statuses[0].remaining,
        1,
        "0 of a request is 1"
    );
}

#[test]
fn explicit_hits_are_recorded_in_full_and_others_only_if_they_fit() {
    let service = check(
        options(),
        &[
            (&["ten*8"], false, &[(OK, 2)]),
            // A measured cost is booked whatever it makes of the counter.
            (&["ten*5"], true, &[(OVER, 0)]),
            (&["ten*0"], true, &[(OVER, 0)]),
            // Also in a request that something else denies.
            (&["two*1", "zero"], true, &[(OK, 1), (OVER, 0)]),
            (&["two*0"], false, &[(OK, 1)]),
        ],
    );
    let answer = ask(&service, "d", 3, &asks(&["priced"])).unwrap();
    assert_eq!(row(&answer), (false, vec![(OK, 7)]));
    let answer = ask(&service, "d", 3, &asks(&["priced*8"])).unwrap();
    assert_eq!(
        row(&answer),
        (true, vec![(OVER, 7)]),
        "`admitted`: a price asked in advance"
    );
    assert_eq!(left(&service, "priced"), 7);
    check(
        options(),
        &[
            // `always`: denied hits are on the counter, too.
            (&["counted", "zero"], true, &[(OK, 1), (OVER, 0)]),
            (&["counted"], false, &[(OK, 0)]),
            (&["counted"], true, &[(OVER, 0)]),
            (&["counted*0"], true, &[(OVER, 0)]),
        ],
    );
}
