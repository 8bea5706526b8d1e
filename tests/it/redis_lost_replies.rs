//! A call whose reply is lost was executed once or not at all, and never again: counted in Redis, on all kinds of deployments.
//!
//! Proxies stand before the servers. Requests on keys of their own are sent while answers come too late or never: what was
//! asked for reaches Redis, and what it says does not reach the service.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Commands as _;
use tempfile::TempDir;

use crate::support::cluster::{Cluster, Setting};
use crate::support::http::Connection;
use crate::support::on_redis;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::Redis;
use crate::support::sentinel::{NAME, Sentinels};
use crate::support::service::Service;
use crate::support::{self, eventually};

/// What is decided without Redis is denied, and so told apart.
const POLICY: &str = "
domain: d
on_store_error: deny
descriptors:
  - {key: user, rate_limit: {unit: year, requests_per_unit: 1000}}
  - {key: once, rate_limit: {unit: year, requests_per_unit: 1}}
";

const OP_TIMEOUT: &str = "60ms";
/// After the deadline, and before the connection counts as lost.
const LATE: Duration = Duration::from_millis(150);
/// Before the deadline.
const SLOW: Duration = Duration::from_millis(40);
/// Longer than an idle connection goes without a sign of life.
const IDLE: Duration = Duration::from_millis(700);
const ROUNDS: usize = 12;
/// Requests sent at once. Each lane takes several calls before requests wait.
const AT_ONCE: usize = 30;
const WELL_WITHIN: Duration = Duration::from_secs(15);

/// A service behind proxies, and how well connected it was at first.
struct Site {
    service: Service,
    connections: f64,
    _dir: TempDir,
}

