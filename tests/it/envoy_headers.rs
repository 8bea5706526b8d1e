//! Through a real Envoy: what the answer tells a client, in headers, body, gRPC status and metadata.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::envoy::{Config, Envoy};
use crate::support::http::{self, Response};
use crate::support::service::Service;
use crate::support::{eventually, policies};

fn by_user() -> Value {
    json!([{ "actions": [{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }] }])
}

/// Two requests in ten minutes for each user.
fn two_in_ten_minutes() -> TempDir {
    policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n- key: user\n  rate_limit: {unit: minute, unit_multiplier: 10, requests_per_unit: 2}\n",
    )])
}

fn as_alice(envoy: &Envoy) -> Response {
    envoy
        .connect()
        .get("/", &[("x-user", "alice")])
        .expect("no answer")
}

#[test]
fn envoys_own_headers_are_right_when_allowed_and_when_denied() {
    let policies = two_in_ten_minutes();
    let service = Service::start(policies.path(), &[]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();

    let first = as_alice(&envoy);
    assert_eq!(first.status, 200);
    // Ten minutes are a unit of one minute and a multiplier.
    assert_eq!(first.header("x-ratelimit-limit"), Some("2, 2;w=600"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("1"));
    // An allowed request is told when the counter will be empty: the whole window after its own charge.
    assert_eq!(first.header("x-ratelimit-reset"), Some("600"));
    assert_eq!(first.header("retry-after"), None);
    assert_eq!(first.header("ratelimit-limit"), None);

    let second = as_alice(&envoy);
    assert_eq!(
        (second.status, second.header("x-ratelimit-remaining")),
        (200, Some("0"))
    );

    let denied = as_alice(&envoy);
    assert_eq!(denied.status, 429);
    assert_eq!(denied.header("x-ratelimit-limit"), Some("2, 2;w=600"));
    assert_eq!(denied.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(denied.header("x-envoy-ratelimited"), Some("true"));
    // A denied one is told when it would fit: when the first request leaves the window, some milliseconds less than 600 s.
    assert!(
        (590..=600).contains(&denied.number("x-ratelimit-reset")),
        "{denied:?}"
    );
    assert_eq!(denied.header("retry-after"), denied.header("x-ratelimit-reset"));
    assert_eq!(denied.body, "");
}

#[test]
fn a_name_appears_and_the_tightest_of_several_limits_leads() {
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n\
         - {key: user, rate_limit: {name: per-user, unit: hour, requests_per_unit: 3}}\n\
         - {key: path, rate_limit: {unit: day, requests_per_unit: 1000}}\n",
    )]);
    let service = Service::start(policies.path(), &[]);
    let limits = json!([
        { "actions": [{ "generic_key": { "descriptor_key": "path", "descriptor_value": "/" } }] },
        { "actions": [{ "generic_key": { "descriptor_key": "unknown", "descriptor_value": "x" } }] },
        { "actions": [{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }] },
    ]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", limits)
        .start();
    let answer = as_alice(&envoy);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("x-ratelimit-limit"),
        Some("3, 1000;w=86400, 3;w=3600;name=\"per-user\"")
    );
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("2"));
}

#[test]
fn the_service_adds_headers_and_a_body_of_its_own() {
    let policies = two_in_ten_minutes();
    let service = Service::start(
        policies.path(),
        &[
            ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
            ("RATEKEEPER_RETRY_AFTER", "true"),
            ("RATEKEEPER_DENIED_BODY", "slow down"),
        ],
    );
    // As with an Envoy before 1.40, or one whose operator did not switch its own headers on.
    let envoy = Config::new("shop", &[service.grpc_port()])
        .option("enable_x_ratelimit_headers", json!("OFF"))
        .option("enable_retry_after_header", json!(false))
        .route("/", by_user())
        .start();

    let first = as_alice(&envoy);
    assert_eq!((first.status, first.body.as_str()), (200, "backend"));
    assert_eq!(first.header("ratelimit-limit"), Some("2"));
    assert_eq!(first.header("ratelimit-remaining"), Some("1"));
    assert_eq!(first.header("ratelimit-reset"), Some("600"));
    assert_eq!(first.header("retry-after"), None);
    assert_eq!(first.header("x-ratelimit-limit"), None);

    as_alice(&envoy);
    let denied = as_alice(&envoy);
    assert_eq!((denied.status, denied.body.as_str()), (429, "slow down"));
    assert_eq!(denied.header("ratelimit-remaining"), Some("0"));
    assert!(
        (590..=600).contains(&denied.number("ratelimit-reset")),
        "{denied:?}"
    );
    assert_eq!(denied.header("retry-after"), denied.header("ratelimit-reset"));
}

