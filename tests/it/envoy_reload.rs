//! Through a real Envoy: an edit of a policy file takes effect within two seconds, and no request fails meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::envoy::{Config, Envoy};
use crate::support::load::Load;
use crate::support::service::Service;
use crate::support::{eventually, policies, replace, write};

/// What the issue of every policy promises.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

fn policy(per_hour: u32) -> String {
    format!(
        "domain: shop\ndescriptors:\n\
         - {{key: user, rate_limit: {{unit: hour, requests_per_unit: {per_hour}}}}}\n\
         - {{key: user, value: steady, rate_limit: {{unit: hour, requests_per_unit: 4000000000}}}}\n"
    )
}

fn actions() -> Value {
    json!([{ "request_headers": { "header_name": "x-user", "descriptor_key": "user" } }])
}

/// `/peek` looks at a counter without charging it.
fn envoy(service: &Service) -> Envoy {
    Config::new("shop", &[service.grpc_port()])
        .metered_route(
            "/peek",
            json!([{ "actions": actions(), "hits_addend": { "number": 0 } }]),
        )
        .metered_route("/", json!([{ "actions": actions() }]))
        .start()
}

fn status(envoy: &Envoy, user: &str) -> u16 {
    envoy
        .connect()
        .get("/", &[("x-user", user)])
        .expect("no answer")
        .status
}

/// The limit in force.
fn limit(envoy: &Envoy) -> u64 {
    let answer = envoy
        .connect()
        .get("/peek", &[("x-user", "nobody")])
        .expect("no answer");
    assert_eq!(answer.status, 200);
    let header = answer.header("x-ratelimit-limit").expect("no limit");
    header
        .split(',')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("not a limit: {header}"))
}

fn wait_for_limit(envoy: &Envoy, expected: u64) {
    eventually(&format!("a limit of {expected}"), IN_FORCE_WITHIN, || {
        limit(envoy) == expected
    });
}

/// Runs `edits` under a steady load and checks that none of its requests failed.
fn under_load(envoy: &Envoy, edits: impl FnOnce()) {
    let load = Load::start(
        envoy.http(),
        2,
        Duration::from_millis(2),
        "/",
        &[("x-user", "steady")],
    );
    let before_and_after = Duration::from_millis(300);
    std::thread::sleep(before_and_after);
    edits();
    std::thread::sleep(before_and_after);
    let samples = load.finish();
    assert!(
        samples.len() > 40,
        "the load was too light to show anything: {} requests",
        samples.len()
    );
    let failed = samples.iter().find(|sample| sample.status() != 200);
    assert!(failed.is_none(), "a request failed: {failed:?}");
}

#[test]
fn an_edit_raises_and_lowers_a_limit_without_a_failed_request() {
    let policies = policies(&[("shop.yaml", &policy(3))]);
    let file = policies.path().join("shop.yaml");
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    let statuses = |count: usize| (0..count).map(|_| status(&envoy, "alice")).collect::<Vec<_>>();

    under_load(&envoy, || {
        assert_eq!(statuses(4), [200, 200, 200, 429]);
        write(&file, &policy(5));
        wait_for_limit(&envoy, 5);
        // What was used before the edit still counts.
        assert_eq!(statuses(3), [200, 200, 429]);
        replace(&file, &policy(4));
        wait_for_limit(&envoy, 4);
        assert_eq!(statuses(1), [429]);
        // Five are used: only a limit of six lets another one through.
        replace(&file, &policy(6));
        wait_for_limit(&envoy, 6);
        assert_eq!(statuses(2), [200, 429]);
    });
}

#[test]
fn files_come_and_go() {
    let policies = policies(&[("shop.yaml", &policy(3))]);
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    let other = policies.path().join("other.yaml");
    let ask = r#"{"domain":"other","descriptors":[{"entries":[{"key":"user","value":"alice"}]}]}"#;

    under_load(&envoy, || {
        assert_eq!(service.ask(ask).status, 200);
        write(
            &other,
            "domain: other\ndescriptors:\n- {key: user, rate_limit: {unit: hour, requests_per_unit: 0}}\n",
        );
        eventually("the new domain denies", IN_FORCE_WITHIN, || {
            service.ask(ask).status == 429
        });
        fs::remove_file(&other).expect("can't remove a policy");
        eventually("the removed domain allows", IN_FORCE_WITHIN, || {
            service.ask(ask).status == 200
        });
    });
}

/// Publishes a version as the kubelet does for a mounted ConfigMap: a new directory, and one rename of the link to it.
fn publish(dir: &Path, version: &str, text: &str) {
    let old = fs::read_link(dir.join("..data")).ok();
    fs::create_dir(dir.join(version)).expect("can't create a directory");
    write(&dir.join(version).join("shop.yaml"), text);
    symlink(version, dir.join("..data_tmp")).expect("can't create a link");
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("can't rename a link");
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).expect("can't remove the old version");
    }
}

#[test]
fn a_kubernetes_config_map_is_swapped_without_a_failed_request() {
    let policies = policies(&[]);
    publish(policies.path(), "..2026_01_01", &policy(3));
    symlink("..data/shop.yaml", policies.path().join("shop.yaml")).expect("can't create a link");
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);

    under_load(&envoy, || {
        assert_eq!(limit(&envoy), 3);
        publish(policies.path(), "..2026_01_02", &policy(7));
        wait_for_limit(&envoy, 7);
        // The second swap shows that the watch follows the link and not what it once pointed to.
        publish(policies.path(), "..2026_01_03", &policy(2));
        wait_for_limit(&envoy, 2);
    });
}

#[test]
fn a_broken_edit_leaves_the_old_limits_in_force() {
    let policies = policies(&[("shop.yaml", &policy(3))]);
    let file = policies.path().join("shop.yaml");
    let service = Service::start(policies.path(), &[]);
    let envoy = envoy(&service);
    let degraded = || {
        let ready = service.get("/readyz");
        assert_eq!(ready.status, 200, "{ready:?}");
        ready.body.contains("degraded")
    };

    under_load(&envoy, || {
        assert!(!degraded());
        assert_eq!(status(&envoy, "alice"), 200);
        replace(
            &file,
            "domain: shop\ndescriptors:\n- key: user\n  rate_limit: {unit: fortnight, requests_per_unit: 100}\n",
        );
        eventually("/readyz says degraded", IN_FORCE_WITHIN, degraded);
        assert_eq!(limit(&envoy), 3);
        let statuses: Vec<u16> = (0..3).map(|_| status(&envoy, "alice")).collect();
        assert_eq!(statuses, [200, 200, 429]);
        replace(&file, &policy(4));
        wait_for_limit(&envoy, 4);
        eventually("/readyz is well again", IN_FORCE_WITHIN, || !degraded());
    });
}
