//! Around a store that can be slow or gone: every request has a decision within its time, whatever the store does.
//!
//! ```text
//! request ──> deny cache ──> leases ──one part──> breaker ──> store, with a deadline ──verdicts──>
//!                                  │                 │ open           │ late, gone, broken
//!                                  │                 └──────> share: each limit by its own rule
//!                                  └──several parts──> each by itself, and what they took is given back if the request is denied
//! ```
//!
//! A call that was given up is never sent again, and carries a not-after so that the store does not run it later.

pub mod breaker;
mod deny_cache;
mod instances;
mod leases;
mod leasing;
mod parts;
mod quarantine;
mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::deny_cache::DenyCache;
use self::leasing::{Leasing, Spending};

pub use self::breaker::{Breaker, Probe, State as BreakerState, Transition};
pub use self::instances::{Instances, Membership, Source, View};
pub use self::leases::Granted;
use self::parts::Denials;
use self::quarantine::Quarantine;
pub use self::share::{Share, share_of};
use super::{Batch, Keys, Step, Store};
use crate::clock::Clock;
use crate::limiter::{Charge, Limit, Micros, Outcome, Prior, Reading, Verdict};

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

/// A part of a store: charges of one part are decided by one atomic call, those of several by one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(pub u32);

/// How long a request waits for a part of the store.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Until then, by this process's clock.
    pub until: Micros,
    /// The caller has less time than the store may take: that it was too slow for this one says nothing about it.
    pub hurried: bool,
}

/// What a store answers.
#[derive(Debug)]
pub struct Decided {
    /// The store's time, by which it decided.
    pub now_us: Micros,
    /// One verdict a charge.
    pub verdicts: Vec<Verdict>,
    /// The whole.
    pub outcome: Outcome,
}

/// Why a store did not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is known to be away, and is not asked.
    #[error("not asked: it is away")]
    Open,
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
    /// The request's keys are on their way to another server, or were found at one too late. All servers may be well.
    #[error("the keys are on their way to another server")]
    Moving,
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

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether the store may have decided all the same.
    fn is_unknown(self) -> bool {
        match self {
            Self::Disconnected | Self::Timeout | Self::Refused => true,
            Self::Breaker | Self::Busy | Self::Key => false,
        }
    }
}

impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Open => Self::Breaker,
            StoreError::Disconnected => Self::Disconnected,
            StoreError::Busy => Self::Busy,
            StoreError::Timeout => Self::Timeout,
            StoreError::Key => Self::Key,
            StoreError::Server(_) | StoreError::Unfit(_) | StoreError::Moving => Self::Refused,
        }
    }
}

/// A store somewhere else.
pub trait Remote: Send + Sync + std::fmt::Debug {
    /// The part of all counters, if there is but one.
    fn only_part(&self) -> Option<Part>;

    /// The part that a counter is in.
    fn part(&self, key: &str, limit: &Limit) -> Part;

    /// Whether a part is asked: a quick look that spares the rest.
    fn admits(&self, part: Part) -> bool;

    /// When a part was found to have lost its data, in this process's time, if that was seen.
    fn emptied_at(&self, part: Part) -> Option<Micros>;

    /// The longest that a request waits for a part, in microseconds.
    fn longest_wait(&self, part: Part) -> Micros;

    /// Asks a part, as long as `wait` says.
    fn ask(
        &self,
        part: Part,
        asked: Arc<Asked>,
        wait: Wait,
    ) -> impl Future<Output = Result<Decided, StoreError>> + Send;

    /// Has hits booked ahead: those of the one charge of `asked`, or as many as fit into one of `parts` of the room of its counter.
    fn lease(
        &self,
        part: Part,
        asked: Arc<Asked>,
        parts: u32,
        wait: Wait,
    ) -> impl Future<Output = Result<Granted, StoreError>> + Send;

