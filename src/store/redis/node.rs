//! One primary: what all threads know of it, and their lanes to it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::connect_error::ConnectError;
use super::lane::Job;
use super::recent::{Recent, Replayed};
use super::recovery::Past;
use super::server::Server;
use super::time::RedisTime;
use crate::limiter::Micros;
use crate::store::guard::{Breaker, Reason, Transition};

/// Reasons for an outage that are logged; beyond that it goes on in silence.
const REASONS_MAX: usize = 8;

/// A node that nobody was sent to for a slot on its way for so long waits for none.
const AWAITING_US: Micros = 10_000_000;
/// A key that holds something else is named at most so often.
const FOREIGN_KEY_US: Micros = 60_000_000;

/// The lanes of a thread.
pub(super) type Lanes = Box<[mpsc::Sender<Job>]>;

/// Where a node is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// No sentinel has said it yet.
    Unknown,
    /// There.
    At(Box<Server>),
    /// It is no primary of ours any more.
    Gone,
}

/// A node. When it is dropped, its lanes end.
#[derive(Debug)]
pub(super) struct Node {
    pub state: Arc<NodeState>,
    /// By thread, once it has attached.
    lanes: Box<[OnceLock<Lanes>]>,
}

/// What is known of a node, apart from the ways to it.
#[derive(Debug)]
pub(super) struct NodeState {
    /// For people; never with a password.
    pub name: String,
    pub place: watch::Sender<Place>,
    pub time: RedisTime,
    pub breaker: Breaker,
    /// Connections open now.
    pub connected: AtomicU64,
    /// Raised when a probe has found that it is there again.
    pub up: watch::Sender<u64>,
    /// Told when the breaker has opened.
    pub troubled: Notify,
    /// Who it was so far. Locked while a new primary is told what it may lack.
    pub past: tokio::sync::Mutex<Past>,
    pub recent: Mutex<Recent>,
    /// The tag of a slot that it serves, plus 1; 0 if none was looked for.
    tag: AtomicU32,
    /// Raised whenever it has become another server. What an earlier one still answers is of no use: it may not be known to the
    /// present one, and comes too late to be recorded there again.
    epoch: AtomicU64,
    /// When it was found to have lost its data, in our time; 0 for never.
    emptied_at: AtomicU64,
    /// The reasons that were said of this outage.
    reported: Mutex<Vec<String>>,
    /// When it was asked last for a slot that is on its way to it, in our time; 0 for never.
    awaited_at: AtomicU64,
    /// When a key that holds something else was named last, in our time; 0 for never.
    foreign_key_at: AtomicU64,
}

