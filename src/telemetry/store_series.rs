//! Metrics of the shared store.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const WITHOUT: &str = "ratekeeper_decisions_without_store_total";
const CALLS: &str = "ratekeeper_redis_calls_total";
const CHARGES: &str = "ratekeeper_redis_charges_total";
const RELOADS: &str = "ratekeeper_redis_script_reloads_total";
const CONNECTS: &str = "ratekeeper_redis_connects_total";
const DISCONNECTS: &str = "ratekeeper_redis_disconnects_total";
const REDIRECTIONS: &str = "ratekeeper_redis_redirections_total";
const GIVEN_BACK: &str = "ratekeeper_redis_give_backs_total";
const RECOVERIES: &str = "ratekeeper_redis_recoveries_total";
const CONNECTED: &str = "ratekeeper_redis_connections";
const STATE: &str = "ratekeeper_redis_breaker_state";
const OPENED: &str = "ratekeeper_redis_breaker_opened_total";
const AWAY: &str = "ratekeeper_redis_away_seconds_total";
const INSTANCES: &str = "ratekeeper_instances";
const DENIALS: &str = "ratekeeper_deny_cache_total";
const LEASE_CALLS: &str = "ratekeeper_lease_calls_total";
const LEASE_HITS: &str = "ratekeeper_lease_hits_total";
const LEASE_HELD: &str = "ratekeeper_lease_held_hits";

/// Nodes that have series of their own, those that are gone included.
const NODES_MAX: usize = 64;

pub(super) fn describe() {
    describe_counter!(
        WITHOUT,
        Unit::Count,
        "Decisions made without the store, by reason"
    );
    describe_counter!(CALLS, Unit::Count, "Script calls sent");
    describe_counter!(CHARGES, Unit::Count, "Charges in those calls");
    describe_counter!(
        RELOADS,
        Unit::Count,
        "Calls sent again because the server had lost the script"
    );
    describe_counter!(CONNECTS, Unit::Count, "Connections made");
    describe_counter!(
        DISCONNECTS,
        Unit::Count,
        "Connections lost, and attempts to connect that failed"
    );
    describe_counter!(
        REDIRECTIONS,
        Unit::Count,
        "Requests that a node of a cluster sent to another one"
    );
    describe_counter!(
        GIVEN_BACK,
        Unit::Count,
        "Parts of denied requests that had been charged: given back (done), or not known to be (lost)"
    );
    describe_counter!(
        RECOVERIES,
        Unit::Count,
        "New or restarted primaries that were told what was charged lately"
    );
    describe_gauge!(CONNECTED, Unit::Count, "Connections open");
    describe_gauge!(
        STATE,
        Unit::Count,
        "0 while requests ask the node, 1 while they don't, 2 while a probe does"
    );
    describe_counter!(
        OPENED,
        Unit::Count,
        "How often the node was no longer asked, by reason"
    );
    describe_counter!(AWAY, Unit::Seconds, "How long the node was not asked");
    describe_gauge!(INSTANCES, Unit::Count, "Instances that share the limits");
    describe_counter!(
        DENIALS,
        Unit::Count,
        "Denials of the store that were kept, and requests that were denied by them without it (served)"
    );
    describe_counter!(LEASE_CALLS, Unit::Count, "Calls that booked hits ahead");
    describe_counter!(
        LEASE_HITS,
        Unit::Count,
        "Hits booked ahead (granted), and what became of them: spent (and undone, if the request was denied all the same), returned, or stranded until they leave their window"
    );
    describe_gauge!(
        LEASE_HELD,
        Unit::Count,
        "Hits that are booked ahead and not yet spent"
    );
}

