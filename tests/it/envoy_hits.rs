//! Through a real Envoy: requests that count for nothing, for several hits, backwards, or after the response; and limits
//! that come with the request.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::envoy::{Config, Envoy};
use crate::support::http::Response;
use crate::support::service::Service;
use crate::support::{eventually, policies};

/// A tree of one key, with these further keys in its limit.
fn policy(limit: &str) -> String {
    format!("domain: shop\ndescriptors:\n- {{key: user, rate_limit: {{unit: hour, {limit}}}}}\n")
}

fn user() -> Value {
    json!([{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }])
}

/// One descriptor with its own number of hits.
fn hits(addend: Value) -> Value {
    json!([{ "actions": user(), "hits_addend": addend }])
}

/// `/peek` asks with 0 hits, `/refund/<n>` gives n back, `/hits` charges what the header `x-hits` says, all else one hit.
fn envoy(service: &Service) -> Envoy {
    Config::new("shop", &[service.grpc_port()])
        .metered_route("/peek", hits(json!({ "number": 0 })))
        .metered_route(
            "/refund",
            hits(json!({ "format": "%REQ(x-hits)%", "is_negative_hits": true })),
        )
        .metered_route("/hits", hits(json!({ "format": "%REQ(x-hits)%" })))
        .metered_route("/", json!([{ "actions": user() }]))
        .start()
}

/// Asks as `alice`; the header `x-hits` is only used by some routes.
fn ask(envoy: &Envoy, path: &str, hits: u64) -> Response {
    let hits = hits.to_string();
    envoy
        .connect()
        .get(path, &[("x-user", "alice"), ("x-hits", &hits)])
        .expect("no answer")
}

/// Status and what is left.
fn outcome(envoy: &Envoy, path: &str, hits: u64) -> (u16, u64) {
    let response = ask(envoy, path, hits);
    (response.status, response.number("x-ratelimit-remaining"))
}

#[test]
fn zero_hits_never_charge_and_are_denied_only_above_the_limit() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 3"))]);
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    for _ in 0..10 {
        assert_eq!(outcome(&envoy, "/peek", 0), (200, 3));
    }
    for left in [2, 1, 0] {
        assert_eq!(outcome(&envoy, "/", 0), (200, left));
    }
    // At the limit, but not above.
    assert_eq!(outcome(&envoy, "/peek", 0), (200, 0));
    assert_eq!(outcome(&envoy, "/", 0), (429, 0));
    assert_eq!(
        outcome(&envoy, "/peek", 0),
        (200, 0),
        "the denied request must not have been charged"
    );
    // An explicit number of hits is a measured cost: it is booked although it does not fit.
    assert_eq!(outcome(&envoy, "/hits", 1), (429, 0));
    assert_eq!(outcome(&envoy, "/peek", 0), (429, 0));
}

#[test]
fn explicit_hits_are_recorded_in_full() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 12"))]);
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    assert_eq!(outcome(&envoy, "/hits", 5), (200, 7));
    assert_eq!(outcome(&envoy, "/hits", 5), (200, 2));
    assert_eq!(outcome(&envoy, "/hits", 5), (429, 0));
    assert_eq!(outcome(&envoy, "/peek", 0), (429, 0));
    // 15 are on the books: three given back are not enough for one more, four are.
    assert_eq!(ask(&envoy, "/refund", 3).status, 200);
    assert_eq!(outcome(&envoy, "/", 0), (429, 0));
    assert_eq!(ask(&envoy, "/refund", 1).status, 200);
    assert_eq!(outcome(&envoy, "/", 0), (200, 0));
}

#[test]
fn a_price_asked_in_advance_is_charged_only_if_it_fits() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 12, charge: admitted"))]);
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    assert_eq!(outcome(&envoy, "/hits", 5), (200, 7));
    assert_eq!(outcome(&envoy, "/hits", 5), (200, 2));
    assert_eq!(outcome(&envoy, "/hits", 5).0, 429);
    assert_eq!(outcome(&envoy, "/hits", 2), (200, 0));
    assert_eq!(outcome(&envoy, "/", 0).0, 429);
}

#[test]
fn hits_of_the_whole_request_are_charged_only_if_they_fit() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 12"))]);
    let service = Service::start(policies.path(), &[]);
    // The number for the request, not for one descriptor, comes from Envoy's filter state.
    let weigh = json!({ "name": "weigh", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [{
            "object_key": "envoy.ratelimit.hits_addend",
            "format_string": { "text_format_source": { "inline_string": "%REQ(x-hits)%" } },
        }],
    }});
    let envoy = Config::new("shop", &[service.grpc_port()])
        .filter(weigh)
        .route("/", json!([{ "actions": user() }]))
        .start();
    assert_eq!(outcome(&envoy, "/", 5), (200, 7));
    assert_eq!(outcome(&envoy, "/", 5), (200, 2));
    assert_eq!(outcome(&envoy, "/", 5).0, 429);
    assert_eq!(outcome(&envoy, "/", 2), (200, 0));
}

