//! What the nodes of a cluster say of slots that are somewhere else, on their way or nobody's.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Commands as _, Connection};

use super::{Site, key_of, used};
use crate::support::cluster::{Cluster, Setting};
use crate::support::eventually;
use crate::support::redis::{Kind, Redis};

pub(super) fn cluster(kind: Kind) -> Cluster {
    Cluster::start_with(&Setting {
        kind,
        replicas: false,
        ..Setting::default()
    })
}

pub(super) fn on(cluster: &Cluster) -> Site {
    let site = Site::start(&[("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", &cluster.url())]);
    // The connections to the node that comes last are there, too.
    eventually("all nodes are connected", Duration::from_secs(10), || {
        let page = site.service.get("/metrics").body;
        let nodes = page
            .lines()
            .filter(|line| line.starts_with("ratekeeper_redis_connections{"));
        nodes.count() == 3
    });
    site
}

/// A user whose counter is in a slot of this node.
pub(super) fn user_at(cluster: &Cluster, node: usize) -> String {
    let mut users = (0..).map(|number| format!("u{number}"));
    let found = users.find(|user| cluster.primary_of(&key_of(user)) == node);
    found.expect("one of all numbers")
}

/// The hits on a key over all nodes.
pub(super) fn used_anywhere(nodes: &[&Redis], key: &str) -> u64 {
    let of = |node: &&Redis| {
        let mut connection = node.connect();
        let keys: Vec<String> = connection.keys("rk:*").unwrap_or_default();
        if !keys.iter().any(|known| known == key) {
            return 0;
        }
        used_asking(&mut connection, key)
    };
    nodes.iter().map(of).sum()
}

/// Also of a slot that is on its way here.
fn used_asking(connection: &mut Connection, key: &str) -> u64 {
    let () = redis::cmd("ASKING").query(connection).unwrap();
    used(connection, key)
}

pub(super) fn nodes(cluster: &Cluster) -> Vec<&Redis> {
    cluster.nodes.iter().collect()
}

/// Nothing of it has spoilt a node.
pub(super) fn assert_quiet(site: &Site) {
    assert_eq!(site.opened(), 0, "{}", site.service.output());
    assert_eq!(site.metric("ratekeeper_redis_disconnects_total"), 0);
}

pub(super) fn redirections(site: &Site) -> u64 {
    site.metric("ratekeeper_redis_redirections_total")
}

#[test]
fn moved() {
    let cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let user = user_at(&cluster, 0);
    let key = key_of(&user);
    assert!(site.ask_user(&user));
    let first = redirections(&site);
    for (round, (from, to)) in [(0, 1), (1, 2), (2, 0)].into_iter().enumerate() {
        let before = redirections(&site);
        cluster.move_slot(cluster.slot_of(&key), from, to);
        // Mostly before the map is looked at, which is once a second.
        for _ in 0..5 {
            assert!(site.ask_user(&user), "round {round}");
        }
        let noted = redirections(&site) - before;
        assert!(noted <= 1, "it is noted where the slot is");
        assert_eq!(used_anywhere(&nodes(&cluster), &key), 6 + 5 * round as u64);
    }
    assert!(redirections(&site) > first, "nobody was sent elsewhere");
    assert_eq!(site.service.without_store(), 0);
    assert_quiet(&site);
}

/// A node of which nobody knew is connected to within the deadline.
#[test]
fn moved_and_asked_for_at_a_node_that_is_not_known() {
    let mut cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let (moved, asked) = (user_at(&cluster, 0), user_at(&cluster, 1));
    assert!(site.ask_user(&moved) && site.ask_user(&asked));
    let new = cluster.add(Kind::Installed);
    let slot = cluster.slot_of(&key_of(&asked));
    cluster.begin_move(slot, 1, new);
    cluster.carry(&key_of(&asked), 1, new);
    // It has no slot, so no look at the slots shows it, and is kept all the same.
    for _ in 0..200 {
        assert!(site.ask_user(&asked), "{}", site.service.output());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(redirections(&site), 200, "its owner is still the other one");
    cluster.move_slot(cluster.slot_of(&key_of(&moved)), 0, new);
    for _ in 0..5 {
        assert!(site.ask_user(&moved), "{}", site.service.output());
    }
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&moved)), 6);
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&asked)), 201);
    assert_eq!(site.service.without_store(), 0);
    let connected = site
        .service
        .output()
        .matches("a primary of the redis cluster")
        .count();
    assert_eq!(connected, 4, "each node once\n{}", site.service.output());
}

