//! Counters in Redis: shared by all instances, decided by one atomic script.
//!
//! ```text
//! request ──job──> lane (one a connection) ──call: what waits, ≤ 64 charges──> script ──reply──> verdicts
//! ```
//!
//! Each serving thread has lanes of its own; a lane owns one multiplexed connection, which the requests of its thread share. A
//! connection is never checked out per request: that costs a round trip. Requests that wait while calls are under way leave
//! together in the next one; an idle lane sends at once.

pub mod address;
pub mod call;
mod connect_error;
pub mod doctor;
pub mod give_back;
mod heart;
mod lane;
mod link;
pub mod script;
pub mod server;
mod time;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::heart::Heart;
use self::lane::Job;
use self::server::Server;
use self::time::RedisTime;
use super::guard::{Asked, Decided, Instances, Remote, StoreError};
use crate::clock::Clock;
use crate::limiter::Micros;

/// Jobs that wait for one lane; beyond that requests are decided without the store.
const QUEUE_MAX: usize = 4_096;

thread_local! {
    /// Which thread's lanes this thread uses.
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// How a server is used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The server.
    pub server: Server,
    /// Threads that will [`RedisStore::attach`].
    pub threads: usize,
    /// Connections a thread, at least 1.
    pub connections: usize,
    /// The longest wait of a request.
    pub op_timeout: Duration,
    /// The longest time to connect.
    pub connect_timeout: Duration,
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
    /// Connections made.
    pub connects: AtomicU64,
    /// Connections that could not be made or were lost.
    pub disconnects: AtomicU64,
    /// Connections open now.
    pub connected: AtomicU64,
}

/// What all lanes share.
#[derive(Debug)]
struct Context {
    options: RedisOptions,
    clock: Clock,
    time: RedisTime,
    stats: RedisStats,
}

/// The lanes of a thread.
type Lanes = Box<[mpsc::Sender<Job>]>;

/// The lanes to one server.
#[derive(Debug)]
pub struct RedisStore {
    context: Arc<Context>,
    /// By thread, once it has attached.
    threads: Box<[OnceLock<Lanes>]>,
}

impl RedisStore {
    /// Lanes to a server. Connects nothing yet.
    #[must_use]
    pub fn new(options: RedisOptions, clock: Clock) -> Self {
        let threads = (0..options.threads.max(1)).map(|_| OnceLock::new()).collect();
        let context = Context {
            options,
            clock,
            time: RedisTime::default(),
            stats: RedisStats::default(),
        };
        Self {
            context: Arc::new(context),
            threads,
        }
    }

    /// Starts the lanes of the current thread, the `thread`th, on its runtime. They end with the runtime.
    pub fn attach(&self, thread: usize) {
        let thread = thread % self.threads.len();
        THREAD.set(thread);
        let mut lanes = Vec::new();
        for _ in 0..self.context.options.connections.max(1) {
            let (sender, jobs) = mpsc::channel(QUEUE_MAX);
            let link = link::Link::new(&self.context.options);
            tokio::spawn(lane::run(link, jobs, Arc::clone(&self.context)));
            lanes.push(sender);
        }
        // A thread that attaches twice keeps its first lanes.
        let _ = self.threads[thread].set(lanes.into());
    }

    /// Starts to count the instances on the list `key`, on the current runtime, and to note in `instances` what comes of it.
    pub fn count_instances(&self, key: String, instances: Arc<Instances>) -> Heart {
        let link = link::Link::new(&self.context.options);
        Heart::start(link, Arc::clone(&self.context), key, instances)
    }

    /// What happened since the start.
    #[must_use]
    pub fn stats(&self) -> &RedisStats {
        &self.context.stats
    }

    /// A lane of this thread. Equal keys take the same one, so that their requests keep their order.
    fn lane(&self, asked: &Asked) -> Option<&mpsc::Sender<Job>> {
        let own = self.threads[THREAD.get() % self.threads.len()].get();
        let lanes = own.or_else(|| self.threads.iter().find_map(OnceLock::get))?;
        let spread = if lanes.len() > 1 { asked.spread() } else { 0 };
        lanes.get(spread % lanes.len())
    }
}

impl Remote for RedisStore {
    async fn ask(&self, asked: Arc<Asked>, give_up_at: Micros) -> Result<Decided, StoreError> {
        let lane = self.lane(&asked).ok_or(StoreError::Disconnected)?;
        let (reply, decided) = oneshot::channel();
        let budget = Duration::from_micros(give_up_at.saturating_sub(self.context.clock.now_us()));
        lane.try_send(Job {
            asked,
            give_up_at,
            reply,
        })
        .map_err(|_| StoreError::Busy)?;
        match tokio::time::timeout(budget, decided).await {
            Ok(Ok(decided)) => decided,
            Ok(Err(_)) => Err(StoreError::Disconnected),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    fn is_connected(&self) -> bool {
        self.context.stats.connected.load(Ordering::Relaxed) > 0
    }
}

impl RedisStats {
    fn add(&self, counter: impl Fn(&Self) -> &AtomicU64, count: usize) {
        counter(self).fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl StoreError {
    /// What a client's error means here; its text may name keys and addresses, so only its kind is kept.
    fn of(error: &redis::RedisError) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else if error.is_io_error() || error.is_connection_dropped() {
            Self::Disconnected
        } else {
            Self::Server(
                error
                    .code()
                    .map_or_else(|| error.category().to_owned(), str::to_owned),
            )
        }
    }
}
