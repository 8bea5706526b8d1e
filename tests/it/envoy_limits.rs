//! Through a real Envoy: a limit admits what it says and no more, and says so in the headers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::audit::{Admission, most_in_any_window};
use crate::support::envoy::Config;
use crate::support::http::{Connection, Response};
use crate::support::load::Load;
use crate::support::service::Service;
use crate::support::{policies, sleep_until_millisecond};

/// One descriptor, from the header `x-user`.
fn by_user() -> Value {
    json!([{ "actions": [{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }] }])
}

#[test]
fn exactly_the_limit_of_ten_times_as_many_requests_at_once_passes() {
    const LIMIT: usize = 50;
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n- {key: user, rate_limit: {unit: hour, requests_per_unit: 50}}\n",
    )]);
    let service = Service::start(policies.path(), &[]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();

    let mut connections: Vec<Connection> = (0..10 * LIMIT).map(|_| envoy.connect()).collect();
    for connection in &mut connections {
        connection.send("/", &[("x-user", "alice")]).expect("can't send");
    }
    let answers: Vec<Response> = connections
        .iter_mut()
        .map(|c| c.receive().expect("no answer"))
        .collect();

    let with_status = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with_status(200), with_status(429)), (LIMIT, 9 * LIMIT));
    // Each of the admitted saw another number of what is left: none was counted twice, none not at all.
    let admitted = answers.iter().filter(|answer| answer.status == 200);
    let mut remaining: Vec<u64> = admitted
        .map(|answer| answer.number("x-ratelimit-remaining"))
        .collect();
    remaining.sort_unstable();
    assert_eq!(remaining, (0..LIMIT as u64).collect::<Vec<_>>());
    // Another user is not concerned.
    assert_eq!(
        envoy
            .connect()
            .get("/", &[("x-user", "bob")])
            .expect("no answer")
            .status,
        200
    );
}

const PER_SECOND: usize = 20;

/// A steady load of several connections, from late in a second of the clock, where aligned windows do worst.
fn admissions_under_load(algorithm: &str, duration: Duration) -> Vec<Admission> {
    let policy = format!(
        "domain: shop\ndescriptors:\n- key: user\n  rate_limit:\n    algorithm: {algorithm}\n    unit: second\n    \
         requests_per_unit: {PER_SECOND}\n"
    );
    let policies = policies(&[("shop.yaml", &policy)]);
    let service = Service::start(policies.path(), &[]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();

    sleep_until_millisecond(800);
    let load = Load::start(
        envoy.http(),
        8,
        Duration::from_millis(1),
        "/",
        &[("x-user", "alice")],
    );
    std::thread::sleep(duration);
    let samples = load.finish();

    let failed = samples
        .iter()
        .find(|sample| !matches!(sample.status(), 200 | 429));
    assert!(failed.is_none(), "a request failed: {failed:?}");
    assert!(
        samples.len() > 10 * PER_SECOND,
        "the load was too light to show anything: {} requests",
        samples.len()
    );
    samples.iter().filter_map(|sample| sample.admission()).collect()
}

#[test]
fn no_rolling_second_holds_more_than_the_limit() {
    let admissions = admissions_under_load("sliding_window", Duration::from_millis(3_500));
    let most = most_in_any_window(&admissions, Duration::from_secs(1));
    assert!(most <= PER_SECOND, "{most} admissions in one second");
    // Strict, but not stingy: full at the start and again one, two and three seconds later; one of these may be late.
    assert!(
        admissions.len() >= 3 * PER_SECOND,
        "only {} admissions in 3.5 s",
        admissions.len()
    );
}

#[test]
fn a_fixed_window_admits_more_in_a_rolling_second() {
    // The counter-example: the same load and the same audit do see an excess where an algorithm allows one.
    let admissions = admissions_under_load("fixed_window", Duration::from_millis(1_500));
    let most = most_in_any_window(&admissions, Duration::from_secs(1));
    assert!(most > PER_SECOND, "only {most} admissions in one second");
}

#[test]
fn one_denying_limit_leaves_the_others_uncharged() {
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n- {key: user, rate_limit: {unit: hour, requests_per_unit: 2}}\n\
         - {key: path, rate_limit: {unit: hour, requests_per_unit: 10}}\n",
    )]);
    let service = Service::start(policies.path(), &[]);
    let path = json!({ "generic_key": { "descriptor_key": "path", "descriptor_value": "/cart" } });
    let user = json!({ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } });
    let envoy = Config::new("shop", &[service.grpc_port()])
        .metered_route(
            "/peek",
            json!([{ "actions": [path], "hits_addend": { "number": 0 } }]),
        )
        // The path comes first: it has been evaluated, and fits, when the user's limit denies.
        .route("/", json!([{ "actions": [path] }, { "actions": [user] }]))
        .start();
    let mut connection = envoy.connect();
    let mut get = |path: &str| connection.get(path, &[("x-user", "alice")]).expect("no answer");

    let statuses: Vec<u16> = (0..5).map(|_| get("/").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
    let peek = get("/peek");
    assert_eq!((peek.status, peek.number("x-ratelimit-remaining")), (200, 8));
}

#[test]
fn a_denied_client_may_go_on_after_retry_after() {
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n- {key: user, rate_limit: {unit: second, unit_multiplier: 2, requests_per_unit: 1}}\n",
    )]);
    let service = Service::start(policies.path(), &[]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();
    let mut connection = envoy.connect();
    let mut get = || connection.get("/", &[("x-user", "alice")]).expect("no answer");

    assert_eq!(get().status, 200);
    let denied = get();
    assert_eq!(denied.status, 429);
    let wait = denied.number("retry-after");
    assert!((1..=2).contains(&wait), "retry-after: {wait}");
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(get().status, 200);
}
