//! What a server says to calls on connections that stand.

use std::thread::JoinHandle;
use std::time::Duration;

use redis::{Commands as _, Connection};

use super::{Site, key_of, used};
use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::Redis;

/// What becomes of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    Kept,
    Lost,
}

/// A refusal from its begin to its end: no request is decided by Redis, none waits once the breaker is open, and the store is in use
/// again at once when it is over.
fn refused(redis: &Redis, said: &str, connections: Connections, begin: impl FnOnce(), end: impl FnOnce()) {
    let site = Site::on(redis);
    assert!(site.ask_user("x") && !site.is_away());
    let connects = site.connects();
    begin();
    site.ask_until_open("x");
    // Longer than an idle connection goes without a sign of life.
    eventually("some time", Duration::from_secs(2), || {
        assert!(!site.ask_user("x"), "redis has decided");
        site.metric("ratekeeper_redis_away_seconds_total") >= 1
    });
    site.wait_said(said);
    assert_eq!(
        site.opened(),
        1,
        "a probe let requests through\n{}",
        site.service.output()
    );
    end();
    let took = site.wait_in_use("x");
    println!("{said}: in use again after {took:?}");
    let kept = site.connects() == connects;
    assert_eq!(
        kept,
        connections == Connections::Kept,
        "{}",
        site.service.output()
    );
    eventually("all is quiet", Duration::from_secs(3), || !site.is_away());
    // A server that was a replica may lack the last charges; they are recorded again.
    let again = u64::from(connections == Connections::Lost);
    let said = format!("recorded_again={again}");
    assert!(again == 0 || site.service.output().contains(&said));
    assert_eq!(
        used(&mut redis.connect(), &key_of("x")),
        2 + again,
        "each was charged once"
    );
}

#[test]
fn readonly() {
    let redis = Redis::start();
    let (begin, end) = replica_and_back(&redis);
    refused(&redis, "it is a replica", Connections::Lost, begin, end);
}

#[test]
fn masterdown() {
    let redis = Redis::start_with(&["--replica-serve-stale-data", "no"]);
    let (begin, end) = replica_and_back(&redis);
    refused(&redis, "it is a replica", Connections::Lost, begin, end);
}

/// Makes it follow a server that is not there, and nobody.
fn replica_and_back(redis: &Redis) -> (impl FnOnce(), impl FnOnce()) {
    let nobody = format!("REPLICAOF 127.0.0.1 {}", free_port());
    (
        move || redis.command(&nobody),
        || redis.command("REPLICAOF NO ONE"),
    )
}

#[test]
fn out_of_memory() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let begin = || redis.command("CONFIG SET maxmemory 1kb");
    let end = || redis.command("CONFIG SET maxmemory 0");
    refused(
        &redis,
        "refused: OOM: its memory is full",
        Connections::Kept,
        begin,
        end,
    );
}

#[test]
fn too_few_replicas() {
    let redis = Redis::start();
    let begin = || redis.command("CONFIG SET min-replicas-to-write 1");
    let end = || redis.command("CONFIG SET min-replicas-to-write 0");
    refused(
        &redis,
        "refused: NOREPLICAS: it takes no writes",
        Connections::Kept,
        begin,
        end,
    );
}

/// A snapshot can't take its name, since that is a folder's.
#[test]
fn a_failed_snapshot() {
    let redis = Redis::start();
    let (_, dir): (String, String) = redis.command("CONFIG GET dir");
    let folder = std::path::Path::new(&dir).join("dump.rdb");
    let save = |status: &str| {
        let _: String = redis.command("BGSAVE");
        eventually(status, Duration::from_secs(10), || {
            redis.info("rdb_last_bgsave_status").as_deref() == Some(status)
        });
    };
    let begin = || {
        let mut connection = redis.connect();
        let () = redis::cmd("CONFIG")
            .arg(&["SET", "save", "36000 1"])
            .query(&mut connection)
            .unwrap();
        std::fs::create_dir(&folder).unwrap();
        save("err");
    };
    let end = || {
        std::fs::remove_dir(&folder).unwrap();
        save("ok");
    };
    refused(
        &redis,
        "refused: MISCONF: it takes no writes",
        Connections::Kept,
        begin,
        end,
    );
}