impl Site {
    fn start(settings: &[(&str, &str)]) -> Self {
        let dir = support::policies(&[("d.yaml", POLICY)]);
        let mut all = vec![
            ("REDIS_OP_TIMEOUT", OP_TIMEOUT),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_POOL_SIZE", "30"),
        ];
        all.extend_from_slice(settings);
        let service = on_redis::start(dir.path(), &all);
        let mut site = Self {
            service,
            connections: 0.0,
            _dir: dir,
        };
        let mut before = -1.0;
        eventually("all lanes are connected", WELL_WITHIN, || {
            let now = site.metric("ratekeeper_redis_connections{");
            std::thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut before, now) == now
        });
        site.connections = before;
        site
    }

    fn metric(&self, prefix: &str) -> f64 {
        let page = self.service.get("/metrics").body;
        let lines = page.lines().filter(|line| line.starts_with(prefix));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until the store is used as at first.
    fn wait_well(&self) {
        eventually("all is well again", WELL_WITHIN, || {
            self.metric("ratekeeper_redis_breaker_state{") == 0.0
                && self.metric("ratekeeper_redis_connections{") >= self.connections
        });
    }

    /// Sends all of these at once; which were admitted.
    fn ask(&self, requests: &[Vec<(&str, String)>], meanwhile: impl FnOnce()) -> Vec<bool> {
        let open = |_| Connection::open(self.service.http_address()).unwrap();
        let mut connections: Vec<Connection> = requests.iter().map(open).collect();
        for (request, connection) in requests.iter().zip(&mut connections) {
            let descriptor = |(key, value): &(&str, String)| {
                format!(r#"{{"entries":[{{"key":"{key}","value":"{value}"}}]}}"#)
            };
            let all: Vec<String> = request.iter().map(descriptor).collect();
            let json = format!(r#"{{"domain":"d","descriptors":[{}]}}"#, all.join(","));
            connection.send_body("POST", "/json", &[], &json).unwrap();
        }
        meanwhile();
        connections
            .iter_mut()
            .map(|connection| match connection.receive().unwrap().status {
                200 => true,
                429 => false,
                other => panic!("{other}\n{}", self.service.output()),
            })
            .collect()
    }

    /// Asks for these counters until each has a hit.
    fn charge(&self, servers: &[&Redis], limit: &'static str, mut values: Vec<String>) {
        eventually("all have a hit", WELL_WITHIN, || {
            for some in values.chunks(AT_ONCE) {
                let requests: Vec<_> = some.iter().map(|value| vec![(limit, value.clone())]).collect();
                self.ask(&requests, || {});
            }
            let used = used(servers, limit);
            values.retain(|value| !used.contains_key(value));
            values.is_empty()
        });
    }

    /// Asks again and again while replies are lost, in three ways in turn; what each request was and whether it was admitted.
    fn lose_replies(
        &self,
        proxies: &[Proxy],
        request: impl Fn(usize) -> Vec<(&'static str, String)>,
    ) -> Vec<(usize, bool)> {
        let set = |mode| proxies.iter().for_each(|proxy| proxy.set(mode));
        let cut = || proxies.iter().for_each(Proxy::cut);
        let mut outcomes = Vec::new();
        for round in 0..ROUNDS {
            self.wait_well();
            let numbers: Vec<usize> = (round * AT_ONCE..(round + 1) * AT_ONCE).collect();
            let requests: Vec<_> = numbers.iter().map(|number| request(*number)).collect();
            // Some without a fault: the test is to see both.
            set(Mode::Pass);
            let (well, faulty) = requests.split_at(AT_ONCE / 5);
            let mut admitted = self.ask(well, || {});
            set(Mode::Delay(if round % 3 == 2 { SLOW } else { LATE }));
            admitted.extend(self.ask(faulty, || {
                if round % 3 == 2 {
                    // From here on nothing would keep a second try from its answer.
                    std::thread::sleep(SLOW / 2);
                    cut();
                    set(Mode::Pass);
                }
            }));
            set(Mode::Pass);
            // What is late holds up what comes behind it, and idle connections that are cut are noticed by their next sign of life.
            if round % 3 == 1 {
                cut();
            }
            std::thread::sleep(if round % 3 == 0 { LATE } else { IDLE });
            outcomes.extend(numbers.into_iter().zip(admitted));
        }
        self.wait_well();
        outcomes
    }
}

/// The hits of each counter of a limit: newest total less base, over all of these servers.
fn used(servers: &[&Redis], limit: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for server in servers {
        let mut connection = server.connect();
        let prefix = format!("rk:{{d|{limit}=");
        let keys: Vec<String> = connection.keys(format!("{prefix}*")).unwrap();
        for key in keys {
            let totals: Vec<u64> = connection.zrange(&key, 0, -1).unwrap();
            let value = key.trim_start_matches(&prefix).split('}').next().unwrap();
            *all.entry(value.to_owned()).or_default() += totals.last().unwrap() - totals.first().unwrap();
        }
    }
    all
}

/// Requests of one counter each.
fn each_is_executed_at_most_once(site: &Site, proxies: &[Proxy], servers: &[&Redis]) {
    let outcomes = site.lose_replies(proxies, |number| vec![("user", format!("u{number}"))]);
    let used = used(servers, "user");
    let (mut answered, mut lost, mut not_run) = (0, 0, 0);
    for (number, admitted) in &outcomes {
        let hits = used.get(&format!("u{number}")).copied().unwrap_or(0);
        match (admitted, hits) {
            (true, 1) => answered += 1,
            (false, 1) => lost += 1,
            (false, 0) => not_run += 1,
            wrong => panic!("request {number}: {wrong:?}\n{}", site.service.output()),
        }
    }
    println!("{answered} answered, {lost} executed without an answer, {not_run} not executed");
    assert_eq!(
        used.values().sum::<u64>(),
        answered + lost,
        "nothing else was charged"
    );
    assert!(
        answered >= 40 && lost >= 100,
        "too few to show anything: {answered}, {lost}\n{}",
        site.service.output()
    );
}

#[test]
fn one_redis() {
    let redis = Redis::start();
    let proxies = [Proxy::start(redis.port())];
    let site = Site::start(&[("REDIS_URL", &proxies[0].address())]);
    each_is_executed_at_most_once(&site, &proxies, &[&redis]);
}

#[test]
fn sentinels() {
    let all = Sentinels::start();
    let primary = &all.members[all.primary()];
    let proxies = [Proxy::start(primary.port())];
    let (host, port) = proxies[0]
        .address()
        .rsplit_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    for sentinel in &all.sentinels {
        let () = sentinel.command(&format!("SENTINEL REMOVE {NAME}"));
    }
    for sentinel in &all.sentinels {
        // With the usual 30 s until a primary counts as down.
        let () = sentinel.command(&format!("SENTINEL MONITOR {NAME} {host} {port} 3"));
    }
    let site = Site::start(&[("REDIS_TYPE", "SENTINEL"), ("REDIS_URL", &all.url())]);
    let before = proxies[0].bytes().0;
    each_is_executed_at_most_once(&site, &proxies, &[primary]);
    assert!(proxies[0].bytes().0 > before, "the proxy is on the way");
}

/// A cluster whose nodes call themselves by their proxies' ports.
fn proxied_cluster() -> (Cluster, Vec<Proxy>) {
    let cluster = Cluster::start_with(&Setting {
        replicas: false,
        ..Setting::default()
    });
    let proxies: Vec<Proxy> = cluster
        .nodes
        .iter()
        .map(|node| Proxy::start(node.port()))
        .collect();
    let port = |proxy: &Proxy| proxy.address().rsplit(':').next().unwrap().to_owned();
    for (node, proxy) in cluster.nodes.iter().zip(&proxies) {
        let () = node.command(&format!("CONFIG SET cluster-announce-port {}", port(proxy)));
    }
    eventually("all nodes know all proxies", WELL_WITHIN, || {
        cluster.nodes.iter().all(|node| {
            let page: String = node.command("CLUSTER NODES");
            proxies
                .iter()
                .all(|proxy| page.contains(&format!(":{}@", port(proxy))))
        })
    });
    (cluster, proxies)
}

fn on_cluster(proxies: &[Proxy]) -> Site {
    let addresses: Vec<String> = proxies.iter().map(Proxy::address).collect();
    Site::start(&[("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", &addresses.join(","))])
}

#[test]
fn cluster() {
    let (cluster, proxies) = proxied_cluster();
    let site = on_cluster(&proxies);
    let servers: Vec<&Redis> = cluster.nodes.iter().collect();
    each_is_executed_at_most_once(&site, &proxies, &servers);
}

/// Requests over two slots, of which every second is denied by the one: what the other had booked is given back at most once, and never
/// more than that.
#[test]
fn cluster_over_two_slots() {
    let (cluster, proxies) = proxied_cluster();
    let site = on_cluster(&proxies);
    let servers: Vec<&Redis> = cluster.nodes.iter().collect();
    let is_spent = |number: usize| number.is_multiple_of(2);
    // Hits that nobody may take back.
    let numbers = || 0..ROUNDS * AT_ONCE;
    site.charge(
        &servers,
        "user",
        numbers().map(|number| format!("u{number}")).collect(),
    );
    let spent = numbers().filter(|number| is_spent(*number));
    site.charge(
        &servers,
        "once",
        spent.map(|number| format!("o{number}")).collect(),
    );
    let before = used(&servers, "user");
    let outcomes = site.lose_replies(&proxies, |number| {
        vec![("user", format!("u{number}")), ("once", format!("o{number}"))]
    });
    let (users, onces) = (used(&servers, "user"), used(&servers, "once"));
    let hits = |of: &BTreeMap<String, u64>, name: String| of.get(&name).copied().unwrap_or(0);
    let (mut admitted_both, mut clean, mut left) = (0, 0, 0);
    for (number, admitted) in outcomes {
        let user = hits(&users, format!("u{number}")) - hits(&before, format!("u{number}"));
        let once = hits(&onces, format!("o{number}"));
        match (admitted, is_spent(number), user, once) {
            (true, false, 1, 1) => admitted_both += 1,
            // Denied, or not decided by Redis: all given back or never booked, or left behind where nobody knew.
            (false, true, 0, 1) | (false, false, 0, 0) => clean += 1,
            (false, true, 1, 1) | (false, false, 0 | 1, 1) | (false, false, 1, 0) => left += 1,
            wrong => panic!("request {number}: {wrong:?}\n{}", site.service.output()),
        }
    }
    let given = site.metric("ratekeeper_redis_give_backs_total{");
    println!("{admitted_both} admitted, {clean} left nothing, {left} left a part; {given} give-backs");
    assert!(
        admitted_both >= 20 && clean >= 20 && left >= 50 && given >= 10.0,
        "too few to show anything\n{}",
        site.service.output()
    );
}
