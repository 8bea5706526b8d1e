//! Through a real Envoy: one of two instances stops under load, and no request notices.

use std::time::Duration;

use serde_json::json;

use crate::support::envoy::Config;
use crate::support::load::Load;
use crate::support::service::Service;
use crate::support::{eventually, policies};

#[test]
fn sigterm_to_one_of_two_instances_loses_no_request() {
    let policies = policies(&[(
        "shop.yaml",
        "domain: shop\ndescriptors:\n- {key: user, rate_limit: {unit: hour, requests_per_unit: 4000000000}}\n",
    )]);
    let mut first = Service::start(policies.path(), &[]);
    let second = Service::start(policies.path(), &[]);
    let envoy = Config::new("shop", &[first.grpc_port(), second.grpc_port()])
        .health_checks()
        .route("/", json!([{ "actions": [{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }] }]))
        .start();
    let healthy = |count| envoy.stat("cluster.ratekeeper.membership_healthy") == count;
    eventually("both instances are healthy", Duration::from_secs(10), || {
        healthy(2)
    });

    let load = Load::start(
        envoy.http(),
        4,
        Duration::from_millis(1),
        "/",
        &[("x-user", "alice")],
    );
    std::thread::sleep(Duration::from_secs(1));
    let shares = [&first, &second].map(|service| envoy.requests_to(service.grpc_port()));
    assert!(
        shares.iter().all(|&share| share > 100),
        "both must be in use: {shares:?} requests"
    );
    first.terminate();
    eventually("envoy leaves the instance", Duration::from_secs(2), || healthy(1));
    assert_eq!(
        first.get("/readyz").status,
        503,
        "it must still answer, and say that it is leaving"
    );
    let status = first.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    // Long enough for anything that was still on its way to the dead instance.
    std::thread::sleep(Duration::from_secs(1));
    let samples = load.finish();

    assert!(
        samples.len() > 1_000,
        "the load was too light to show anything: {} requests",
        samples.len()
    );
    let failed = samples.iter().filter(|sample| sample.status() != 200).count();
    assert_eq!(failed, 0, "of {} requests", samples.len());
    assert_eq!(envoy.stat("cluster.backend.ratelimit.error"), 0);
}
