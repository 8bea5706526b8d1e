//! Calls whose keys are on both sides while their slot is on its way: they are split, and each request is served where its key is.

use std::collections::BTreeSet;

use redis::Commands as _;

use super::Site;
use super::slots::{assert_quiet, cluster, nodes, on, redirections, used_anywhere, user_at};
use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::redis::Kind;

/// The tenant's counter of a path.
fn path_key(tenant: &str, path: &str) -> String {
    format!("rk:{{d|tenant={tenant}}}|tenant={tenant}|path={path}:sw1:31536000")
}

/// Requests of one slot leave together, and their keys are on both sides: each is served where its key is.
fn tryagain(kind: Kind) {
    let cluster = cluster(kind);
    let site = on(&cluster);
    let tenant = "acme";
    let slot = cluster.slot_of(&path_key(tenant, "p0"));
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let paths: Vec<String> = (0..40).map(|number| format!("p{number}")).collect();
    let (gone, others) = paths.split_at(15);
    let (here, new) = others.split_at(15);
    for path in gone.iter().chain(here) {
        assert!(site.ask(&[("tenant", tenant), ("path", path)]));
    }
    cluster.begin_move(slot, from, to);
    for path in gone {
        cluster.carry(&path_key(tenant, path), from, to);
    }
    let calls = site.metric("ratekeeper_redis_calls_total");
    at_once(&site, &cluster, &paths, tenant);
    let calls = site.metric("ratekeeper_redis_calls_total") - calls;
    println!("{kind:?}: {calls} calls, {} redirections", redirections(&site));
    assert!(redirections(&site) >= 25, "those that were not there");
    let count = |path: &String| used_anywhere(&nodes(&cluster), &path_key(tenant, path));
    let counts: Vec<u64> = paths.iter().map(count).collect();
    let expected: Vec<u64> = paths
        .iter()
        .map(|path| 2 - u64::from(new.contains(path)))
        .collect();
    assert_eq!(counts, expected, "each was charged once");
    let left: BTreeSet<String> = cluster.nodes[from].connect().keys("rk:{d|*").unwrap();
    let expected: BTreeSet<String> = here.iter().map(|path| path_key(tenant, path)).collect();
    assert_eq!(left, expected, "a counter must not be on both sides");
    // To the end, with what the nodes have.
    cluster.move_slot(slot, from, to);
    for path in &paths {
        assert!(site.ask(&[("tenant", tenant), ("path", path)]));
    }
    let counts: Vec<u64> = paths.iter().map(count).collect();
    let expected: Vec<u64> = paths
        .iter()
        .map(|path| 3 - u64::from(new.contains(path)))
        .collect();
    assert_eq!(counts, expected);
    assert_eq!(site.service.without_store(), 0);
    assert_quiet(&site);
}

/// Asks for all of these at the same time, while the nodes stand still: what comes meanwhile leaves in few calls.
fn at_once(site: &Site, cluster: &Cluster, paths: &[String], tenant: &str) {
    for node in &cluster.nodes {
        let () = node.command("CLIENT PAUSE 100 ALL");
    }
    let mut connections: Vec<http::Connection> = paths
        .iter()
        .map(|_| http::Connection::open(site.service.http_address()).unwrap())
        .collect();
    for (path, connection) in paths.iter().zip(&mut connections) {
        let body = super::json(&[&[("tenant", tenant), ("path", path)]]);
        connection.send_body("POST", "/json", &[], &body).unwrap();
    }
    for (path, connection) in paths.iter().zip(&mut connections) {
        assert_eq!(
            connection.receive().unwrap().status,
            200,
            "{path}: {}",
            site.service.output()
        );
    }
}

#[test]
fn tryagain_of_several_requests() {
    tryagain(Kind::Installed);
}

#[test]
fn tryagain_of_several_requests_on_redis_6_2() {
    tryagain(Kind::Redis62);
}

/// One request whose counters are on both sides can't be decided as a whole; that is nobody's failure.
#[test]
fn tryagain_of_one_request() {
    let cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let ask_both = || {
        let both: [&[(&str, &str)]; 2] = [
            &[("tenant", "acme"), ("path", "gone")],
            &[("tenant", "acme"), ("path", "here")],
        ];
        site.service.ask(&super::json(&both)).status == 200
    };
    let keys = ["gone", "here"].map(|path| path_key("acme", path));
    let count = |expected: u64| {
        for key in &keys {
            assert_eq!(used_anywhere(&nodes(&cluster), key), expected, "{key}");
        }
    };
    assert!(ask_both());
    let slot = cluster.slot_of(&keys[0]);
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_move(slot, from, to);
    cluster.carry(&keys[0], from, to);
    let other = user_at(&cluster, from);
    for _ in 0..30 {
        assert!(!ask_both(), "no node has both");
    }
    assert_eq!(site.metric("ratekeeper_decisions_without_store_total"), 30);
    assert_quiet(&site);
    count(1);
    assert!(site.ask_user(&other), "the node is in use");
    // One that is moved between the two attempts.
    cluster.move_slot(slot, from, to);
    for _ in 0..5 {
        assert!(ask_both());
    }
    count(6);
    assert_quiet(&site);
}