/// What stands between requests and the shared store, since the start.
#[derive(Clone, Debug, Default)]
pub struct LayersObserved {
    /// Requests denied by the deny cache.
    pub denials_served: u64,
    /// Denials kept in it.
    pub denials_kept: u64,
    /// Calls that booked hits ahead.
    pub lease_calls: u64,
    /// Those hits, and what became of them.
    pub lease_hits: [(&'static str, u64); 5],
    /// Those that are held now.
    pub lease_held: u64,
}

/// What the shared store did since the start.
#[derive(Clone, Debug, Default)]
pub struct RedisObserved {
    /// What stands before it.
    pub layers: LayersObserved,
    /// Decisions made without it, by reason.
    pub without: Vec<(&'static str, u64)>,
    /// Script calls sent.
    pub calls: u64,
    /// Charges in them.
    pub charges: u64,
    /// Calls sent again because the server had lost the script.
    pub reloads: u64,
    /// Requests that were sent to another node.
    pub redirections: u64,
    /// Parts of denied requests that were given back.
    pub given_back: u64,
    /// Those of which that is not known.
    pub not_given_back: u64,
    /// New primaries.
    pub recoveries: u64,
    /// Connections made.
    pub connects: u64,
    /// Connections lost or not made.
    pub disconnects: u64,
    /// The nodes.
    pub nodes: Vec<NodeObserved>,
    /// Instances that share the limits, as far as this one knows.
    pub instances: u32,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct NodeObserved {
    /// Its name.
    pub name: String,
    /// Connections open.
    pub connected: u64,
    /// 0 closed, 1 open, 2 half-open.
    pub state: u8,
    /// How often its breaker opened, by reason.
    pub opened: Vec<(&'static str, u64)>,
    /// How long it was not asked, in seconds.
    pub away_s: u64,
}

/// Metrics of the shared store. They are there only when it is.
#[derive(Debug)]
pub struct RedisSeries {
    /// The nodes that have series, at most [`NODES_MAX`].
    nodes: Mutex<BTreeMap<String, NodeObserved>>,
}

impl RedisSeries {
    pub(super) fn new() -> Self {
        describe();
        Self {
            nodes: Mutex::default(),
        }
    }

    /// Shows what the store did. To be called inside the registry.
    pub(super) fn show(&self, it: &RedisObserved) {
        for (reason, count) in &it.without {
            counter!(WITHOUT, "reason" => *reason).absolute(*count);
        }
        counter!(CALLS).absolute(it.calls);
        counter!(CHARGES).absolute(it.charges);
        counter!(RELOADS).absolute(it.reloads);
        counter!(CONNECTS).absolute(it.connects);
        counter!(DISCONNECTS).absolute(it.disconnects);
        counter!(REDIRECTIONS).absolute(it.redirections);
        counter!(GIVEN_BACK, "result" => "done").absolute(it.given_back);
        counter!(GIVEN_BACK, "result" => "lost").absolute(it.not_given_back);
        counter!(RECOVERIES).absolute(it.recoveries);
        self.show_layers(&it.layers);
        self.show_nodes(&it.nodes);
        gauge!(INSTANCES).set(f64::from(it.instances));
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn show_layers(&self, it: &LayersObserved) {
        counter!(DENIALS, "result" => "served").absolute(it.denials_served);
        counter!(DENIALS, "result" => "kept").absolute(it.denials_kept);
        counter!(LEASE_CALLS).absolute(it.lease_calls);
        for (result, hits) in it.lease_hits {
            counter!(LEASE_HITS, "result" => result).absolute(hits);
        }
        gauge!(LEASE_HELD).set(it.lease_held as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn show_nodes(&self, nodes: &[NodeObserved]) {
        let mut known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // A series can't be taken away: of a node that is gone it says that it has nothing.
        for gone in known
            .keys()
            .filter(|name| nodes.iter().all(|node| node.name != **name))
        {
            gauge!(CONNECTED, "node" => gone.clone()).set(0.0);
            gauge!(STATE, "node" => gone.clone()).set(0.0);
        }
        for node in nodes {
            if known.len() >= NODES_MAX && !known.contains_key(&node.name) {
                continue;
            }
            let name = &node.name;
            let before = known.insert(name.clone(), node.clone()).unwrap_or_default();
            gauge!(CONNECTED, "node" => name.clone()).set(node.connected as f64);
            gauge!(STATE, "node" => name.clone()).set(f64::from(node.state));
            for (at, (reason, count)) in node
                .opened
                .iter()
                .enumerate()
                .filter(|(_, (_, count))| *count > 0)
            {
                let before = before.opened.get(at).map_or(0, |(_, before)| *before);
                counter!(OPENED, "node" => name.clone(), "reason" => *reason)
                    .increment(since(before, *count));
            }
            counter!(AWAY, "node" => name.clone()).increment(since(before.away_s, node.away_s));
        }
    }
}

/// What was added to a count, which begins anew when a node has left and come back.
fn since(before: u64, count: u64) -> u64 {
    if count < before { count } else { count - before }
}
