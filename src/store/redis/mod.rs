//! Counters in Redis: shared by all instances, decided by atomic scripts.
//!
//! ```text
//! request ──part of a slot──> topology ──node──> lane (one a connection) ──flight: what waits, by slot──> script ──> verdicts
//!                                 │                 │
//!      sentinels, slots, redirections            keeper: probes, marker; recovery of a new primary
//! ```
//!
//! Each serving thread has lanes of its own to each node; a lane owns one multiplexed connection, which the requests of its thread
//! share. A connection is never checked out per request: that costs a round trip. Requests that wait while calls are under way leave
//! together in the next one; an idle lane sends at once.

pub mod address;
pub mod call;
mod connect_error;
pub mod deployment;
pub mod doctor;
mod flight;
pub mod give_back;
mod heart;
pub mod identity;
mod keeper;
mod lane;
pub mod lease;
mod link;
mod node;
mod pair;
mod pauses;
pub mod recent;
mod recovery;
mod rows;
pub mod script;
pub mod server;
pub mod slot;
pub mod slot_map;
mod spare;
mod time;
mod topology;

use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{RedisError, RedisResult};
use tokio::sync::oneshot;

use self::deployment::Deployment;
use self::give_back::GIVE_BACKS_MAX;
pub use self::heart::Heart;
use self::lane::{Job, Way, Work};
use self::node::{Node, NodeState, random};
pub use self::pair::Pair;
use self::slot::slot_of;
use self::topology::Topology;
use super::guard::{Asked, BreakerState, Decided, Granted, Instances, Part, Remote, StoreError, Wait};
use crate::clock::Clock;
use crate::limiter::{Limit, Micros, Reading};

/// What was confirmed is given back within this time, or not at all.
const GIVE_BACK_US: Micros = 1_000_000;

/// So many keys are tried if their slots are on the way to another node.
const MOVING_MAX: usize = 4;

thread_local! {
    /// Which thread's lanes this thread uses.
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// How servers are used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The servers.
    pub deployment: Deployment,
    /// What it is called in logs and metrics, where its nodes have no addresses to be told apart by.
    pub name: &'static str,
    /// What all keys begin with.
    pub prefix: String,
    /// Threads that will [`RedisStore::attach`].
    pub threads: usize,
    /// Connections a thread and node, at least 1.
    pub connections: usize,
    /// The longest wait of a request.
    pub op_timeout: Duration,
    /// The longest time to connect.
    pub connect_timeout: Duration,
}

impl RedisOptions {
    /// Whether keys are spread over slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.deployment, Deployment::Cluster { .. })
    }
}

/// Counts of what happened since the start.
#[derive(Debug, Default)]
pub struct RedisStats {
    /// Script calls sent.
    pub calls: AtomicU64,
    /// Charges in them.
    pub charges: AtomicU64,
    /// Calls sent again because the server had lost the script.
    pub reloads: AtomicU64,
    /// Requests that a node sent to another one.
    pub redirections: AtomicU64,
    /// Parts of denied requests whose charges were given back, and those that could not be.
    pub given_back: AtomicU64,
    /// See `given_back`.
    pub not_given_back: AtomicU64,
    /// New primaries that were told what they may lack.
    pub recoveries: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
    /// Connections that could not be made or were lost.
    pub disconnects: AtomicU64,
}

/// How a node is, for metrics and people.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its address, or what it is called.
    pub name: String,
    /// Connections open.
    pub connected: u64,
    /// Whether it is asked.
    pub breaker: BreakerState,
    /// How often its breaker opened, by reason.
    pub opened: Vec<(&'static str, u64)>,
    /// How long it was not asked since the start, in microseconds.
    pub away_us: Micros,
}

/// What all lanes share.
#[derive(Debug)]
struct Context {
    options: RedisOptions,
    clock: Clock,
    stats: RedisStats,
    /// A name unlike any other process's, also after a restart.
    process: String,
    topology: Weak<Topology>,
}

impl Context {
    /// A key of this process that a node serves, in none of the slots that are to be `avoided`; `None` if it serves no other.
    fn key_on(&self, node: &NodeState, what: &str, avoided: &[u16]) -> Option<String> {
        let name = format!("{what}:{}", self.process);
        let topology = self.topology.upgrade()?;
        topology.key_on(node, &self.options.prefix, &name, avoided)
    }