#[test]
fn ask() {
    let cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let user = user_at(&cluster, 0);
    assert!(site.ask_user(&user));
    let slot = cluster.slot_of(&key_of(&user));
    cluster.begin_move(slot, 0, 1);
    assert!(site.ask_user(&user), "the key is still there");
    assert_eq!(redirections(&site), 0);
    cluster.carry(&key_of(&user), 0, 1);
    for round in 1..=3 {
        assert!(site.ask_user(&user), "round {round}");
        assert_eq!(redirections(&site), round, "the slot is not there yet");
    }
    assert_eq!(used_asking(&mut cluster.nodes[1].connect(), &key_of(&user)), 5);
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&user)), 5);
    cluster.move_slot(slot, 0, 1);
    assert!(site.ask_user(&user));
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&user)), 6);
    assert_eq!(site.service.without_store(), 0);
    assert_quiet(&site);
}

/// A node's probes go to another slot while theirs is on its way.
#[test]
fn a_slot_on_its_way_keeps_no_node_away() {
    let cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let user = user_at(&cluster, 0);
    assert!(site.ask_user(&user));
    // Those of the first keys that probes and markers try.
    let slots: BTreeSet<u16> = (0..40)
        .map(|number| cluster.slot_of(&format!("rk:{{{number}}}")))
        .collect();
    let first = slots.into_iter().filter(|slot| cluster.owner(*slot) == 0);
    let mut first: Vec<u16> = first.collect();
    let number_of = |slot: &u16| (0..40).find(|number| cluster.slot_of(&format!("rk:{{{number}}}")) == *slot);
    first.sort_by_key(number_of);
    for slot in &first[..3] {
        cluster.begin_move(*slot, 0, 1);
    }
    let node = &cluster.nodes[0];
    let () = node.command("CONFIG SET min-replicas-to-write 1");
    site.ask_until_open(&user);
    site.wait_said("refused: NOREPLICAS");
    let () = node.command("CONFIG SET min-replicas-to-write 0");
    println!("in use again after {:?}", site.wait_in_use(&user));
    // Several markers later.
    std::thread::sleep(Duration::from_secs(3));
    assert!(site.ask_user(&user));
    assert_eq!(site.opened(), 1, "{}", site.service.output());
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&user)), 3);
}

#[test]
fn clusterdown() {
    let mut cluster = cluster(Kind::Installed);
    let site = on(&cluster);
    let users = [user_at(&cluster, 0), user_at(&cluster, 1)];
    assert!(users.iter().all(|user| site.ask_user(user)));
    cluster.nodes[1].kill();
    eventually("the others say so", Duration::from_secs(15), || {
        let page: String = cluster.nodes[0].try_command("CLUSTER INFO").unwrap_or_default();
        page.contains("cluster_state:fail")
    });
    // The breaker of the one that is gone is open anyway.
    eventually("the other's is, too", Duration::from_secs(3), || {
        assert!(!site.ask_user(&users[0]), "redis has decided");
        site.service
            .output()
            .contains("refused: CLUSTERDOWN: its cluster is not complete")
    });
    cluster.nodes[1].restart();
    cluster.wait_agreed();
    println!("in use again after {:?}", site.wait_in_use(&users[0]));
    site.wait_in_use(&users[1]);
    assert_eq!(used_anywhere(&nodes(&cluster), &key_of(&users[0])), 2);
}
