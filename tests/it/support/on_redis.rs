//! An instance that counts in Redis, and what tests ask it: one limit of the domain `d` at a time, or several.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;
use super::service::Service;

/// How long an instance may take to use a store that is there.
const USED_WITHIN: Duration = Duration::from_secs(10);

/// A charge: the entry's key and value, and the hits; a negative number gives hits back, and 0 only looks. What is above 0 is the
/// same number in all of a request.
pub type Hits<'a> = (&'a str, &'a str, i64);

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// 200 or 429.
    pub status: u16,
    statuses: Vec<Value>,
}

impl Answer {
    /// Whether the request may go on.
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The room that the limit of the descriptor at this place has left.
    pub fn remaining(&self, at: usize) -> u64 {
        self.statuses[at]["limitRemaining"].as_u64().unwrap_or(0)
    }

    /// The seconds until the limit of the descriptor at this place has room again.
    pub fn wait(&self, at: usize) -> u64 {
        let text = self.statuses[at]["durationUntilReset"].as_str().unwrap_or("0s");
        text.trim_end_matches('s').parse().expect("whole seconds")
    }
}

/// An instance on the store that the settings name, connected to it. It waits long for a store on a busy machine.
pub fn start(policies: &Path, settings: &[(&str, &str)]) -> Service {
    // What is in Redis is what was asked.
    let mut all = vec![
        ("REDIS_OP_TIMEOUT", "300ms"),
        ("RATEKEEPER_REDIS_LEASES", "false"),
    ];
    all.extend_from_slice(settings);
    let service = Service::start(policies, &all);
    service.wait_connected();
    service
}

/// Asks all of these limits at once.
pub fn ask(service: &Service, all: &[Hits<'_>]) -> Answer {
    let descriptors: Vec<Value> = all
        .iter()
        .map(|(key, value, hits)| {
            let mut descriptor = json!({"entries": [{"key": key, "value": value}]});
            // Hits of its own would be a cost, which is booked in any case.
            if *hits <= 0 {
                descriptor["hitsAddend"] = json!(hits.unsigned_abs().to_string());
                descriptor["isNegativeHits"] = json!(*hits < 0);
            }
            descriptor
        })
        .collect();
    let hits = all.iter().map(|(_, _, hits)| *hits).max().unwrap_or(1).max(1);
    let request = json!({"domain": "d", "hitsAddend": hits, "descriptors": descriptors});
    let response = service.ask(&request.to_string());
    assert!(
        matches!(response.status, 200 | 429),
        "{}: {}",
        response.status,
        response.body
    );
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    Answer {
        status: response.status,
        statuses: body["statuses"].as_array().cloned().unwrap_or_default(),
    }
}

/// Asks one limit, and insists on an answer from Redis.
pub fn ask_redis(service: &Service, hits: Hits<'_>) -> Answer {
    let before = service.without_store();
    let answer = ask(service, &[hits]);
    assert_eq!(
        service.without_store(),
        before,
        "{hits:?} was decided without redis"
    );
    answer
}

/// The room that a limit has left in Redis.
pub fn remaining(service: &Service, key: &str, value: &str) -> u64 {
    ask_redis(service, (key, value, 0)).remaining(0)
}

/// The sum of a metric's series whose line begins so.
pub fn metric(service: &Service, prefix: &str) -> f64 {
    let page = service.get("/metrics").body;
    let lines = page.lines().filter(|line| line.starts_with(prefix));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How many new primaries it has told what they may lack.
pub fn recoveries(service: &Service) -> u64 {
    metric(service, "ratekeeper_redis_recoveries_total") as u64
}

/// Waits until Redis decides about this limit again. Looks without hits, which no share counts.
pub fn wait_used(service: &Service, key: &str, value: &str) -> Duration {
    eventually("redis decides again", USED_WITHIN, || {
        let before = service.without_store();
        ask(service, &[(key, value, 0)]);
        service.without_store() == before
    })
}

/// Waits until the instance has left its marker on a server: from then on it notices a loss of data.
pub fn wait_marked(redis: &super::redis::Redis, instances: usize) {
    eventually("the marker is there", USED_WITHIN, || {
        let keys: Vec<String> = redis.command("KEYS rk:*seen:*");
        keys.len() >= instances
    });
}