    /// Adds a key's slot to those to be avoided, if it is on its way to another node: this one takes writes to its others.
    ///
    /// # Errors
    /// Any other refusal, and this one for too many keys.
    fn pass_over(&self, error: RedisError, key: &str, moving: &mut Vec<u16>) -> RedisResult<()> {
        if !(self.options.is_cluster() && link::is_elsewhere(&error) && moving.len() < MOVING_MAX) {
            return Err(error);
        }
        moving.push(slot_of(key));
        Ok(())
    }
}

/// The lanes to a deployment.
#[derive(Debug)]
pub struct RedisStore {
    context: Arc<Context>,
    topology: Arc<Topology>,
    /// The node of all keys, where there is but one.
    only: Option<Arc<Node>>,
}

/// A node for the time of a request. Without a cluster it is always there, and need not be counted.
enum Chosen<'a> {
    Only(&'a Node),
    Of(Arc<Node>),
}

impl Deref for Chosen<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Only(node) => node,
            Self::Of(node) => node,
        }
    }
}

impl RedisStore {
    /// Lanes to a deployment. Connects nothing yet.
    #[must_use]
    pub fn new(options: RedisOptions, clock: Clock) -> Self {
        let topology = Arc::new(Topology::new(&options));
        let context = Context {
            options,
            clock,
            stats: RedisStats::default(),
            process: random_name(),
            topology: Arc::downgrade(&topology),
        };
        Self {
            context: Arc::new(context),
            only: topology.only(),
            topology,
        }
    }

    /// Starts the lanes of the current thread, the `thread`th, on its runtime. They end with the runtime. The first thread that
    /// attaches also follows the deployment.
    pub fn attach(&self, thread: usize) {
        let thread = thread % self.context.options.threads.max(1);
        THREAD.set(thread);
        self.topology.attach(thread, &self.context);
    }

    /// Starts to count the instances on the list `key`, on the current runtime, and to note in `instances` what comes of it.
    #[must_use]
    pub fn count_instances(&self, key: String, instances: Arc<Instances>) -> Heart {
        Heart::start(
            Arc::clone(&self.topology),
            Arc::clone(&self.context),
            key,
            instances,
        )
    }

    /// What happened since the start.
    #[must_use]
    pub fn stats(&self) -> &RedisStats {
        &self.context.stats
    }

    /// How the nodes are.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        let now = self.context.clock.now_us();
        let view = |node: Arc<Node>| NodeView {
            name: node.state.name.clone(),
            connected: node.state.connected.load(Ordering::Relaxed),
            breaker: node.state.breaker.state(),
            opened: node.state.breaker.opened().collect(),
            away_us: node.state.breaker.open_us(now),
        };
        self.topology.all().into_iter().map(view).collect()
    }

    fn chosen(&self, slot: u16) -> Option<Chosen<'_>> {
        match &self.only {
            Some(node) => Some(Chosen::Only(node)),
            None => self.topology.node_of(slot).map(Chosen::Of),
        }
    }

    /// The node of a slot. At the start requests wait for the first look at the slots, each for its own time.
    async fn node(&self, slot: u16, budget: Duration) -> Option<Chosen<'_>> {
        if let Some(node) = self.chosen(slot) {
            return Some(node);
        }
        let mut known = self.topology.known.subscribe();
        if !*known.borrow() {
            // Too late is not there.
            let _ = tokio::time::timeout(budget, known.wait_for(|known| *known)).await;
        }
        self.chosen(slot)
    }

    /// Has work done on a lane to the node of a part, and tells its breaker what became of it.
    async fn send<T>(
        &self,
        part: Part,
        wait: Wait,
        spread: impl FnOnce() -> usize + Send,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work + Send,
    ) -> Result<T, StoreError> {
        let slot = slot(part);
        let node = self.node(slot, self.budget(wait.until)).await;
        let node = node.ok_or(StoreError::Disconnected)?;
        let breaker = &node.state.breaker;
        if !breaker.admits() {
            return Err(StoreError::Open);
        }
        let lane = node.lane(THREAD.get(), spread).ok_or(StoreError::Disconnected)?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            slot,
            give_up_at: wait.until,
            way: Way::Straight,
            work: work(reply),
        };
        let result = match lane.try_send(job) {
            Err(_) => Err(StoreError::Busy),
            Ok(()) => match tokio::time::timeout(self.budget(wait.until), answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(StoreError::Disconnected),
                Err(_) => Err(StoreError::Timeout),
            },
        };
        match &result {
            Ok(_) | Err(StoreError::Key) => breaker.succeeded(self.context.clock.now_us()),
            // These say nothing about the store: the request, a lane that has said it itself, a slot on its way, or a caller that
            // waited for less.
            Err(StoreError::Unfit(_) | StoreError::Disconnected | StoreError::Open) => {}
            Err(StoreError::Moving) if self.context.options.is_cluster() => {}
            Err(StoreError::Timeout) if wait.hurried => {}
            Err(error) => node
                .state
                .moved(breaker.failed(self.context.clock.now_us(), error.into())),
        }
        result
    }

    fn budget(&self, until: Micros) -> Duration {
        Duration::from_micros(until.saturating_sub(self.context.clock.now_us()))
    }
}