#[test]
fn a_script_that_does_not_end() {
    let redis = Redis::start_with(&["--lua-time-limit", "1"]);
    let mut script: Option<JoinHandle<bool>> = None;
    let begin = || {
        let mut connection = redis.connect();
        script = Some(std::thread::spawn(move || {
            let endless: redis::RedisResult<()> = redis::cmd("EVAL")
                .arg("while true do end")
                .arg(0)
                .query(&mut connection);
            endless.is_err()
        }));
        let busy = |redis: &Redis| redis.try_command::<()>("PING").is_err();
        eventually("busy", Duration::from_secs(5), || busy(&redis));
    };
    let killed = || redis.command::<()>("SCRIPT KILL");
    refused(
        &redis,
        "refused: BUSY: somebody's script keeps it busy",
        Connections::Kept,
        begin,
        killed,
    );
    assert!(script.unwrap().join().unwrap(), "it was killed");
}

/// Data that takes so long to load that the server answers meanwhile.
#[test]
fn loading() {
    let redis = Redis::start_with(&[
        "--enable-debug-command",
        "yes",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let mut connection = redis.connect();
    fill(&mut connection);
    // Microseconds a key, while it loads.
    let () = redis.command("CONFIG SET key-load-delay 1000");
    let mut reload: Option<JoinHandle<()>> = None;
    let begin = || {
        reload = Some(std::thread::spawn(move || {
            let () = redis::cmd("DEBUG").arg("RELOAD").query(&mut connection).unwrap();
        }));
        let is_loading = || redis.info("loading").as_deref() == Some("1");
        eventually("it loads", Duration::from_secs(5), is_loading);
    };
    let end = || {
        eventually("it has loaded", Duration::from_secs(20), || {
            redis.info("loading").as_deref() == Some("0")
        });
    };
    refused(
        &redis,
        "refused: LOADING: it loads its data",
        Connections::Kept,
        begin,
        end,
    );
    reload.unwrap().join().unwrap();
}

fn fill(connection: &mut Connection) {
    let mut commands = redis::pipe();
    for number in 0..4_000 {
        commands
            .set(format!("other:{number}"), "x".repeat(1_024))
            .ignore();
    }
    let () = commands.query(connection).unwrap();
}

#[test]
fn scripts_that_were_flushed() {
    let redis = Redis::start();
    let site = Site::on(&redis);
    let connects = site.connects();
    for round in 1..=5 {
        let () = redis.command("SCRIPT FLUSH");
        assert!(site.ask_user("x"), "round {round}");
        assert_eq!(site.metric("ratekeeper_redis_script_reloads_total"), round);
    }
    assert_eq!((site.connects(), site.opened()), (connects, 0));
    assert_eq!(site.service.without_store(), 0);
    assert_eq!(used(&mut redis.connect(), &key_of("x")), 5);
}

#[test]
fn a_key_that_holds_something_else() {
    let redis = Redis::start();
    let site = Site::on(&redis);
    let connects = site.connects();
    let () = redis.connect().set(key_of("spoilt"), "not ours").unwrap();
    for round in 0..20 {
        assert!(!site.ask_user("spoilt"), "redis has decided");
        assert!(site.ask_user("x"), "round {round}: others are not touched");
    }
    assert_eq!((site.connects(), site.opened()), (connects, 0));
    let output = site.service.output();
    let said = output
        .lines()
        .filter(|line| line.contains("a key of ours holds something else"));
    let said: Vec<&str> = said.collect();
    assert!(said.len() == 1 && said[0].contains("user=spoilt"), "{said:?}");
    let mut connection = redis.connect();
    assert_eq!(used(&mut connection, &key_of("x")), 20);
    let kept: String = connection.get(key_of("spoilt")).unwrap();
    assert_eq!(kept, "not ours");
    let () = connection.del(key_of("spoilt")).unwrap();
    assert!(site.ask_user("spoilt"), "at once");
    assert_eq!(used(&mut connection, &key_of("spoilt")), 1);
}
