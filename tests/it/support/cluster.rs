//! A Redis Cluster on this machine.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use redis::Value;

use super::eventually;
use super::redis::{Kind, Options, Redis};

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

const PRIMARIES: usize = 3;
/// Nodes tell each other what they know every 100 ms or so; an election takes a node time-out and a half.
const AGREED_WITHIN: Duration = Duration::from_secs(30);

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Which servers.
    pub kind: Kind,
    /// Whether each primary has a replica.
    pub replicas: bool,
    /// Of all nodes, if any.
    pub password: Option<String>,
    /// They speak TLS with each other, with the certificates of this folder: see [`Options::with_tls`].
    pub tls: Option<PathBuf>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            kind: Kind::Installed,
            replicas: true,
            password: None,
            tls: None,
        }
    }
}

/// Three primaries with a third of the slots each, and a replica for each. A node counts as gone after a second.
#[derive(Debug)]
pub struct Cluster {
    /// The primaries at first, then their replicas in the same order.
    pub nodes: Vec<Redis>,
    ids: Vec<String>,
}

impl Cluster {
    /// Starts all of them and waits until they agree.
    pub fn start() -> Self {
        Self::start_with(&Setting::default())
    }

    /// The same without replicas, or of another kind.
    pub fn start_with(setting: &Setting) -> Self {
        let count = if setting.replicas {
            2 * PRIMARIES
        } else {
            PRIMARIES
        };
        let nodes: Vec<Redis> = (0..count).map(|_| node(setting)).collect();
        let ids = nodes.iter().map(|node| node.command("CLUSTER MYID")).collect();
        let cluster = Self { nodes, ids };
        for (index, node) in cluster.nodes[..PRIMARIES].iter().enumerate() {
            // Different ones, so that no two primaries must find out first who gives way.
            let () = node.command(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
            let slots: Vec<String> = slots_of(index).map(|slot| slot.to_string()).collect();
            let () = node.command(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
        }
        for node in &cluster.nodes[1..] {
            let () = cluster.nodes[0].command(&format!("CLUSTER MEET 127.0.0.1 {}", node.port_of_others()));
        }
        cluster.wait_met();
        for (replica, primary) in cluster.nodes[PRIMARIES..].iter().zip(&cluster.ids) {
            let () = replica.command(&format!("CLUSTER REPLICATE {primary}"));
        }
        cluster.wait_agreed();
        cluster
    }

    /// What `REDIS_URL` wants: all nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Redis::address_of_others).collect();
        addresses.join(",")
    }

    /// The slot of a key, as the servers count it.
    pub fn slot_of(&self, key: &str) -> u16 {
        let mut answers = self.nodes.iter().filter_map(|node| {
            let command = format!("CLUSTER KEYSLOT {key}");
            node.try_command(&command).ok()
        });
        answers.next().expect("no node answers")
    }

    /// The node that has this key's slot, as most nodes say that answer.
    pub fn primary_of(&self, key: &str) -> usize {
        self.owner(self.slot_of(key))
    }

    /// The node that has this slot, as most nodes say that answer.
    pub fn owner(&self, slot: u16) -> usize {
        let owners: Vec<usize> = self
            .nodes
            .iter()
            .filter_map(|node| self.owner_seen_by(node, slot))
            .collect();
        let votes = |node: &usize| owners.iter().filter(|other| *other == node).count();
        let most = owners.iter().copied().max_by_key(votes);
        most.unwrap_or_else(|| panic!("nobody has slot {slot}"))
    }

    /// The node that has this slot in the eyes of another one; none if it does not answer or knows nobody.
    pub fn owner_seen_by(&self, node: &Redis, slot: u16) -> Option<usize> {
        let ranges = slot_ranges(node)?;
        let (_, port) = ranges.into_iter().find(|(range, _)| range.contains(&slot))?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// The replica of this primary, if it has one now.
    pub fn replica_of(&self, primary: usize) -> Option<usize> {
        let port = self.nodes[primary].port_of_others().to_string();
        self.nodes.iter().position(|node| {
            node.info("role").as_deref() == Some("slave")
                && node.info("master_port").as_deref() == Some(&port)
        })
    }

    /// Waits until any node says that `slot` is another's than `old`'s; whose, and how long that took.
    pub fn wait_other_owner(&self, slot: u16, old: usize, within: Duration) -> (usize, Duration) {
        let mut new = old;
        let took = eventually("a slot has another owner", within, || {
            // Not the old one itself: it may be frozen, and to wait for it would hide how quick the others are.
            let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != old);
            let mut seen = others.filter_map(|(_, node)| self.owner_seen_by(node, slot));
            new = seen.find(|owner| *owner != old).unwrap_or(old);
            new != old
        });
        (new, took)
    }

    /// Moves the first `count` slots that `from` has to `to`, with their keys, as `redis-cli --cluster reshard` does, and
    /// pauses after each. Returns the slots.
    pub fn move_slots(&self, count: usize, from: usize, to: usize, pause: Duration) -> Vec<u16> {
        let slots: Vec<u16> = (0..SLOTS)
            .filter(|slot| {
                self.owned_by_itself(from)
                    .iter()
                    .any(|range| range.contains(slot))
            })
            .take(count)
            .collect();
        for slot in &slots {
            self.move_slot(*slot, from, to);
            std::thread::sleep(pause);
        }
        slots
    }

    fn owned_by_itself(&self, node: usize) -> Vec<RangeInclusive<u16>> {
        let port = self.nodes[node].port();
        let ranges = slot_ranges(&self.nodes[node]).expect("it does not answer");
        let own = ranges.into_iter().filter(|(_, owner)| *owner == port);
        own.map(|(range, _)| range).collect()
    }

    /// Moves one slot with its keys.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        self.begin_move(slot, from, to);
        let mut connection = source.connect();
        loop {
            let keys: Vec<Vec<u8>> = redis::cmd("CLUSTER")
                .arg(&["GETKEYSINSLOT", &slot.to_string(), "100"])
                .query(&mut connection)
                .unwrap();
            if keys.is_empty() {
                break;
            }
            // A key that ran out in between is no error: the answer is NOKEY.
            let _: String = redis::cmd("MIGRATE")
                .arg(&["127.0.0.1", &target.port().to_string(), "", "0", "5000", "KEYS"])
                .arg(keys)
                .query(&mut connection)
                .unwrap();
        }
        let owner = format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]);
        // The new owner first: nobody is to be sent to a node that does not know yet.
        let () = target.command(&owner);
        let () = source.command(&owner);
    }

    /// Begins to move a slot: keys that are not at `from` any more, or were never, are asked for at `to`.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.ids[from]);
        let () = self.nodes[to].command(&importing);
        let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.ids[to]);
        let () = self.nodes[from].command(&migrating);
    }

    /// Carries one key over; the slot must be on its way.
    pub fn carry(&self, key: &str, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        let answer: String = redis::cmd("MIGRATE")
            .arg(&["127.0.0.1", &port, key, "0", "5000"])
            .query(&mut self.nodes[from].connect())
            .unwrap();
        assert_eq!(answer, "OK");
    }

    /// Adds a primary without slots, which all others know; its place.
    pub fn add(&mut self, kind: Kind) -> usize {
        let new = node(&Setting {
            kind,
            ..Setting::default()
        });
        let () = new.command(&format!("CLUSTER MEET 127.0.0.1 {}", self.nodes[0].port()));
        self.ids.push(new.command("CLUSTER MYID"));
        self.nodes.push(new);
        self.wait_met();
        self.wait_agreed();
        self.nodes.len() - 1
    }

    /// Waits until all nodes that answer say that the cluster is complete, name the same owners, and all replicas are in step.
    pub fn wait_agreed(&self) {
        eventually("the cluster agrees", AGREED_WITHIN, || {
            let seen: Vec<_> = self.nodes.iter().filter_map(slot_ranges).collect();
            let complete = |node: &Redis| {
                let page: String = node.try_command("CLUSTER INFO").unwrap_or_default();
                page.contains("cluster_state:ok")
            };
            let in_step = |node: &Redis| match node.info("role").as_deref() {
                Some("slave") => node.info("master_link_status").as_deref() == Some("up"),
                role => role.is_some(),
            };
            let alive = self.nodes.iter().filter(|node| node.info("role").is_some());
            !seen.is_empty()
                && seen.iter().all(|ranges| *ranges == seen[0])
                && alive.clone().all(complete)
                && alive.clone().all(in_step)
        });
    }

    fn wait_met(&self) {
        eventually("the nodes know each other", AGREED_WITHIN, || {
            let knows_all = |node: &Redis| {
                let page: String = node.command("CLUSTER NODES");
                page.lines().count() == self.nodes.len()
                    && page.lines().all(|line| !line.contains("handshake"))
            };
            self.nodes.iter().all(knows_all)
        });
    }
}

