//! The servers and the bad network that other tests use do what they say.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::{Kind, Redis};
use crate::support::sentinel::{self, Sentinels};

#[test]
fn each_kind_says_its_version() {
    for (kind, field, expected) in [
        (Kind::Installed, "redis_version", ""),
        (Kind::Redis62, "redis_version", "6.2."),
        (Kind::Valkey, "valkey_version", "9.1."),
    ] {
        let mut redis = Redis::start_kind(kind, &[]);
        let version = redis.info(field).unwrap();
        println!("{kind:?}: {version}");
        assert!(
            !version.is_empty() && version.starts_with(expected),
            "{kind:?}: {version}"
        );
        redis.kill();
        assert!(redis.is_dead());
        let start = Instant::now();
        redis.restart();
        println!("{kind:?}: answers {:?} after its start", start.elapsed());
        assert_eq!(redis.info(field), Some(version));
    }
}

#[test]
fn a_failover_is_seen() {
    let setting = sentinel::Setting {
        password: Some("one".to_owned()),
        sentinel_password: Some("two".to_owned()),
        ..sentinel::Setting::default()
    };
    let mut all = Sentinels::start_with(&setting);
    let old = all.primary();
    assert_eq!((old, all.url().matches(',').count()), (0, 3));
    let () = all.members[old].command("SET key value");
    all.members[old].kill();
    let (new, took) = all.wait_other_primary(old, Duration::from_secs(15));
    println!("after a kill another primary is named in {took:?}");
    eventually("it is one", Duration::from_secs(5), || {
        all.members[new].info("role").as_deref() == Some("master")
    });
    let value: String = all.members[new].command("GET key");
    assert_eq!(value, "value");
    all.members[old].restart();
    all.wait_settled();
    assert_eq!(all.primary(), new, "the old one is a replica now");
    all.failover();
    let (third, took) = all.wait_other_primary(new, Duration::from_secs(15));
    println!("when told to, in {took:?}");
    all.wait_settled();
    assert_eq!(all.primary(), third);
}

#[test]
fn slots_are_moved_with_their_keys_and_a_replica_takes_over() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.url().matches(',').count(), 5);
    for (slot, owner) in [(0, 0), (5_460, 0), (5_461, 1), (16_383, 2)] {
        assert_eq!(cluster.owner(slot), owner, "slot {slot}");
    }
    let owner = cluster.primary_of("{key}");
    let to = (owner + 1) % 3;
    let () = cluster.nodes[owner].command("SET {key} value");
    cluster.move_slot(cluster.slot_of("{key}"), owner, to);
    let moved = cluster.move_slots(50, owner, to, Duration::ZERO);
    cluster.wait_agreed();
    assert_eq!((moved.len(), cluster.primary_of("{key}")), (50, to));
    assert!(moved.iter().all(|slot| cluster.owner(*slot) == to));
    let value: String = cluster.nodes[to].command("GET {key}");
    assert_eq!(value, "value");
    let replica = cluster.replica_of(to).expect("it has a replica");
    eventually("the replica has the key", Duration::from_secs(5), || {
        cluster.nodes[replica]
            .info("db0")
            .is_some_and(|keys| keys.starts_with("keys=1"))
    });
    cluster.nodes[to].kill();
    let slot = cluster.slot_of("{key}");
    let (new, took) = cluster.wait_other_owner(slot, to, Duration::from_secs(20));
    println!("after a kill the slots have another owner in {took:?}");
    assert_eq!(new, replica);
    cluster.nodes[to].restart();
    cluster.wait_agreed();
    assert_eq!(cluster.nodes[to].info("role").as_deref(), Some("slave"));
    let value: String = cluster.nodes[new].command("GET {key}");
    assert_eq!(value, "value");
}

fn open(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    stream
}

/// Sends `PING` and waits for the answer; how long that took.
fn ping(stream: &mut TcpStream) -> io::Result<Duration> {
    let start = Instant::now();
    stream.write_all(b"PING\r\n")?;
    pong(stream)?;
    Ok(start.elapsed())
}

fn pong(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"+PONG\r\n");
    Ok(())
}

#[test]
fn answers_are_late_in_order_and_for_nobody_else() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let mut stream = open(&proxy);
    ping(&mut stream).unwrap();
    let late = Duration::from_millis(50);
    proxy.set(Mode::Delay(late));
    let took = ping(&mut stream).unwrap();
    assert!((late..4 * late).contains(&took), "{took:?}");
    // Twenty at once come 50 ms late, not 1 s, and in order.
    let start = Instant::now();
    for number in 10..30 {
        stream.write_all(format!("ECHO {number}\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answers = vec![0; 20 * "$2\r\n10\r\n".len()];
    stream.read_exact(&mut answers).unwrap();
    let took = start.elapsed();
    assert!((late..6 * late).contains(&took), "{took:?}");
    let expected: String = (10..30).map(|number| format!("$2\r\n{number}\r\n")).collect();
    assert_eq!(String::from_utf8(answers).unwrap(), expected);
    proxy.set(Mode::Pass);
    assert_eq!(proxy.connections(), 1);
    assert!(proxy.bytes().0 >= 20 * 9 && proxy.bytes().1 >= 20 * 8);
}

#[test]
fn what_is_held_comes_later_and_what_is_swallowed_never() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let mut stream = open(&proxy);
    ping(&mut stream).unwrap();
    proxy.set(Mode::Hold);
    assert!(ping(&mut stream).is_err(), "nothing is answered");
    let mut new = open(&proxy);
    assert!(ping(&mut new).is_err(), "a new connection stands still, too");
    proxy.set(Mode::Pass);
    pong(&mut stream).expect("what was held is answered");
    pong(&mut new).expect("what was held is answered");
    proxy.set(Mode::Swallow);
    assert!(ping(&mut stream).is_err(), "nothing is answered");
    proxy.set(Mode::Pass);
    assert!(ping(&mut stream).is_err(), "it stays mute");
    ping(&mut open(&proxy)).expect("a new connection is well");
}

#[test]
fn refused_and_cut_connections() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let mut stream = open(&proxy);
    ping(&mut stream).unwrap();
    proxy.cut();
    assert!(ping(&mut stream).is_err(), "it is cut");
    let mut stream = open(&proxy);
    ping(&mut stream).unwrap();
    for _ in 0..3 {
        proxy.set(Mode::Refuse);
        assert!(ping(&mut stream).is_err(), "it is cut");
        let refused = TcpStream::connect(proxy.address()).map(|_| ());
        let kind = refused.expect_err("nobody listens").kind();
        assert_eq!(kind, io::ErrorKind::ConnectionRefused);
        proxy.set(Mode::Pass);
        stream = open(&proxy);
        ping(&mut stream).unwrap();
    }
}
