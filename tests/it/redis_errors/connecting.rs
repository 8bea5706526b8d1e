//! What a server says to those who connect, and to users who may not do what is needed.

use std::time::Duration;

use redis::Connection;

use super::{Site, key_of, used};
use crate::support::eventually;
use crate::support::redis::Redis;

/// Cuts all connections but this one.
fn cut(connection: &mut Connection) {
    let _: u64 = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query(connection)
        .unwrap();
}

fn config(connection: &mut Connection, name: &str, value: &str) {
    let () = redis::cmd("CONFIG")
        .arg(&["SET", name, value])
        .query(connection)
        .unwrap();
}

fn acl(connection: &mut Connection, words: &[&str]) {
    let () = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("limiter")
        .arg(words)
        .query(connection)
        .unwrap();
}

/// New connections are refused, from begin to end.
fn refused(site: &Site, control: &mut Connection, said: &str, end: impl FnOnce(&mut Connection)) {
    assert!(site.ask_user("x"), "connections that stand are as good as before");
    cut(control);
    site.ask_until_open("x");
    site.wait_said(said);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!site.ask_user("x"));
    assert_eq!(
        site.opened(),
        1,
        "a probe let requests through\n{}",
        site.service.output()
    );
    let lines = site.service.output();
    let repeated = lines
        .lines()
        .filter(|line| line.contains("can't be reached"))
        .count();
    assert!(repeated <= 4, "it is said again and again\n{lines}");
    end(control);
    let took = site.wait_in_use("x");
    println!("{said}: in use again after {took:?}");
    assert_eq!(used(control, &key_of("x")), 2, "each was charged once");
}

#[test]
fn no_password_is_given() {
    let redis = Redis::start();
    let (site, mut control) = (Site::on(&redis), redis.connect());
    config(&mut control, "requirepass", "hunter2");
    refused(
        &site,
        &mut control,
        "refused: NOAUTH: it wants a password",
        |control| {
            config(control, "requirepass", "");
        },
    );
}

#[test]
fn a_wrong_password() {
    let redis = Redis::start_with(&["--requirepass", "hunter1"]);
    let address = redis.address();
    let site = Site::start(&[("REDIS_URL", &address), ("REDIS_AUTH", "hunter1")]);
    let mut control = redis.connect();
    let () = redis::cmd("AUTH").arg("hunter1").query(&mut control).unwrap();
    config(&mut control, "requirepass", "hunter2");
    refused(&site, &mut control, "wrong user or password", |control| {
        config(control, "requirepass", "hunter1");
    });
    let output = site.service.output();
    assert!(!output.contains("hunter"), "a password is in the log");
}

#[test]
fn more_clients_than_allowed() {
    let redis = Redis::start();
    let (site, mut control) = (Site::on(&redis), redis.connect());
    config(&mut control, "maxclients", "1");
    refused(
        &site,
        &mut control,
        "refused: ERR: it has as many clients as it may have",
        |control| config(control, "maxclients", "1000"),
    );
}

/// The rights of the page on Redis.
fn limiter(redis: &Redis) -> Site {
    let mut control = redis.connect();
    acl(&mut control, &["on", ">s3cret", "~rk:*", "+info"]);
    let rights: Vec<&str> = crate::lua_redis::COMMANDS.split(' ').collect();
    acl(&mut control, &rights);
    let address = redis.address();
    Site::start(&[("REDIS_URL", &address), ("REDIS_AUTH", "limiter:s3cret")])
}

/// A right that scripts need, taken from a user who is connected: probes need it, too.
#[test]
fn a_right_that_was_taken() {
    let redis = Redis::start();
    let (site, mut control) = (limiter(&redis), redis.connect());
    let connects = site.connects();
    assert!(site.ask_user("x"));
    acl(&mut control, &["-evalsha"]);
    site.ask_until_open("x");
    site.wait_said("refused: NOPERM: the user may not do what is needed");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!site.ask_user("x"));
    assert_eq!(
        site.opened(),
        1,
        "a probe let requests through\n{}",
        site.service.output()
    );
    acl(&mut control, &["+evalsha"]);
    println!("in use again after {:?}", site.wait_in_use("x"));
    assert_eq!(site.connects(), connects, "the connections are kept");
    assert_eq!(used(&mut control, &key_of("x")), 2);
}

/// One that only connecting needs.
#[test]
fn a_right_that_a_new_connection_needs() {
    let redis = Redis::start();
    let (site, mut control) = (limiter(&redis), redis.connect());
    acl(&mut control, &["-script|load"]);
    refused(&site, &mut control, "refused: NOPERM", |control| {
        acl(control, &["+script|load"]);
    });
}

/// A server that may be asked again says that it was refused once for each outage.
#[test]
fn each_outage_says_its_reason() {
    let redis = Redis::start();
    let (site, mut control) = (Site::on(&redis), redis.connect());
    for outage in 1..=2 {
        config(&mut control, "min-replicas-to-write", "1");
        site.ask_until_open("x");
        // The doctor may say it, too.
        let said = |text: &str| {
            let output = site.service.output();
            output
                .lines()
                .filter(|line| line.contains(text) && !line.contains("doctor") && !line.contains("examined"))
                .count()
        };
        eventually("it is said", Duration::from_secs(3), || {
            said("NOREPLICAS") == outage
        });
        config(&mut control, "min-replicas-to-write", "0");
        site.wait_in_use("x");
        eventually("its end, too", Duration::from_secs(3), || {
            said("redis is back") == outage
        });
    }
}