    /// Gives back what an answer of time `at` booked to `which` of the charges, exactly or to the safe side. It is on its way once
    /// the future was polled; `wait_until` bounds the wait for what the counters show then, by charge. `None`: that is not known.
    fn give_back(
        &self,
        part: Part,
        asked: Arc<Asked>,
        which: Vec<usize>,
        at: Micros,
        wait_until: Micros,
    ) -> impl Future<Output = Option<Vec<Option<Reading>>>> + Send;

    /// Whether there is a connection to all of it.
    fn is_connected(&self) -> bool;

    /// Whether any of it is not asked.
    fn is_away(&self) -> bool;
}

/// What stands between requests and the store. None of it admits what the store would deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Denials that are still true are repeated without the store.
    pub deny_cache: bool,
    /// Hits on hot counters are booked ahead.
    pub leases: bool,
}

impl Layers {
    /// All of them.
    pub const ALL: Self = Self {
        deny_cache: true,
        leases: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        deny_cache: false,
        leases: false,
    };
}

/// What the layers did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayersView {
    /// Requests denied by the cache.
    pub denials_served: u64,
    /// Denials kept in it.
    pub denials_kept: u64,
    /// Calls that booked hits ahead.
    pub lease_calls: u64,
    /// Hits booked ahead: all of them are spent and not undone, returned, stranded or held.
    pub lease_granted: u64,
    /// Hits spent.
    pub lease_spent: u64,
    /// Hits spent for requests that were denied all the same.
    pub lease_undone: u64,
    /// Hits given back.
    pub lease_returned: u64,
    /// Hits neither spent nor given back.
    pub lease_stranded: u64,
    /// Hits held now, as of a moment ago.
    pub lease_held: u64,
}

/// A remote store that always has an answer.
#[derive(Debug)]
pub struct Guarded<R> {
    remote: Arc<R>,
    share: Share,
    clock: Clock,
    denials: Denials,
    deny_cache: Option<Arc<DenyCache>>,
    leasing: Option<Leasing<R>>,
    without: [AtomicU64; 6],
}

impl<R: Remote + 'static> Guarded<R> {
    /// Guards `remote`: what it does not decide in time is decided by `share`.
    #[must_use]
    pub fn new(remote: Arc<R>, share: Share, clock: Clock, layers: Layers) -> Self {
        let deny_cache = layers.deny_cache.then(|| Arc::new(DenyCache::default()));
        let leasing = || {
            Leasing::new(
                Arc::clone(&remote),
                clock.clone(),
                share.counted(),
                deny_cache.clone(),
            )
        };
        Self {
            leasing: layers.leases.then(leasing),
            deny_cache,
            remote,
            share,
            clock,
            denials: Denials::default(),
            without: Default::default(),
        }
    }

    /// What the layers did.
    #[must_use]
    pub fn layers(&self) -> LayersView {
        let mut view = LayersView::default();
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        if let Some(cache) = &self.deny_cache {
            view.denials_served = count(&cache.stats.served);
            view.denials_kept = count(&cache.stats.kept);
        }
        if let Some(leasing) = &self.leasing {
            leasing.show(&mut view);
        }
        view
    }

    /// Gives back hits that were booked ahead and are not needed; to be called every few milliseconds, on a thread that is attached.
    pub async fn return_leases(&self) {
        if let Some(leasing) = &self.leasing {
            leasing.collect(false).await;
        }
    }

    /// Gives all of them back, but for what is being asked for just now. Requests that still come may book again.
    pub async fn end_leases(&self) {
        if let Some(leasing) = &self.leasing {
            leasing.collect(true).await;
        }
    }

    /// Decisions made without the store since the start.
    pub fn without_store(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|(reason, name)| (*name, self.without[*reason as usize].load(Ordering::Relaxed)))
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

    fn decide_without(&self, batch: &mut Batch, reason: Reason) {
        self.without[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.share.decide(batch, reason.is_unknown());
    }
}

