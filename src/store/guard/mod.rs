//! Around a store that can be slow or gone: every request has a decision within its time, whatever the store does.
//!
//! ```text
//! request ──breaker──> store, with a deadline ──verdicts──>
//!              │ open           │ late, gone, broken
//!              └──────> share: each limit by its own rule
//! ```
//!
//! A call that was given up is never sent again, and carries a not-after so that the store does not run it later.

pub mod breaker;
mod instances;
mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::breaker::{Breaker, Probe, State, Ticket};
pub use self::instances::{Instances, Membership, Source, View};
pub use self::share::{Share, share_of};
use super::{Batch, Keys, Step, Store};
use crate::clock::Clock;
use crate::limiter::{Charge, Micros, Outcome, Prior, Verdict};

/// Timers are of a millisecond: who can wait for less is not kept waiting.
const BUDGET_US_MIN: Micros = 1_000;

/// What a store is asked: a batch without what only its request needs. Shared, so that a request that stops waiting still has
/// it.
#[derive(Debug, Default)]
pub struct Asked {
    /// The counters.
    pub keys: Keys,
    /// The charges on them.
    pub charges: Vec<Charge>,
    /// What another part of the request has decided.
    pub prior: Prior,
}

impl Asked {
    /// A number that is the same for the same first key.
    #[must_use]
    pub fn spread(&self) -> usize {
        let first = if self.keys.is_empty() {
            ""
        } else {
            self.keys.get(0)
        };
        first.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        })
    }
}

/// What a store answers.
#[derive(Debug)]
pub struct Decided {
    /// One verdict a charge.
    pub verdicts: Vec<Verdict>,
    /// The whole.
    pub outcome: Outcome,
}

/// Why a store did not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection.
    #[error("not connected")]
    Disconnected,
    /// Too many requests wait already.
    #[error("too many requests wait")]
    Busy,
    /// The answer did not come in time.
    #[error("no answer in time")]
    Timeout,
    /// A key of the request holds something that is not ours. The store itself is well.
    #[error("a key holds something else")]
    Key,
    /// The request is one that the store can't take. The store itself is well.
    #[error("can't be asked: {0}")]
    Unfit(String),
    /// The store refused; its word.
    #[error("refused: {0}")]
    Server(String),
}

/// Why a decision was made without the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The breaker is open.
    Breaker,
    /// There is no connection.
    Disconnected,
    /// Too many requests wait already.
    Busy,
    /// The answer did not come in time.
    Timeout,
    /// A key holds something that is not ours.
    Key,
    /// The store refused.
    Refused,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Breaker, "breaker_open"),
        (Self::Disconnected, "disconnected"),
        (Self::Busy, "busy"),
        (Self::Timeout, "timeout"),
        (Self::Key, "key"),
        (Self::Refused, "refused"),
    ];
}

impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Disconnected => Self::Disconnected,
            StoreError::Busy => Self::Busy,
            StoreError::Timeout => Self::Timeout,
            StoreError::Key => Self::Key,
            StoreError::Server(_) | StoreError::Unfit(_) => Self::Refused,
        }
    }
}

/// A store somewhere else.
pub trait Remote: Send + Sync + std::fmt::Debug {
    /// Asks it, until `give_up_at` of this process's clock.
    fn ask(
        &self,
        asked: Arc<Asked>,
        give_up_at: Micros,
    ) -> impl Future<Output = Result<Decided, StoreError>> + Send;

    /// Whether there is a connection at all.
    fn is_connected(&self) -> bool;
}

/// A remote store that always has an answer.
#[derive(Debug)]
pub struct Guarded<R> {
    remote: Arc<R>,
    share: Share,
    breaker: Breaker,
    clock: Clock,
    op_timeout: Duration,
    without: [AtomicU64; 6],
}

