//! The Envoy configurations and example policies of this repository work, and work together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::envoy::{Envoy, binary};
use crate::support::http::{Connection, Response};
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::service::Service;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_configuration_is_valid() {
    let dir = repository("deploy/envoy");
    let mut checked = 0;
    for entry in dir.read_dir().expect("no deploy/envoy") {
        let path = entry.expect("can't read deploy/envoy").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut command = Command::new(binary());
        command
            .args(["--mode", "validate", "--disable-hot-restart", "--config-path"])
            .arg(&path);
        let output = command.output().expect("can't start envoy");
        assert!(
            output.status.success(),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        checked += 1;
    }
    assert!(checked > 0, "nothing to check in {}", dir.display());
}

/// The demonstration's Envoy, with its fixed ports replaced by free ones.
fn demo_envoy(services: &[Service; 2]) -> Envoy {
    let mut text = std::fs::read_to_string(repository("deploy/envoy/demo.yaml")).expect("no demo.yaml");
    let replacements = [
        (9901, 0),
        (10000, 0),
        (8081, services[0].grpc_port()),
        (8091, services[1].grpc_port()),
        (10001, free_port()),
    ];
    for (old, new) in replacements {
        let (old, new) = (format!("port_value: {old} "), format!("port_value: {new} "));
        assert!(text.contains(&old), "demo.yaml has no {old}");
        text = text.replace(&old, &new);
    }
    let dir = tempfile::tempdir().expect("no temporary directory");
    let config = dir.path().join("demo.yaml");
    std::fs::write(&config, text).expect("can't write a configuration");
    Envoy::start(&config, dir)
}

fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    Connection::open(address)
        .and_then(|mut connection| connection.get(path, headers))
        .expect("no answer")
}

#[test]
fn the_demonstration_does_what_it_prints() {
    let redis = Redis::start();
    let services = [(); 2].map(|()| {
        let address = redis.address();
        let settings = [
            ("REDIS_URL", address.as_str()),
            ("RATEKEEPER_INSTANCES", "2"),
            ("REDIS_OP_TIMEOUT", "300ms"),
        ];
        let service = Service::start(&repository("examples/policies"), &settings);
        service.wait_connected();
        service
    });
    let envoy = demo_envoy(&services);
    let ingress = envoy.listener("ingress");
    let statuses = |path, header, value, count: usize| -> Vec<u16> {
        (0..count)
            .map(|_| get(ingress, path, &[(header, value)]).status)
            .collect()
    };

    assert_eq!(
        statuses("/", "x-user", "alice", 6),
        [200, 200, 200, 200, 200, 429]
    );
    let denied = get(ingress, "/", &[("x-user", "alice")]);
    assert_eq!(denied.status, 429);
    assert!((1..=60).contains(&denied.number("retry-after")), "{denied:?}");
    assert_eq!(
        denied.header("x-ratelimit-limit"),
        Some("5, 5;w=60, 100;w=60;name=\"per-address\"")
    );

    let bob = get(ingress, "/", &[("x-user", "bob")]);
    assert_eq!((bob.status, bob.number("x-ratelimit-remaining")), (200, 4));
    // Five of alice and one of bob: what was denied did not count for the address either.
    let admin = get(ingress, "/", &[("x-user", "admin")]);
    assert_eq!(
        admin.header("x-ratelimit-limit"),
        Some("100, 100;w=60;name=\"per-address\"")
    );
    assert_eq!((admin.status, admin.number("x-ratelimit-remaining")), (200, 93));

    // Ten at once, and at two a second at most a few more while these are sent.
    let bucket = statuses("/api/items", "x-api-key", "k1", 30);
    assert_eq!(bucket[..10], [200; 10]);
    assert!(bucket.contains(&429), "{bucket:?}");
    assert_eq!(statuses("/login", "x-user", "alice", 11)[9..], [200, 429]);
    for service in &services {
        let page = service.get("/metrics").body;
        let denied = page.lines().find_map(|line| {
            line.strip_prefix("ratekeeper_requests_total{transport=\"grpc\",code=\"over_limit\"} ")
        });
        assert!(
            denied.is_some_and(|count| count != "0"),
            "not asked, or never denied:\n{page}"
        );
        assert_eq!(service.without_store(), 0);
    }
}

#[test]
fn the_question_at_a_terminal_is_answered() {
    let service = Service::start(&repository("examples/policies"), &[]);
    let ask = r#"{"domain":"demo","descriptors":[{"entries":[{"key":"user","value":"alice"}]}]}"#;
    let statuses: Vec<u16> = (0..6).map(|_| service.ask(ask).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let denied: serde_json::Value = serde_json::from_str(&service.ask(ask).body).expect("/json is not JSON");
    assert_eq!(denied["overallCode"], "OVER_LIMIT");
    assert_eq!(denied["statuses"][0]["currentLimit"]["requestsPerUnit"], 5);
}

#[test]
fn the_example_policies_are_free_of_errors() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
    let output = command
        .env_clear()
        .arg("check")
        .arg(repository("examples/policies"))
        .output()
        .expect("can't start");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