impl<R: Remote + 'static> Guarded<R> {
    /// How long a request waits for a part, by its own time and the part's.
    fn wait(&self, batch: &Batch, part: Part) -> Wait {
        let most = self.remote.longest_wait(part);
        let budget = batch.budget_us.unwrap_or(most);
        Wait {
            until: batch.now + budget.min(most),
            hurried: budget < most,
        }
    }

    /// Has a batch of one part decided there. Whether the store has done so.
    async fn decide_at(&self, part: Part, batch: &mut Batch) -> bool {
        let wait = self.wait(batch, part);
        let asked = Arc::new(Asked {
            keys: std::mem::take(&mut batch.keys),
            charges: std::mem::take(&mut batch.charges),
            prior: batch.prior,
        });
        let result = self.remote.ask(part, Arc::clone(&asked), wait).await;
        let asked = Arc::try_unwrap(asked).unwrap_or_else(|shared| Asked {
            keys: shared.keys.clone(),
            charges: shared.charges.clone(),
            prior: shared.prior,
        });
        (batch.keys, batch.charges) = (asked.keys, asked.charges);
        match result {
            Ok(decided) => {
                (batch.verdicts, batch.outcome) = (decided.verdicts, decided.outcome);
                true
            }
            Err(error) => {
                self.decide_without(batch, Reason::from(&error));
                false
            }
        }
    }

    /// Has a batch decided by the store, part by part where there are several. Whether the store has decided all of it.
    async fn decide_stored(&self, batch: &mut Batch) -> bool {
        match self.one_part(batch) {
            Some(part) if !self.remote.admits(part) => {
                self.decide_without(batch, Reason::Breaker);
                false
            }
            Some(part) => self.decide_at(part, batch).await,
            None => self.decide_in_parts(batch).await,
        }
    }

    /// The same, with what the deny cache has to know.
    async fn decide_noted(&self, batch: &mut Batch) {
        let before = self.deny_cache.as_ref().map(|cache| cache.before(batch));
        let by_store = self.decide_stored(batch).await;
        if let (Some(cache), Some(before)) = (&self.deny_cache, before) {
            cache.after(batch, before, by_store);
        }
    }

    /// The part of all charges, if they are of one.
    fn one_part(&self, batch: &Batch) -> Option<Part> {
        if let Some(part) = self.remote.only_part() {
            return Some(part);
        }
        let part = |charge: &Charge| self.remote.part(batch.keys.get(charge.counter), &charge.limit);
        let (first, others) = batch.charges.split_first()?;
        let first = part(first);
        others.iter().all(|charge| part(charge) == first).then_some(first)
    }

    async fn decide_quarantined(&self, quarantine: Quarantine, batch: &mut Batch) {
        let prior = quarantine.begin(batch);
        self.decide_stored(batch).await;
        batch.prior = prior;
        quarantine.end(batch);
    }
}

impl<R: Remote + 'static> Store for Guarded<R> {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        if batch.budget_us.is_some_and(|budget| budget < BUDGET_US_MIN) {
            self.decide_without(batch, Reason::Timeout);
            return Step::Done;
        }
        if let Some(cache) = &self.deny_cache
            && cache.serve(batch)
        {
            return Step::Done;
        }
        if let Some(quarantine) = Quarantine::of(batch, &*self.remote) {
            return Step::Wait(Box::pin(self.decide_quarantined(quarantine, batch)));
        }
        if let Some(part) = self.remote.only_part()
            && !self.remote.admits(part)
        {
            self.decide_without(batch, Reason::Breaker);
            return Step::Done;
        }
        match self.spend(batch) {
            Spending::Done => Step::Done,
            Spending::Soon(soon) => Step::Wait(Box::pin(self.decide_soon(soon, batch))),
            Spending::Some(spent) => Step::Wait(Box::pin(self.decide_rest(spent, batch))),
            Spending::None => Step::Wait(Box::pin(self.decide_noted(batch))),
        }
    }

    fn describe(&self) -> String {
        let state = match (self.remote.is_connected(), self.remote.is_away()) {
            (false, _) => "not connected, limits are counted on shares",
            (true, true) => "away, limits are counted on shares",
            (true, false) => "in use",
        };
        format!("redis, {state}; {}", self.share.instances())
    }
}
