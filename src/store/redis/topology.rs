//! Which node serves a key, and where it is.
//!
//! | deployment | nodes | where they are |
//! |---|---|---|
//! | single | one | as the settings say |
//! | sentinel | one | as the sentinels say, who are asked again and again |
//! | cluster | one a primary | as the nodes say of their slots, and in redirections |

mod cluster;
mod sentinel;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use super::deployment::Deployment;
use super::flight::fail_jobs;
use super::keeper;
use super::lane::{Job, Lane, Way};
use super::node::{Lanes, Node, NodeState, Place, lock};
use super::recovery::Past;
use super::server::Server;
use super::slot::{slot_of, tag_in};
use super::slot_map::{Endpoint, SlotMap};
use super::{Context, RedisOptions};
use crate::store::guard::StoreError;

/// Jobs that wait for one lane; beyond that requests are decided without the store.
const QUEUE_MAX: usize = 4_096;

/// The nodes of a deployment.
#[derive(Debug)]
pub(super) struct Topology {
    nodes: ArcSwap<Nodes>,
    /// The runtimes of the threads that have attached. Locked also while the nodes change.
    threads: Mutex<Vec<(usize, Handle)>>,
    /// Asks for another look at who serves what.
    pub look: Notify,
    /// Whether there was a first look.
    pub known: watch::Sender<bool>,
}

/// The nodes, as they are now.
#[derive(Clone, Debug)]
enum Nodes {
    /// All keys are with this one.
    One(Arc<Node>),
    /// By slot.
    Many {
        map: SlotMap,
        /// In the order of the map's primaries.
        nodes: Vec<(Endpoint, Arc<Node>)>,
    },
}

impl Topology {
    /// The nodes that are known without asking.
    pub fn new(options: &RedisOptions) -> Self {
        let one = |place| {
            let name = options.name.to_owned();
            Nodes::One(Arc::new(Node::new(name, place, options.threads, Past::default())))
        };
        let nodes = match &options.deployment {
            Deployment::Single(server) => one(Place::At(Box::new(server.clone()))),
            Deployment::Sentinel { .. } => one(Place::Unknown),
            Deployment::Cluster { .. } => Nodes::Many {
                map: SlotMap::empty(),
                nodes: Vec::new(),
            },
        };
        Self {
            known: watch::Sender::new(matches!(nodes, Nodes::One(_))),
            nodes: ArcSwap::from_pointee(nodes),
            threads: Mutex::default(),
            look: Notify::new(),
        }
    }

    /// Starts the lanes of a thread on the current runtime, which they end with. The first thread keeps the nodes, too.
    pub fn attach(self: &Arc<Self>, thread: usize, context: &Arc<Context>) {
        let mut threads = lock(&self.threads);
        let first = threads.is_empty();
        threads.push((thread, Handle::current()));
        for node in self.all() {
            self.start_lanes(&node, thread, &Handle::current(), context);
            if first {
                tokio::spawn(keeper::keep(Arc::clone(&node.state), Arc::clone(context)));
            }
        }
        if first {
            match &context.options.deployment {
                Deployment::Single(_) => {}
                Deployment::Sentinel { .. } => {
                    tokio::spawn(sentinel::follow(Arc::downgrade(self), Arc::clone(context)));
                }
                Deployment::Cluster { .. } => {
                    tokio::spawn(cluster::follow(Arc::downgrade(self), Arc::clone(context)));
                }
            }
        }
    }

    fn start_lanes(&self, node: &Node, thread: usize, runtime: &Handle, context: &Arc<Context>) {
        let lanes: Lanes = (0..context.options.connections.max(1))
            .map(|_| {
                let (sender, jobs) = mpsc::channel(QUEUE_MAX);
                let lane = Lane {
                    node: Arc::clone(&node.state),
                    context: Arc::clone(context),
                    thread,
                    spares: Arc::default(),
                };
                runtime.spawn(lane.run(jobs));
                sender
            })
            .collect();
        node.set_lanes(thread, lanes);
    }

    /// All nodes.
    pub fn all(&self) -> Vec<Arc<Node>> {
        match &**self.nodes.load() {
            Nodes::One(node) => vec![Arc::clone(node)],
            Nodes::Many { nodes, .. } => nodes.iter().map(|(_, node)| Arc::clone(node)).collect(),
        }
    }

    /// The node that all keys are with, if there is only that one.
    pub fn only(&self) -> Option<Arc<Node>> {
        match &**self.nodes.load() {
            Nodes::One(node) => Some(Arc::clone(node)),
            Nodes::Many { .. } => None,
        }
    }

    /// The node that serves a slot.
    pub fn node_of(&self, slot: u16) -> Option<Arc<Node>> {
        match &**self.nodes.load() {
            Nodes::One(node) => Some(Arc::clone(node)),
            Nodes::Many { map, nodes } => {
                let (_, node) = nodes.get(map.owner(slot)?)?;
                Some(Arc::clone(node))
            }
        }
    }

    /// Where the server is that a key is on.
    pub fn server_of(&self, key: &str) -> Option<Server> {
        let node = self.node_of(slot_of(key))?;
        match &*node.state.place.borrow() {
            Place::At(server) => Some((**server).clone()),
            Place::Unknown | Place::Gone => None,
        }
    }

    /// A key `<prefix>{<n>}<name>` that a node serves, in none of the slots that are to be `avoided`; `None` if it serves no other.
    pub fn key_on(&self, node: &NodeState, prefix: &str, name: &str, avoided: &[u16]) -> Option<String> {
        let key = |tag: u32| format!("{prefix}{{{tag}}}{name}");
        let Nodes::Many { map, nodes } = &**self.nodes.load() else {
            return Some(key(0));
        };
        let place = nodes
            .iter()
            .position(|(_, known)| std::ptr::eq(&raw const *known.state, node))?;
        let is_served = |slot: u16| map.owner(slot) == Some(place) && !avoided.contains(&slot);
        // To look for one takes long where there are few.
        if let Some(tag) = node.tag().filter(|tag| is_served(slot_of(&tag.to_string()))) {
            return Some(key(tag));
        }
        if !(0..16_384).any(is_served) {
            return None;
        }
        let tag = tag_in(is_served)?;
        node.set_tag(tag);
        Some(key(tag))
    }

    /// Sends a lane's jobs on to where its node says they belong, unless it is their `last` try. A slot that has moved is known to
    /// have from now on.
    pub fn redirect(&self, lane: &Lane, jobs: Vec<Job>, to: &str, way: Way, last: bool) {
        // A slot that is on its way changes no map yet.
        if way != Way::Asking {
            self.look.notify_one();
        }
        lane.context.stats.add(|stats| &stats.redirections, jobs.len());
        let target = jobs.first().and_then(|job| self.target(lane, to, job.slot, way));
        let Some(target) = target.filter(|_| !last) else {
            fail_jobs(jobs, &StoreError::Moving);
            return;
        };
        for job in jobs {
            let Some(lane) = target.lane(lane.thread, || job.spread()) else {
                job.fail(StoreError::Moving);
                continue;
            };
            if let Err(refused) = lane.try_send(Job { way, ..job }) {
                refused.into_inner().fail(StoreError::Busy);
            }
        }
    }
}