/// A slot is all that tells the parts of a deployment apart.
fn slot(part: Part) -> u16 {
    u16::try_from(part.0 & 0xFFFF).unwrap_or(0)
}

impl Remote for RedisStore {
    fn only_part(&self) -> Option<Part> {
        self.only.is_some().then_some(Part(0))
    }

    fn part(&self, key: &str, _: &Limit) -> Part {
        match self.only {
            Some(_) => Part(0),
            None => Part(slot_of(key).into()),
        }
    }

    fn admits(&self, part: Part) -> bool {
        // Of a node that is not known yet nothing bad is known.
        self.chosen(slot(part))
            .is_none_or(|node| node.state.breaker.admits())
    }

    fn emptied_at(&self, part: Part) -> Option<Micros> {
        self.chosen(slot(part))?.state.emptied_at()
    }

    fn longest_wait(&self, _: Part) -> Micros {
        u64::try_from(self.context.options.op_timeout.as_micros()).unwrap_or(u64::MAX)
    }

    async fn ask(&self, part: Part, asked: Arc<Asked>, wait: Wait) -> Result<Decided, StoreError> {
        let spread = Arc::clone(&asked);
        let work = |reply| Work::Charge { asked, reply };
        self.send(part, wait, move || spread.spread(), work).await
    }

    async fn lease(
        &self,
        part: Part,
        asked: Arc<Asked>,
        parts: u32,
        wait: Wait,
    ) -> Result<Granted, StoreError> {
        let spread = Arc::clone(&asked);
        let work = |reply| Work::Lease { asked, parts, reply };
        self.send(part, wait, move || spread.spread(), work).await
    }

    async fn give_back(
        &self,
        part: Part,
        asked: Arc<Asked>,
        which: Vec<usize>,
        at: Micros,
        wait_until: Micros,
    ) -> Option<Vec<Option<Reading>>> {
        let slot = slot(part);
        let give_up_at = self.context.clock.now_us() + GIVE_BACK_US;
        let mut readings = Vec::with_capacity(which.len());
        let mut given = Vec::new();
        for some in which.chunks(GIVE_BACKS_MAX) {
            let (reply, answer) = oneshot::channel();
            let work = Work::GiveBack {
                asked: Arc::clone(&asked),
                which: some.to_vec(),
                at,
                reply,
            };
            let job = Job {
                slot,
                give_up_at,
                way: Way::Straight,
                work,
            };
            let sent = self.chosen(slot).is_some_and(|node| {
                let lane = node.lane(THREAD.get(), || asked.spread());
                lane.is_some_and(|lane| lane.try_send(job).is_ok())
            });
            given.push(sent.then_some(answer));
        }
        let stats = &self.context.stats;
        for answer in given {
            let answer = match answer {
                Some(answer) => tokio::time::timeout(self.budget(wait_until), answer).await.ok(),
                None => None,
            };
            let Some(Ok(some)) = answer else {
                stats.add(|stats| &stats.not_given_back, 1);
                return None;
            };
            stats.add(|stats| &stats.given_back, 1);
            readings.extend(some);
        }
        Some(readings)
    }

    fn is_connected(&self) -> bool {
        let nodes = self.topology.all();
        !nodes.is_empty()
            && nodes
                .iter()
                .all(|node| node.state.connected.load(Ordering::Relaxed) > 0)
    }

    fn is_away(&self) -> bool {
        self.topology
            .all()
            .iter()
            .any(|node| !node.state.breaker.admits())
    }
}

impl RedisStats {
    fn add(&self, counter: impl Fn(&Self) -> &AtomicU64, count: usize) {
        counter(self).fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl StoreError {
    /// What a client's error means here; its text may name keys and addresses, so only its kind is kept.
    fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else if error.is_io_error() || error.is_connection_dropped() {
            Self::Disconnected
        } else if link::is_elsewhere(error) {
            Self::Moving
        } else {
            Self::Server(
                error
                    .code()
                    .map_or_else(|| error.category().to_owned(), str::to_owned),
            )
        }
    }
}

fn random_name() -> String {
    format!("{:016x}{:016x}", random(), random())
}
