//! Spending hits that were booked ahead ([`super::leases`]), and the calls that book them and give them back.
//!
//! ```text
//! request of one charge ──> lease: enough ──verdict──>
//!                             │ a call is under way: wait for it, then look once more
//!                             └ cold ──> store
//! request of several ──> those that leases admit are put aside, the others are decided by the store
//!                             └ denied: what was put aside goes back into its lease
//! ```
//!
//! Calls are made beside the requests, in tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::deny_cache::DenyCache;
use super::instances::Instances;
use super::leases::{Booked, Found, Leases, Returned, Todo, Wanted, is_leasable};
use super::{Asked, BUDGET_US_MIN, Guarded, LayersView, Part, Reason, Remote, Wait};
use crate::clock::Clock;
use crate::limiter::{Charge, Limit, Outcome, Prior, Verdict};
use crate::store::{Batch, Keys};

/// A lease is one of at most so many parts of the room.
const PARTS_MAX: u32 = 1 << 16;

/// The leases, and what is needed to get and return them.
#[derive(Debug)]
pub(super) struct Leasing<R>(Arc<Inner<R>>);

#[derive(Debug)]
struct Inner<R> {
    leases: Leases,
    remote: Arc<R>,
    clock: Clock,
    instances: Arc<Instances>,
    deny_cache: Option<Arc<DenyCache>>,
}

/// What leases have done about a request.
pub(super) enum Spending {
    /// All of it is decided.
    Done,
    /// It is worth waiting for a call.
    Soon(oneshot::Receiver<()>),
    /// These of its charges are admitted.
    Some(Spent),
    /// Nothing.
    None,
}

/// The charges of a request that leases have admitted: their places, verdicts, and where they were booked.
pub(super) type Spent = Vec<(usize, Verdict, Booked)>;

impl<R: Remote + 'static> Leasing<R> {
    pub fn new(
        remote: Arc<R>,
        clock: Clock,
        instances: Arc<Instances>,
        deny_cache: Option<Arc<DenyCache>>,
    ) -> Self {
        Self(Arc::new(Inner {
            leases: Leases::default(),
            remote,
            clock,
            instances,
            deny_cache,
        }))
    }

    /// Adds what the leases did.
    pub fn show(&self, view: &mut LayersView) {
        use std::sync::atomic::Ordering::Relaxed;
        let stats = &self.0.leases.stats;
        view.lease_calls = stats.calls.load(Relaxed);
        view.lease_granted = stats.granted.load(Relaxed);
        view.lease_spent = stats.spent.load(Relaxed);
        view.lease_undone = stats.undone.load(Relaxed);
        view.lease_returned = stats.returned.load(Relaxed);
        view.lease_stranded = stats.stranded.load(Relaxed);
        view.lease_held = self.0.leases.held();
    }

    /// Gives back what has ended, or all that is held.
    pub async fn collect(&self, all: bool) {
        let returned = self.0.leases.collect(self.0.clock.now_us(), all);
        join_all(returned.into_iter().map(|it| self.0.give_back(it))).await;
    }

    /// Spends a charge at `now`, and begins what follows from that.
    fn spend(&self, batch: &Batch, charge: &Charge, now: u64, waits: bool) -> Found {
        let (hash, key) = (batch.keys.hash(charge.counter), batch.keys.get(charge.counter));
        let (found, todo) = self.0.leases.spend(hash, key, charge, now, waits);
        self.begin(todo);
        found
    }

    /// Puts back what was spent for a request that is denied.
    fn undo(&self, batch: &Batch, charge: &Charge, booked: Booked) {
        let (hash, key) = (batch.keys.hash(charge.counter), batch.keys.get(charge.counter));
        let returned = self.0.leases.undo(hash, key, charge, booked);
        self.begin(Todo {
            wanted: None,
            returned,
        });
    }

    fn begin(&self, todo: Todo) {
        if let Some(returned) = todo.returned {
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move { inner.give_back(returned).await });
        }
        if let Some(wanted) = todo.wanted {
            tokio::spawn(Arc::clone(&self.0).book(wanted));
        }
    }
}

