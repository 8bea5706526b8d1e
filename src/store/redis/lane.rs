//! One connection: what waits for it leaves together.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use super::Context;
use super::call::CHARGES_MAX;
use super::connect_error::ConnectError;
use super::flight;
use super::link::{self, Connected, Link, is_lost};
use super::node::{NodeState, Place};
use super::server::Server;
use super::spare::Spares;
use crate::limiter::{Micros, Reading};
use crate::store::guard::{Asked, Decided, Granted, StoreError};

/// An idle connection is asked for a sign of life this often.
const IDLE: Duration = Duration::from_millis(500);
/// A call that has no answer for four times a request's longest wait, and for at least this long, will have none.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// Calls under way on one connection; meanwhile requests wait and leave together.
const CALLS_MAX: usize = 4;
/// Between the loss of a connection and the next.
const LOST_PAUSE: Duration = Duration::from_millis(5);
/// A lane that could not connect tries again when a probe has found the node there, and after this time in any case.
const RETRY: Duration = Duration::from_secs(2);

/// One request's part in a call.
#[derive(Debug)]
pub(super) struct Job {
    /// The slot of its keys; 0 where there is no cluster.
    pub slot: u16,
    /// When the request stops waiting.
    pub give_up_at: Micros,
    pub way: Way,
    pub work: Work,
}

/// How a job came to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By what we know of the slots.
    Straight,
    /// The same, by itself: others of its call had other keys, and what kept one from its keys need not keep another.
    Alone,
    /// Another node has sent it here, and nobody sends it on.
    Redirected,
    /// The same, and this node takes it only after `ASKING`.
    Asking,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    /// Decide, and charge.
    Charge {
        asked: Arc<Asked>,
        reply: oneshot::Sender<Result<Decided, StoreError>>,
    },
    /// Book hits ahead: those of the one charge, or as many as fit into one of `parts` of the room.
    Lease {
        asked: Arc<Asked>,
        parts: u32,
        reply: oneshot::Sender<Result<Granted, StoreError>>,
    },
    /// Give back what a call booked at `at` of the server's time to these charges.
    GiveBack {
        asked: Arc<Asked>,
        which: Vec<usize>,
        at: Micros,
        reply: oneshot::Sender<Vec<Option<Reading>>>,
    },
}

impl Job {
    /// Ends it without a decision.
    pub fn fail(self, error: StoreError) {
        match self.work {
            Work::Charge { asked, reply } => {
                // What this holds is needed by who waits.
                drop(asked);
                // Nobody waits any more: the request was given up or cancelled.
                let _ = reply.send(Err(error));
            }
            Work::Lease { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            // Who waits sees that nobody answers.
            Work::GiveBack { .. } => {}
        }
    }

    /// Whether nobody needs it any more.
    pub fn is_over(&self, now: Micros) -> bool {
        let given_up = match &self.work {
            Work::Charge { reply, .. } => reply.is_closed(),
            Work::Lease { reply, .. } => reply.is_closed(),
            Work::GiveBack { .. } => false,
        };
        given_up || now >= self.give_up_at
    }

    /// A number that is the same for the same first key.
    pub fn spread(&self) -> usize {
        match &self.work {
            Work::Charge { asked, .. } | Work::Lease { asked, .. } | Work::GiveBack { asked, .. } => {
                asked.spread()
            }
        }
    }

    /// How many charges it adds to a call.
    fn charges(&self) -> usize {
        match &self.work {
            Work::Charge { asked, .. } | Work::Lease { asked, .. } => asked.charges.len(),
            Work::GiveBack { which, .. } => which.len(),
        }
    }
}

/// Whether a connection is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Good,
    Lost,
}

/// A lane's place.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub node: Arc<NodeState>,
    pub context: Arc<Context>,
    /// The thread that it serves.
    pub thread: usize,
    pub spares: Arc<Spares>,
}

/// Why a connection is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody can send any more.
    Unused,
    /// It is lost.
    Lost,
    /// The node is somewhere else.
    Moved,
}

impl Lane {
    /// Serves jobs until nobody can send any more, connecting and reconnecting as needed.
    pub async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let link = Link::new(&self.context.options);
        let mut place = self.node.place.subscribe();
        let mut up = self.node.up.subscribe();
        // At the start requests wait for the connection, each for its own time: a share next to a store that is just not connected
        // yet would admit too much. Later a lost store is known to be lost.
        let mut first = true;
        loop {
            let attempt = self.attempt(&link, &mut place, &mut up);
            let connected = if std::mem::take(&mut first) {
                attempt.await
            } else {
                match meanwhile_refusing(&mut jobs, attempt).await {
                    Some(connected) => connected,
                    None => return,
                }
            };
            match connected {
                Ok(connected) => {
                    let end = self.use_up(connected, &mut jobs, &mut place).await;
                    match end {
                        End::Unused => return,
                        End::Lost => tracing::warn!(node = self.node.name, "connection to redis lost"),
                        End::Moved => {}
                    }
                    self.context.stats.add(|stats| &stats.disconnects, 1);
                    // A server that takes connections only to drop them is not asked without a pause.
                    if meanwhile_refusing(&mut jobs, tokio::time::sleep(LOST_PAUSE))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    continue;
                }
                Err(_) if matches!(*self.node.place.borrow(), Place::Gone) => return,
                Err(error) => {
                    self.node.can_not_connect(&error, self.context.clock.now_us());
                    self.context.stats.add(|stats| &stats.disconnects, 1);
                }
            }
            let wake = async {
                tokio::select! {
                    _ = up.changed() => {}
                    _ = place.changed() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
            };
            if meanwhile_refusing(&mut jobs, wake).await.is_none() {
                return;
            }
        }
    }