#[test]
fn negative_hits_give_back_and_never_below_nothing() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 3"))]);
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    for _ in 0..3 {
        assert_eq!(ask(&envoy, "/", 0).status, 200);
    }
    assert_eq!(ask(&envoy, "/", 0).status, 429);
    assert_eq!(ask(&envoy, "/refund", 2).status, 200);
    assert_eq!(outcome(&envoy, "/", 0), (200, 1));
    assert_eq!(outcome(&envoy, "/", 0), (200, 0));
    assert_eq!(outcome(&envoy, "/", 0), (429, 0));
    // More than was ever taken: the counter is empty, and not in credit.
    assert_eq!(ask(&envoy, "/refund", 1_000_000_000).status, 200);
    assert_eq!(outcome(&envoy, "/peek", 0), (200, 3));
}

#[test]
fn limits_from_dynamic_metadata_replace_the_configured_one() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 1"))]);
    let service = Service::start(policies.path(), &[]);
    let set = json!({ "name": "set", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
        "metadata": [{ "metadata_namespace": "plans", "value": {
            "gold": { "requests_per_unit": 4, "unit": "HOUR" },
            "gold_day": { "requests_per_unit": 9, "unit": "DAY" },
            "gold_more": { "requests_per_unit": 6, "unit": "HOUR" },
            "blocked": { "requests_per_unit": 0, "unit": "HOUR" },
            "broken": { "requests_per_unit": "4", "unit": "hour" },
        }}],
    }});
    let from = |plan: &str| {
        json!([{ "actions": user(), "limit": { "dynamic_metadata": { "metadata_key": {
            "key": "plans", "path": [{ "key": plan }],
        }}}}])
    };
    let envoy = Config::new("shop", &[service.grpc_port()])
        .filter(set)
        .route("/gold-day", from("gold_day"))
        .route("/gold-more", from("gold_more"))
        .route("/gold", from("gold"))
        .route("/blocked", from("blocked"))
        .route("/broken", from("broken"))
        .start();

    for left in [3, 2, 1, 0] {
        let answer = ask(&envoy, "/gold", 0);
        assert_eq!(
            (answer.status, answer.number("x-ratelimit-remaining")),
            (200, left)
        );
        assert_eq!(answer.header("x-ratelimit-limit"), Some("4, 4;w=3600"));
    }
    assert_eq!(outcome(&envoy, "/gold", 0), (429, 0));
    // A larger number counts on the same counter, so do not the hours on that of the day.
    assert_eq!(outcome(&envoy, "/gold-more", 0), (200, 1));
    let day = ask(&envoy, "/gold-day", 0);
    assert_eq!(day.header("x-ratelimit-limit"), Some("9, 9;w=86400"));
    assert_eq!((day.status, day.number("x-ratelimit-remaining")), (200, 8));
    assert_eq!(outcome(&envoy, "/blocked", 0), (429, 0));
    // Envoy drops what it can't read; the configured limit of one an hour holds, and the five above count against it.
    let broken = ask(&envoy, "/broken", 0);
    assert_eq!(broken.header("x-ratelimit-limit"), Some("1, 1;w=3600"));
    assert_eq!(broken.status, 429);
}

#[test]
fn the_cost_of_a_response_is_booked_when_it_is_done() {
    let policies = policies(&[("shop.yaml", &policy("requests_per_unit: 21"))]);
    let service = Service::start(policies.path(), &[]);
    let metered = json!([
        { "actions": user(), "hits_addend": { "number": 0 } },
        { "actions": user(), "hits_addend": { "format": "%RESP(x-cost)%" }, "apply_on_stream_done": true },
    ]);
    let envoy = Config::new("shop", &[service.grpc_port()])
        .metered_route("/peek", hits(json!({ "number": 0 })))
        .metered_route("/", metered)
        .start();
    let ask = |path| {
        envoy
            .connect()
            .get(path, &[("x-user", "alice"), ("x-cost", "10")])
            .expect("no answer")
    };

    // Envoy does not wait for the second call, so look until it has been counted.
    for left in [11, 1] {
        assert_eq!(ask("/").status, 200);
        eventually("the cost is booked", Duration::from_secs(5), || {
            ask("/peek").number("x-ratelimit-remaining") == left
        });
    }
    // One is left, and that is enough to begin: the third response overdraws the limit, and is booked in full.
    assert_eq!(ask("/").status, 200);
    eventually("the overdraft is booked", Duration::from_secs(5), || {
        ask("/peek").status == 429
    });
    let denied = ask("/");
    assert_eq!(denied.status, 429);
    assert!(
        (3_590..=3_600).contains(&denied.number("retry-after")),
        "{denied:?}"
    );
}