/// Says that a call has failed, unless it is told otherwise: a task can end at any time.
struct Unanswered<R: Remote> {
    inner: Arc<Inner<R>>,
    wanted: Option<Wanted>,
}

impl<R: Remote> Drop for Unanswered<R> {
    fn drop(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            self.inner.leases.failed(&wanted, self.inner.clock.now_us());
        }
    }
}

impl<R: Remote> Inner<R> {
    /// Books hits ahead.
    async fn book(self: Arc<Self>, wanted: Wanted) {
        let part = self.remote.part(&wanted.key, &wanted.limit);
        let asked = asked(&wanted.key, wanted.limit, wanted.hits);
        let parts = self.instances.view().count.clamp(1, PARTS_MAX);
        let mut unanswered = Unanswered {
            inner: Arc::clone(&self),
            wanted: Some(wanted),
        };
        let sent = self.clock.now_us();
        let wait = self.wait(part, sent);
        let answer = self.remote.lease(part, asked, parts, wait).await;
        // What was booked and is not known to be is left behind.
        let Ok(granted) = answer else { return };
        let Some(wanted) = unanswered.wanted.take() else {
            return;
        };
        let now = self.clock.now_us();
        if let Some(left) = self.leases.granted(&wanted, granted, sent, now) {
            self.give_back(left).await;
        }
    }

    /// Gives hits back where they were booked.
    async fn give_back(&self, it: Returned) {
        let part = self.remote.part(&it.key, &it.limit);
        let asked = asked(&it.key, it.limit, it.hits);
        let wait = self.wait(part, self.clock.now_us());
        let given = self
            .remote
            .give_back(part, asked, vec![0], it.at, wait.until)
            .await;
        let stats = &self.leases.stats;
        let count = match given {
            Some(readings) if readings.iter().all(Option::is_some) => &stats.returned,
            _ => &stats.stranded,
        };
        count.fetch_add(it.hits, std::sync::atomic::Ordering::Relaxed);
        // There may be room now where there was none.
        if let Some(cache) = &self.deny_cache {
            cache.raise(it.hash);
        }
    }

    fn wait(&self, part: Part, now: u64) -> Wait {
        Wait {
            until: now + self.remote.longest_wait(part),
            hurried: false,
        }
    }
}

/// One consume.
fn asked(key: &str, limit: Limit, hits: u64) -> Arc<Asked> {
    let mut keys = Keys::default();
    let counter = keys.add(0, |text| text.push_str(key));
    Arc::new(Asked {
        keys,
        charges: vec![Charge::consume(counter, limit, hits)],
        prior: Prior::default(),
    })
}

/// Whether no other charge of the request is on the counter of this one.
fn is_alone(batch: &Batch, at: usize) -> bool {
    // Distinct counters, each with a charge, are as many as charges.
    batch.keys.len() == batch.charges.len() || {
        let counter = batch.charges[at].counter;
        batch
            .charges
            .iter()
            .filter(|charge| charge.counter == counter)
            .count()
            == 1
    }
}

