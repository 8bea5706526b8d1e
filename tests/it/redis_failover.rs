//! What a new primary may lack, an instance records there again before it uses it; and an old one is not used any more.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::on_redis::{ask, ask_redis, recoveries, remaining, start, wait_used};
use crate::support::redis::Redis;
use crate::support::sentinel::Sentinels;
use crate::support::service::Service;
use crate::support::{self, eventually};

const WITHIN: Duration = Duration::from_secs(20);
/// More than the time for which an instance remembers what it has charged.
const FORGOTTEN: Duration = Duration::from_millis(2_600);
/// What the tests set themselves, to see that it is lost; in a cluster it is the first node's.
const CONTROL: &str = "control{shard}";
const POLICY: &str = "
domain: d
descriptors:
  - {key: sliding, rate_limit: {unit: hour, requests_per_unit: 20}}
  - {key: coarse, rate_limit: {unit: hour, requests_per_unit: 1000}}
  - {key: fixed, rate_limit: {unit: hour, requests_per_unit: 20, algorithm: fixed_window}}
  - {key: bucket, rate_limit: {unit: day, requests_per_unit: 20, algorithm: token_bucket}}
  - {key: cost, rate_limit: {unit: hour, requests_per_unit: 20, charge: always}}
  - {key: closed, rate_limit: {unit: hour, requests_per_unit: 60, on_store_error: deny}}
";

/// Charges a bit of everything, long ago as far as an instance remembers.
fn charge_first(service: &Service) {
    for hits in [
        ("sliding", "a", 3),
        ("sliding", "b", 2),
        ("coarse", "a", 300),
        ("fixed", "a", 4),
        ("bucket", "a", 5),
        ("cost", "a", 6),
    ] {
        assert!(ask_redis(service, hits).is_ok(), "{hits:?}");
    }
}

/// Charges more, which a new primary will lack, and what is not to be charged again.
fn charge_last(service: &Service) {
    for hits in [
        ("sliding", "a", 3),
        ("coarse", "a", 200),
        ("sliding", "a", 1),
        ("sliding", "new", 7),
        ("fixed", "a", 3),
        ("bucket", "a", 2),
        ("cost", "a", 9),
        ("cost", "a", 0),
        ("fixed", "a", -2),
    ] {
        assert!(ask_redis(service, hits).is_ok(), "{hits:?}");
    }
    assert!(!ask_redis(service, ("sliding", "b", 19)).is_ok());
}

/// What is left then: the first charges are there if the new primary has them, the last ones by having been recorded again.
fn assert_recorded_again(service: &Service, has_first: bool) {
    let first = |hits: u64| if has_first { hits } else { 0 };
    for (key, value, limit, used) in [
        ("sliding", "a", 20, first(3) + 4),
        ("sliding", "b", 20, first(2)),
        ("sliding", "new", 20, 7),
        ("coarse", "a", 1_000, first(300) + 200),
        // A refund is not: it errs to the strict side.
        ("fixed", "a", 20, first(4) + 3),
        ("bucket", "a", 20, first(5) + 2),
        ("cost", "a", 20, first(6) + 9),
    ] {
        assert_eq!(limit - remaining(service, key, value), used, "{key} {value}");
    }
    let left = 20 - first(3) - 4;
    let admitted = (0..30).filter(|_| ask(service, &[("sliding", "a", 1)]).is_ok());
    assert_eq!(admitted.count() as u64, left);
}

fn single(redis: &Redis) -> (tempfile::TempDir, Service) {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let service = start(dir.path(), &[("REDIS_URL", &redis.address())]);
    (dir, service)
}

#[test]
fn an_old_dump_is_told_what_it_lacks() {
    let mut redis = Redis::start();
    let (_dir, service) = single(&redis);
    charge_first(&service);
    std::thread::sleep(FORGOTTEN);
    let () = redis.command("SAVE");
    let () = redis.command(&format!("SET {CONTROL} 1"));
    charge_last(&service);
    redis.restart();
    assert_eq!(
        redis.command::<Option<u8>>(&format!("GET {CONTROL}")),
        None,
        "nothing was lost"
    );
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    wait_used(&service, "sliding", "other");
    assert_recorded_again(&service, true);
    assert_eq!(recoveries(&service), 1, "each is told once");
}

