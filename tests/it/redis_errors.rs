//! Each error of Redis that `docs/redis.md` names: what becomes of the request, of the connections and of the breaker, what the log
//! says, and that the store is in use again when the cause has gone. Every request is charged once or not at all, counted in Redis.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

mod connecting;
mod kinds;
mod server;
mod slots;
mod splitting;

use std::time::Duration;

use redis::{Commands as _, Connection};
use tempfile::TempDir;

use crate::support::on_redis;
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, eventually};

/// What is decided without Redis is denied, and so told apart from what Redis decides: no limit is ever reached.
const POLICY: &str = "
domain: d
on_store_error: deny
shard_by: tenant
descriptors:
  - {key: user, rate_limit: {unit: year, requests_per_unit: 100000}}
  - key: tenant
    descriptors:
      - {key: path, rate_limit: {unit: year, requests_per_unit: 100000}}
";

/// For a breaker to open or to close, and for what is logged, on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// From a cause's end to the first decision by Redis: a second, and what a busy machine takes.
const IN_USE_WITHIN: Duration = Duration::from_millis(1_500);

/// An instance under test.
struct Site {
    service: Service,
    _dir: TempDir,
}

impl Site {
    /// Starts it with these settings and waits until it has used the store.
    fn start(settings: &[(&str, &str)]) -> Self {
        let dir = support::policies(&[("d.yaml", POLICY)]);
        let mut all = vec![("REDIS_SOCKET_TYPE", "tcp")];
        all.extend_from_slice(settings);
        let service = on_redis::start(dir.path(), &all);
        Self { service, _dir: dir }
    }

    fn on(redis: &Redis) -> Self {
        Self::start(&[("REDIS_URL", &redis.address())])
    }

    /// Asks for a hit; whether Redis has admitted it.
    fn ask(&self, entries: &[(&str, &str)]) -> bool {
        let response = self.service.ask(&json(&[entries]));
        assert!(matches!(response.status, 200 | 429), "{response:?}");
        response.status == 200
    }

    fn ask_user(&self, user: &str) -> bool {
        self.ask(&[("user", user)])
    }

    /// The sum of a metric's series that begin so.
    fn metric(&self, name: &str) -> u64 {
        let page = self.service.get("/metrics").body;
        let lines = page
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    fn connects(&self) -> u64 {
        self.metric("ratekeeper_redis_connects_total")
    }

    fn opened(&self) -> u64 {
        self.metric("ratekeeper_redis_breaker_opened_total")
    }

    /// Whether any node is not asked now.
    fn is_away(&self) -> bool {
        self.metric("ratekeeper_redis_breaker_state") > 0
    }

    /// Asks until the breaker opens. Redis decides nothing meanwhile.
    fn ask_until_open(&self, user: &str) {
        eventually("the breaker opens", SOON, || {
            assert!(!self.ask_user(user), "redis has decided");
            self.is_away()
        });
    }

    fn wait_said(&self, text: &str) {
        eventually(text, SOON, || self.service.output().contains(text));
    }

    /// Asks until Redis decides again.
    fn wait_in_use(&self, user: &str) -> Duration {
        eventually("in use again", IN_USE_WITHIN, || self.ask_user(user))
    }
}

/// A request of these descriptors.
fn json(descriptors: &[&[(&str, &str)]]) -> String {
    let entry = |(key, value): &(&str, &str)| format!(r#"{{"key":"{key}","value":"{value}"}}"#);
    let descriptor = |entries: &&[(&str, &str)]| {
        let entries: Vec<String> = entries.iter().map(entry).collect();
        format!(r#"{{"entries":[{}]}}"#, entries.join(","))
    };
    let all: Vec<String> = descriptors.iter().map(descriptor).collect();
    format!(r#"{{"domain":"d","descriptors":[{}]}}"#, all.join(","))
}

/// The counter of a user.
fn key_of(user: &str) -> String {
    // A year of 365 days.
    format!("rk:{{d|user={user}}}:sw1:31536000")
}

/// The hits on a counter: the newest total less the base.
fn used(connection: &mut Connection, key: &str) -> u64 {
    let totals: Vec<u64> = connection.zrange(key, 0, -1).unwrap();
    match (totals.first(), totals.last()) {
        (Some(base), Some(newest)) => newest - base,
        _ => 0,
    }
}