#[test]
fn envoy_does_not_double_the_services_retry_after() {
    let policies = two_in_ten_minutes();
    let service = Service::start(policies.path(), &[("RATEKEEPER_RETRY_AFTER", "true")]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();
    as_alice(&envoy);
    as_alice(&envoy);
    let denied = as_alice(&envoy);
    assert_eq!(denied.status, 429);
    // `number` panics if the header is there twice.
    assert!((590..=600).contains(&denied.number("retry-after")), "{denied:?}");
}

#[test]
fn a_grpc_client_gets_a_grpc_status() {
    let policies = two_in_ten_minutes();
    let service = Service::start(policies.path(), &[("RATEKEEPER_DENIED_BODY", "slow down")]);
    let ask = |envoy: &Envoy| {
        let headers = [("x-user", "alice"), ("content-type", "application/grpc")];
        envoy.connect().get("/", &headers).expect("no answer")
    };

    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", by_user())
        .start();
    as_alice(&envoy);
    as_alice(&envoy);
    let denied = ask(&envoy);
    // UNAVAILABLE, in the way of gRPC: HTTP's 200 and the verdict in the trailers, here the only headers.
    assert_eq!((denied.status, denied.header("grpc-status")), (200, Some("14")));
    assert_eq!(denied.header("grpc-message"), Some("slow down"));

    let exhausted = Config::new("shop", &[service.grpc_port()])
        .option("rate_limited_as_resource_exhausted", json!(true))
        .route("/", by_user())
        .start();
    assert_eq!(ask(&exhausted).header("grpc-status"), Some("8"));
}

#[test]
fn connections_are_limited_by_the_network_filter() {
    let policies = policies(&[(
        "tcp.yaml",
        "domain: tcp\ndescriptors:\n- {key: listener, value: public, rate_limit: {unit: hour, requests_per_unit: 3}}\n",
    )]);
    let service = Service::start(policies.path(), &[]);
    let envoy = Config::new("tcp", &[service.grpc_port()])
        .route("/", json!([]))
        .connection_descriptors(json!([{ "entries": [{ "key": "listener", "value": "public" }] }]))
        .start();
    let tcp = envoy.tcp();
    let served: Vec<bool> = (0..6)
        .map(|_| http::get(tcp, "/", &[]).is_ok_and(|r| r.status == 200))
        .collect();
    assert_eq!(served, [true, true, true, false, false, false]);
    assert_eq!(envoy.stat("ratelimit.tcp.over_limit"), 3);
    assert_eq!(envoy.stat("ratelimit.tcp.error"), 0);
}

#[test]
fn dynamic_metadata_reaches_envoy() {
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n\
         - {key: user, rate_limit: {unit: hour, requests_per_unit: 1}, metadata: {plan: gold, quota: {seats: 5}}}\n\
         - {key: path, rate_limit: {unit: hour, requests_per_unit: 100}, metadata: {area: cart}}\n",
    )]);
    let service = Service::start(policies.path(), &[("RESPONSE_DYNAMIC_METADATA", "true")]);
    let limits = json!([
        { "actions": [{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }] },
        { "actions": [{ "generic_key": { "descriptor_key": "path", "descriptor_value": "/cart" } }] },
    ]);
    let metadata = |path: &str| format!("%DYNAMIC_METADATA(envoy.filters.http.ratelimit:{path})%");
    let line = format!(
        "rl %RESPONSE_CODE% {} {} {} {}",
        metadata("domain"),
        metadata("metadata:plan"),
        metadata("metadata:area"),
        metadata("descriptors")
    );
    let envoy = Config::new("shop", &[service.grpc_port()])
        .route("/", limits)
        .response_header("x-plan", &metadata("metadata:plan"))
        .response_header("x-seats", &metadata("metadata:quota:seats"))
        .access_log(&line)
        .start();

    let allowed = as_alice(&envoy);
    assert_eq!(
        (
            allowed.status,
            allowed.header("x-plan"),
            allowed.header("x-seats")
        ),
        (200, Some("gold"), Some("5"))
    );
    assert_eq!(as_alice(&envoy).status, 429);

    let entries = r#"[{"entries":["user=alice"]},{"entries":["path=/cart"]}]"#;
    let mut lines = Vec::new();
    // Envoy writes its log every second at the latest.
    eventually("two lines of access log", Duration::from_secs(15), || {
        lines = envoy
            .output()
            .lines()
            .filter(|line| line.starts_with("rl "))
            .map(str::to_owned)
            .collect();
        lines.len() == 2
    });
    assert_eq!(lines[0], format!("rl 200 shop gold cart {entries}"));
    // Only what passed gives its metadata.
    assert_eq!(lines[1], format!("rl 429 shop - cart {entries}"));
}