#[test]
fn an_empty_server_is_told_what_it_lacks() {
    let mut redis = Redis::start();
    let (_dir, service) = single(&redis);
    charge_first(&service);
    std::thread::sleep(FORGOTTEN);
    charge_last(&service);
    // However long it is away.
    redis.kill();
    std::thread::sleep(Duration::from_secs(12));
    redis.restart();
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    wait_used(&service, "sliding", "other");
    assert_recorded_again(&service, false);
}

/// The same process all along, whose data are another server's in between.
#[test]
fn a_server_that_followed_another_one_is_told_what_it_lacks() {
    let (redis, other) = (Redis::start(), Redis::start());
    let (_dir, service) = single(&redis);
    charge_first(&service);
    std::thread::sleep(FORGOTTEN);
    let () = other.command("CONFIG SET repl-diskless-sync-delay 0");
    charge_last(&service);
    let () = redis.command(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    eventually("it follows", WITHIN, || {
        redis.info("master_link_status").as_deref() == Some("up")
    });
    eventually("it takes no writes", WITHIN, || {
        let before = service.without_store();
        ask(&service, &[("coarse", "b", 1)]);
        service.without_store() > before
    });
    let () = redis.command("REPLICAOF NO ONE");
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    wait_used(&service, "sliding", "other");
    assert_recorded_again(&service, false);
}

/// Requests go on all the time, so whatever is admitted before the counters are complete shows.
#[test]
fn never_more_than_the_limit_is_admitted_over_a_restart() {
    let mut redis = Redis::start();
    let (_dir, service) = single(&redis);
    let admit = |times: usize| {
        (0..times)
            .filter(|_| ask(&service, &[("closed", "a", 1)]).is_ok())
            .count()
    };
    let mut admitted = admit(20);
    let () = redis.command("SAVE");
    admitted += admit(20);
    assert_eq!(admitted, 40);
    redis.restart();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        admitted += admit(1);
    }
    // The first 20 are in the dump, and may be recorded again.
    assert!((40..=60).contains(&admitted), "{admitted} of 60");
    assert!(remaining(&service, "closed", "a") == 0);
    assert_eq!(recoveries(&service), 1);
}

/// Freezes replicas, cuts them from their primary, lets something be charged there that they do not get, and kills it.
fn charge_and_kill(primary: &mut Redis, replicas: &[&Redis], charge: impl FnOnce()) {
    replicas.iter().for_each(|replica| replica.freeze());
    // A frozen one would find all of it in its socket.
    let () = primary.command("CLIENT KILL TYPE replica");
    let () = primary.command(&format!("SET {CONTROL} 1"));
    charge();
    primary.kill();
    replicas.iter().for_each(|replica| replica.thaw());
}

fn on_sentinels(sentinels: &Sentinels) -> (tempfile::TempDir, Service) {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let settings = [("REDIS_TYPE", "SENTINEL"), ("REDIS_URL", &sentinels.url())];
    let service = start(dir.path(), &settings);
    (dir, service)
}

#[test]
fn the_primary_that_sentinels_name_is_told_what_it_lacks() {
    let mut all = Sentinels::start();
    let (_dir, service) = on_sentinels(&all);
    charge_first(&service);
    std::thread::sleep(FORGOTTEN);
    let old = all.primary();
    let (replicas, primary): (Vec<_>, Vec<_>) = all
        .members
        .iter_mut()
        .enumerate()
        .partition(|(index, _)| *index != old);
    let replicas: Vec<&Redis> = replicas.into_iter().map(|(_, member)| &*member).collect();
    let primary = primary.into_iter().next().unwrap().1;
    charge_and_kill(primary, &replicas, || charge_last(&service));
    let (new, _) = all.wait_other_primary(old, WITHIN);
    let named = Instant::now();
    wait_used(&service, "sliding", "other");
    let took = named.elapsed();
    println!("the new primary was used {took:?} after a sentinel named it");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(
        all.members[new].command::<Option<u8>>(&format!("GET {CONTROL}")),
        None,
        "nothing was lost"
    );
    assert_recorded_again(&service, true);
    assert_eq!(recoveries(&service), 1);
}