/// The slots that a primary has at first.
fn slots_of(primary: usize) -> RangeInclusive<u16> {
    let first = |index: usize| u16::try_from(index * usize::from(SLOTS) / PRIMARIES).expect("below 16,384");
    first(primary)..=first(primary + 1) - 1
}

/// Who has which slots in the eyes of a node, by port and in order of the slots; none if it does not answer.
fn slot_ranges(node: &Redis) -> Option<Vec<(RangeInclusive<u16>, u16)>> {
    let rows: Vec<Vec<Value>> = node.try_command("CLUSTER SLOTS").ok()?;
    let read = |row: Vec<Value>| {
        let mut fields = row.into_iter();
        let mut next = || fields.next();
        let first: u16 = redis::from_redis_value(next()?).ok()?;
        let last: u16 = redis::from_redis_value(next()?).ok()?;
        let mut primary: Vec<Value> = redis::from_redis_value(next()?).ok()?;
        let port: u16 = redis::from_redis_value(primary.swap_remove(1)).ok()?;
        Some((first..=last, port))
    };
    let mut ranges: Vec<_> = rows.into_iter().filter_map(read).collect();
    ranges.sort_by_key(|(range, _)| *range.start());
    Some(ranges)
}

fn node(setting: &Setting) -> Redis {
    let mut options = Options {
        kind: setting.kind,
        with_bus: true,
        ..Options::default()
    };
    // A replica is in step at once, and may follow a primary however long it was away.
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    let of_replicas = [
        "--repl-diskless-sync-delay",
        "0",
        "--cluster-replica-validity-factor",
        "0",
    ];
    if let Some(password) = &setting.password {
        options = options.with(&["--requirepass", password, "--masterauth", password]);
    }
    if let Some(folder) = &setting.tls {
        options = options.with_tls(folder);
    }
    options.with(&arguments).with(&of_replicas).start()
}