impl<R: Remote + 'static> Guarded<R> {
    /// Has leases decide a request, or a part of it.
    pub(super) fn spend(&self, batch: &mut Batch) -> Spending {
        let Some(leasing) = &self.leasing else {
            return Spending::None;
        };
        if let [charge] = batch.charges.as_slice() {
            if !is_leasable(charge, batch.prior) || !self.is_reached(batch, charge) {
                return Spending::None;
            }
            return match leasing.spend(batch, charge, batch.now, true) {
                Found::Spent(verdict, _) => {
                    batch.verdicts.push(verdict);
                    batch.outcome = Outcome::default();
                    Spending::Done
                }
                Found::Soon(soon) => Spending::Soon(soon),
                Found::Nothing => Spending::None,
            };
        }
        let mut spent = Spent::new();
        for (at, charge) in batch.charges.iter().enumerate() {
            if is_leasable(charge, batch.prior)
                && is_alone(batch, at)
                && self.is_reached(batch, charge)
                && let Found::Spent(verdict, booked) = leasing.spend(batch, charge, batch.now, false)
            {
                spent.push((at, verdict, booked));
            }
        }
        if spent.is_empty() {
            return Spending::None;
        }
        if spent.len() == batch.charges.len() {
            batch
                .verdicts
                .extend(spent.iter().map(|(_, verdict, _)| *verdict));
            batch.outcome = Outcome::default();
            return Spending::Done;
        }
        Spending::Some(spent)
    }

    /// An open breaker stops spending: then shares count.
    fn is_reached(&self, batch: &Batch, charge: &Charge) -> bool {
        let part = self.remote.part(batch.keys.get(charge.counter), &charge.limit);
        self.remote.admits(part)
    }

    /// Waits for a call that books ahead, and looks once more; else asks the store in what is left of the time.
    pub(super) async fn decide_soon(&self, soon: oneshot::Receiver<()>, batch: &mut Batch) {
        let Some(charge) = batch.charges.first().copied() else {
            return;
        };
        let part = self.remote.part(batch.keys.get(charge.counter), &charge.limit);
        let until = self.wait(batch, part).until;
        let left = until.saturating_sub(self.clock.now_us());
        // Too late, or ended without an answer: what is there now decides.
        let _ = tokio::time::timeout(Duration::from_micros(left), soon).await;
        let now = self.clock.now_us();
        if let Some(leasing) = &self.leasing
            && self.remote.admits(part)
            && let Found::Spent(verdict, _) = leasing.spend(batch, &charge, now, false)
        {
            batch.verdicts.push(verdict);
            batch.outcome = Outcome::default();
            return;
        }
        if until.saturating_sub(now) < BUDGET_US_MIN {
            self.decide_without(batch, Reason::Timeout);
            return;
        }
        self.decide_noted(batch).await;
    }

    /// Has the store decide what leases have not, and puts back what they have if that is denied.
    pub(super) async fn decide_rest(&self, spent: Spent, batch: &mut Batch) {
        let before = self.deny_cache.as_ref().map(|cache| cache.before(batch));
        let is_spent = |at: usize| spent.iter().any(|(place, ..)| *place == at);
        let mut rest = Batch {
            now: batch.now,
            budget_us: batch.budget_us,
            prior: batch.prior,
            ..Batch::default()
        };
        for (at, charge) in batch.charges.iter().enumerate().filter(|(at, _)| !is_spent(*at)) {
            let counter = rest.keys.add(batch.keys.rule(charge.counter), |text| {
                text.push_str(batch.keys.get(charge.counter));
            });
            rest.charges.push(Charge { counter, ..*charge });
            rest.on_store_error.push(batch.on_store_error(at));
        }
        let by_store = self.decide_stored(&mut rest).await;
        let denied = rest.outcome.denied;
        let mut of_rest = rest.verdicts.iter().copied();
        for at in 0..batch.charges.len() {
            let verdict = match spent.iter().find(|(place, ..)| *place == at) {
                Some((_, verdict, booked)) => {
                    let mut verdict = *verdict;
                    if denied {
                        verdict.show_unbooked();
                        if let Some(leasing) = &self.leasing {
                            leasing.undo(batch, &batch.charges[at], *booked);
                        }
                    }
                    verdict
                }
                None => of_rest.next().unwrap_or_default(),
            };
            batch.verdicts.push(verdict);
        }
        batch.decided();
        if let (Some(cache), Some(before)) = (&self.deny_cache, before) {
            cache.after(batch, before, by_store);
        }
    }
}