/// A new primary is named while the old one is well, and has not been told.
#[test]
fn an_old_primary_that_lives_on_is_not_used() {
    let all = Sentinels::start();
    let (_dir, service) = on_sentinels(&all);
    charge_first(&service);
    let old = all.primary();
    all.failover();
    let (new, _) = all.wait_other_primary(old, WITHIN);
    eventually("a recovery", WITHIN, || recoveries(&service) == 1);
    let took = wait_used(&service, "sliding", "other");
    println!("the new primary was used after {took:?}");
    // What was written, by command.
    let commands = |member: usize| {
        let page: String = all.members[member].command("INFO commandstats");
        let of = |name: &str| {
            let prefix = format!("cmdstat_{name}:calls=");
            let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
            let calls = line.and_then(|line| line.split(',').next()?.parse::<u64>().ok());
            (name.to_owned(), calls.unwrap_or(0))
        };
        ["evalsha", "set", "zadd"].map(of)
    };
    // A replica counts what it is sent, too.
    let is_primary = || all.members[old].info("role").as_deref() == Some("master");
    let (old_before, new_before) = (commands(old), commands(new));
    let (mut asked, until) = (0, Instant::now() + Duration::from_millis(2_500));
    while Instant::now() < until {
        ask_redis(&service, ("coarse", "b", 1));
        asked += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let (old_after, new_after) = (commands(old), commands(new));
    assert!(is_primary(), "the old one was told too soon");
    assert_eq!(old_after, old_before, "the old primary is still used");
    assert!(
        new_after[0].1 >= new_before[0].1 + asked,
        "{new_before:?} {new_after:?}"
    );
}

/// A value of the sliding limit whose counter this primary has.
fn value_on(cluster: &Cluster, primary: usize) -> String {
    let mut values = (0..).map(|number| format!("v{number}"));
    let on = |value: &String| cluster.primary_of(&format!("rk:{{d|sliding={value}}}:sw1:3600")) == primary;
    values.find(on).unwrap()
}

#[test]
fn the_new_primary_of_a_shard_is_told_what_it_lacks_and_no_other() {
    let mut cluster = Cluster::start();
    for node in &cluster.nodes {
        let () = node.command("CONFIG SET cluster-require-full-coverage no");
    }
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let settings = [("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", &cluster.url())];
    let service = start(dir.path(), &settings);
    let values: Vec<String> = (0..3).map(|primary| value_on(&cluster, primary)).collect();
    for value in &values {
        assert!(ask_redis(&service, ("sliding", value, 3)).is_ok());
    }
    std::thread::sleep(FORGOTTEN);
    let replica = cluster.replica_of(0).unwrap();
    let slot = cluster.slot_of(&format!("rk:{{d|sliding={}}}:sw1:3600", values[0]));
    let (primaries, replicas) = cluster.nodes.split_at_mut(3);
    charge_and_kill(&mut primaries[0], &[&replicas[replica - 3]], || {
        for value in &values {
            assert!(ask_redis(&service, ("sliding", value, 4)).is_ok());
        }
    });
    // While it is away the others decide as ever.
    let mut asked = 0;
    let mut owner = 0;
    eventually("a new primary of the shard", WITHIN, || {
        for value in &values[1..] {
            assert_eq!(
                remaining(&service, "sliding", value),
                13,
                "another shard was told, too"
            );
            asked += 1;
        }
        owner = cluster.owner_seen_by(&cluster.nodes[1], slot).unwrap_or(0);
        owner != 0
    });
    let named = Instant::now();
    wait_used(&service, "sliding", &values[0]);
    println!(
        "the shard was used {:?} after it was named, {asked} requests to others",
        named.elapsed()
    );
    assert!(named.elapsed() < Duration::from_secs(1), "{:?}", named.elapsed());
    assert_eq!(owner, replica);
    for value in &values {
        assert_eq!(remaining(&service, "sliding", value), 13, "{value}");
    }
    assert_eq!(recoveries(&service), 1);
}