    async fn use_up(
        &self,
        connected: Connected,
        jobs: &mut mpsc::Receiver<Job>,
        place: &mut watch::Receiver<Place>,
    ) -> End {
        self.context.stats.add(|stats| &stats.connects, 1);
        self.node.connected.fetch_add(1, Ordering::Relaxed);
        let end = tokio::select! {
            biased;
            end = self.serve(connected, jobs) => end,
            _ = place.changed() => End::Moved,
        };
        self.node.connected.fetch_sub(1, Ordering::Relaxed);
        end
    }

    /// Connects, anew if the node is somewhere else meanwhile, or was found to be back: an attempt that began before may wait for
    /// what never comes.
    async fn attempt(
        &self,
        link: &Link,
        place: &mut watch::Receiver<Place>,
        up: &mut watch::Receiver<u64>,
    ) -> Result<Connected, ConnectError> {
        loop {
            up.mark_unchanged();
            let mut moved = place.clone();
            moved.mark_unchanged();
            let is_known = !matches!(*moved.borrow(), Place::Unknown);
            tokio::select! {
                biased;
                connected = self.connect(link, place) => return connected,
                Ok(()) = up.changed() => {}
                Ok(()) = moved.changed(), if is_known => {}
            }
        }
    }

    /// A connection that may be used: its server is a primary, and lacks nothing that this process knows of.
    async fn connect(
        &self,
        link: &Link,
        place: &mut watch::Receiver<Place>,
    ) -> Result<Connected, ConnectError> {
        let connecting = async {
            let server = whereabouts(place).await?;
            self.node.open(&server, link, &self.context).await
        };
        let within = link.connect_timeout();
        match tokio::time::timeout(within, connecting).await {
            Ok(connected) => connected,
            Err(_) if matches!(*place.borrow(), Place::Unknown) => Err(ConnectError::NoPrimary),
            Err(_) => Err(ConnectError::Timeout(within)),
        }
    }

    /// Serves jobs on one connection.
    async fn serve(&self, connected: Connected, jobs: &mut mpsc::Receiver<Job>) -> End {
        let mut calls: FuturesUnordered<Pin<Box<dyn Future<Output = After> + Send>>> =
            FuturesUnordered::new();
        let mut left = None;
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(after) = calls.next(), if !calls.is_empty() => {
                    if after == After::Lost {
                        return End::Lost;
                    }
                }
                job = next(&mut left, jobs), if calls.len() < CALLS_MAX => {
                    let Some(job) = job else { return End::Unused };
                    idle.reset();
                    let waiting = gather(job, jobs, &mut left);
                    calls.push(Box::pin(flight::fly(self.clone(), connected.clone(), waiting)));
                }
                _ = idle.tick(), if calls.is_empty() => {
                    calls.push(Box::pin(self.clone().sign_of_life(connected.clone())));
                }
            }
        }
    }

    /// Asks an idle connection for the time: a lost one is noticed before a request needs it.
    async fn sign_of_life(self, mut connected: Connected) -> After {
        let seeing = link::see_time(&mut connected.connection, &self.node.time, &self.context.clock);
        match tokio::time::timeout(self.patience(), seeing).await {
            // Of an earlier server: it lives on, but is not the node any more.
            _ if connected.epoch != self.node.epoch() => After::Lost,
            Ok(Ok(())) => After::Good,
            // A server that is busy or loads its data has answered.
            Ok(Err(error)) if !is_lost(&error) => After::Good,
            Ok(Err(_)) | Err(_) => After::Lost,
        }
    }

    /// How long an answer may take before the connection counts as lost.
    pub fn patience(&self) -> Duration {
        (self.context.options.op_timeout * 4).max(PATIENCE_MIN)
    }
}

/// Where the node is, as soon as that is known.
async fn whereabouts(place: &mut watch::Receiver<Place>) -> Result<Box<Server>, ConnectError> {
    loop {
        match &*place.borrow_and_update() {
            Place::At(server) => return Ok(server.clone()),
            Place::Gone => return Err(ConnectError::NoPrimary),
            Place::Unknown => {}
        }
        if place.changed().await.is_err() {
            return Err(ConnectError::NoPrimary);
        }
    }
}

/// Waits for something while jobs are refused; `None` if nobody can send any more.
async fn meanwhile_refusing<T>(jobs: &mut mpsc::Receiver<Job>, waited: impl Future<Output = T>) -> Option<T> {
    let mut waited = std::pin::pin!(waited);
    loop {
        tokio::select! {
            biased;
            done = &mut waited => return Some(done),
            job = jobs.recv() => job?.fail(StoreError::Disconnected),
        }
    }
}

/// The job that did not fit into the last call, else the next one that comes. Loses none when it is dropped.
async fn next(left: &mut Option<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    match left.take() {
        Some(job) => Some(job),
        None => jobs.recv().await,
    }
}

/// The first job and all that wait behind it, as many as fit into a call. The one that did not fit is left over.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>, left: &mut Option<Job>) -> Vec<Job> {
    let mut charges = first.charges();
    // With what waits now, so that it need not grow.
    let mut waiting = Vec::with_capacity(CHARGES_MAX.min(1 + jobs.len()));
    waiting.push(first);
    while charges < CHARGES_MAX {
        let Ok(job) = jobs.try_recv() else { break };
        charges += job.charges();
        if charges > CHARGES_MAX {
            *left = Some(job);
            break;
        }
        waiting.push(job);
    }
    waiting
}