impl<R: Remote> Guarded<R> {
    /// Guards `remote`: a request waits for it for `op_timeout` at most, and is decided by `share` otherwise.
    #[must_use]
    pub fn new(remote: Arc<R>, share: Share, clock: Clock, op_timeout: Duration) -> Self {
        Self {
            remote,
            share,
            breaker: Breaker::new(seed()),
            clock,
            op_timeout,
            without: Default::default(),
        }
    }

    /// Decisions made without the store since the start.
    pub fn without_store(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|(reason, name)| (*name, self.without[*reason as usize].load(Ordering::Relaxed)))
    }

    /// Whether the store is not asked, and how often that began.
    #[must_use]
    pub fn breaker(&self) -> (bool, u64) {
        (
            self.breaker.state() != State::Closed,
            self.breaker.opened().map(|(_, times)| times).sum(),
        )
    }

    /// How many instances share the limits, as far as this one knows.
    #[must_use]
    pub fn instances(&self) -> View {
        self.share.instances()
    }

    /// Removes shares that have run out.
    pub fn sweep_part(&self, now: Micros) {
        self.share.sweep_part(now);
    }

    /// Tells the breaker what became of a request or, by its ticket, of a probe.
    fn tell(&self, probe: Option<Ticket>, failure: Option<Reason>) {
        let now = self.clock.now_us();
        match (probe, failure) {
            (None, None) => self.breaker.succeeded(now),
            (None, Some(why)) => drop(self.breaker.failed(now, why)),
            (Some(ticket), None) => drop(self.breaker.probe_succeeded(now, ticket)),
            (Some(ticket), Some(_)) => self.breaker.probe_failed(now, ticket),
        }
    }

    fn decide_without(&self, batch: &mut Batch, reason: Reason) {
        self.without[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.share.decide(batch);
    }
}

/// A number that other instances don't have.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

impl<R: Remote> Store for Guarded<R> {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        if batch.budget_us.is_some_and(|budget| budget < BUDGET_US_MIN) {
            self.decide_without(batch, Reason::Timeout);
            return Step::Done;
        }
        let ticket = match self.breaker.probe_due(batch.now) {
            Probe::NotNeeded => None,
            Probe::Now(ticket) => Some(ticket),
            Probe::In(_) => {
                self.decide_without(batch, Reason::Breaker);
                return Step::Done;
            }
        };
        Step::Wait(Box::pin(async move {
            let most = u64::try_from(self.op_timeout.as_micros()).unwrap_or(u64::MAX);
            let budget = batch.budget_us.unwrap_or(most).min(most);
            let (give_up_at, hurried) = (batch.now + budget, budget < most);
            let asked = Arc::new(Asked {
                keys: std::mem::take(&mut batch.keys),
                charges: std::mem::take(&mut batch.charges),
                prior: batch.prior,
            });
            let result = self.remote.ask(Arc::clone(&asked), give_up_at).await;
            let asked = Arc::try_unwrap(asked).unwrap_or_else(|shared| Asked {
                keys: shared.keys.clone(),
                charges: shared.charges.clone(),
                prior: shared.prior,
            });
            (batch.keys, batch.charges) = (asked.keys, asked.charges);
            match result {
                Ok(decided) => {
                    self.tell(ticket, None);
                    (batch.verdicts, batch.outcome) = (decided.verdicts, decided.outcome);
                }
                Err(error) => {
                    match error {
                        StoreError::Key => self.tell(ticket, None),
                        // These say nothing about the store: the request, or a caller that waited for less than we do.
                        StoreError::Timeout if hurried && ticket.is_none() => {}
                        StoreError::Unfit(_) if ticket.is_none() => {}
                        _ => self.tell(ticket, Some(Reason::from(&error))),
                    }
                    self.decide_without(batch, Reason::from(&error));
                }
            }
        }))
    }

    fn describe(&self) -> String {
        let state = match (self.remote.is_connected(), !self.breaker.admits()) {
            (false, _) => "not connected, limits are counted on shares",
            (true, true) => "away, limits are counted on shares",
            (true, false) => "in use",
        };
        format!("redis, {state}; {}", self.share.instances())
    }
}