impl Node {
    pub fn new(name: String, place: Place, threads: usize, past: Past) -> Self {
        Self {
            state: Arc::new(NodeState {
                name,
                place: watch::Sender::new(place),
                time: RedisTime::default(),
                breaker: Breaker::new(random()),
                connected: AtomicU64::new(0),
                up: watch::Sender::new(0),
                troubled: Notify::new(),
                past: tokio::sync::Mutex::new(past),
                recent: Mutex::default(),
                tag: AtomicU32::new(0),
                epoch: AtomicU64::new(0),
                emptied_at: AtomicU64::new(0),
                reported: Mutex::default(),
                awaited_at: AtomicU64::new(0),
                foreign_key_at: AtomicU64::new(0),
            }),
            lanes: (0..threads).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Takes the lanes of a thread. One that attaches twice keeps its first.
    pub fn set_lanes(&self, thread: usize, lanes: Lanes) {
        if let Some(slot) = self.lanes.get(thread) {
            let _ = slot.set(lanes);
        }
    }

    /// A lane of this thread, or of another if it has none. Equal keys take the same one, so that their requests keep their order.
    pub fn lane(&self, thread: usize, spread: impl FnOnce() -> usize) -> Option<&mpsc::Sender<Job>> {
        let own = self.lanes.get(thread).and_then(OnceLock::get);
        let lanes = own.or_else(|| self.lanes.iter().find_map(OnceLock::get))?;
        let at = if lanes.len() > 1 {
            spread() % lanes.len()
        } else {
            0
        };
        lanes.get(at)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.state.place.send_replace(Place::Gone);
    }
}

impl NodeState {
    /// Notes an outcome that has moved the breaker.
    pub fn moved(&self, transition: Option<Transition>) {
        match transition {
            None => {}
            Some(Transition::Opened { why, cause, relapses }) => {
                let why = why.name();
                tracing::warn!(
                    node = self.name,
                    why,
                    ?cause,
                    relapses,
                    "redis is not asked: the breaker opened"
                );
                self.troubled.notify_one();
            }
            Some(Transition::Closed { after_us }) => {
                let after = Duration::from_micros(after_us);
                tracing::info!(
                    node = self.name,
                    ?after,
                    "redis is asked again: the breaker closed"
                );
            }
        }
    }

    /// Notes that a lane could not connect, and why. A node that others can use is not away, unless it says itself that it is none.
    pub fn can_not_connect(&self, error: &ConnectError, now: Micros) {
        self.say(error);
        let is_none = matches!(error, ConnectError::Replica) || self.connected.load(Ordering::Relaxed) == 0;
        if is_none && self.breaker.admits() {
            self.moved(self.breaker.trip(now, Reason::Disconnected));
        }
    }

    /// Says why there is no connection, each reason once for each outage and not for each attempt.
    pub fn say(&self, error: &ConnectError) {
        let text = error.to_string();
        let mut reported = lock(&self.reported);
        if reported.len() < REASONS_MAX && !reported.contains(&text) {
            tracing::error!(error = text, node = self.name, "redis can't be reached");
            reported.push(text);
        }
    }

    /// Notes that it is there again: lanes may connect. `closed` is what that did to the breaker.
    pub fn is_back(&self, closed: Option<Transition>) {
        if !std::mem::take(&mut *lock(&self.reported)).is_empty() {
            tracing::info!(node = self.name, "redis is back");
        }
        self.up.send_modify(|times| *times += 1);
        self.moved(closed);
    }

    /// Notes that a slot is on its way to it.
    pub fn awaits_slots(&self, now: Micros) {
        self.awaited_at.store(now.max(1), Ordering::Relaxed);
    }

    /// Whether slots are on their way to it, so that it is needed even if it has none yet.
    pub fn is_awaiting_slots(&self, now: Micros) -> bool {
        let at = self.awaited_at.load(Ordering::Relaxed);
        at != 0 && now.saturating_sub(at) < AWAITING_US
    }

    /// Whether none was named for a minute of those keys that hold something else; if so, one is now.
    pub fn is_foreign_key_news(&self, now: Micros) -> bool {
        let last = self.foreign_key_at.load(Ordering::Relaxed);
        let is_news = last == 0 || now.saturating_sub(last) >= FOREIGN_KEY_US;
        let order = Ordering::Relaxed;
        is_news
            && self
                .foreign_key_at
                .compare_exchange(last, now.max(1), order, order)
                .is_ok()
    }

    /// The tag of a slot that it served when one was looked for.
    pub fn tag(&self) -> Option<u32> {
        self.tag.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Remembers a tag.
    pub fn set_tag(&self, tag: u32) {
        self.tag.store(tag + 1, Ordering::Relaxed);
    }

    /// The present server's number. To be compared under the lock of `recent`.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Takes what was charged lately, to be recorded on the server that comes next. What this one answers from now on counts for
    /// nothing.
    pub fn hand_over(&self, now: Micros, wanted: impl FnMut(&str) -> bool) -> Vec<Replayed> {
        let mut recent = lock(&self.recent);
        self.epoch.fetch_add(1, Ordering::Relaxed);
        recent.replay(now, wanted)
    }

    /// Notes that it has lost data, or has taken over what had lost some then.
    pub fn emptied(&self, at: Micros) {
        self.emptied_at.fetch_max(at, Ordering::Relaxed);
    }

    /// When it was found to have lost its data, if that was seen.
    pub fn emptied_at(&self) -> Option<Micros> {
        let at = self.emptied_at.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }
}

/// The lock, whatever a thread that held it did.
pub(super) fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other process has.
pub(super) fn random() -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(0)
}
