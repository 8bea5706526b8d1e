//! One request, decided.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::answer::{Answer, CurrentLimit, Header, Status};
use super::buffers::{Buffers, Parts};
use super::plan::{Planner, Series, Shown, Subject};
use super::{Options, headers, metadata};
use crate::clock::Clock;
use crate::descriptor::{KeyEncoder, Request};
use crate::limiter::{Charge, Mode, Verdict};
use crate::policy::snapshot::Lookup;
use crate::policy::{DomainPolicy, Rule, Snapshot};
use crate::store::Batch;
use crate::store::local::LocalStore;
use crate::store::{Step, Store};
use crate::telemetry::{LimitSeries, Observed, Telemetry, Transport};

/// Why a request can't be decided although it is valid: an answer would be a guess.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The policies were never loaded.
    #[error("no rate limit configuration loaded")]
    NoPolicies,
    /// The domain's files have been in error since the start, so its limits are unknown.
    #[error("domain {0:?}: its policy file is in error and no earlier version is known")]
    DomainInError(String),
}

/// Decides requests. One for all threads.
#[derive(Debug)]
pub struct Decider {
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Arc<dyn Store>,
    local: Arc<LocalStore>,
    clock: Clock,
    keys: KeyEncoder,
    telemetry: Arc<Telemetry>,
    options: Options,
}

impl Decider {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        store: Arc<dyn Store>,
        local: Arc<LocalStore>,
        clock: Clock,
        keys: KeyEncoder,
        telemetry: Arc<Telemetry>,
        options: Options,
    ) -> Self {
        Self {
            snapshot,
            store,
            local,
            clock,
            keys,
            telemetry,
            options,
        }
    }

    /// The metrics that it counts in.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Decides a request: all of its charges together, or none. `budget` is how long the caller can wait.
    ///
    /// # Errors
    /// Policies that are not there. Everything else has an answer.
    pub async fn decide(
        &self,
        request: &Request<'_>,
        transport: Transport,
        budget: Option<Duration>,
    ) -> Result<Answer, NotReady> {
        let now = self.clock.now_us();
        let snapshot = Held::of(&self.snapshot, self.store.may_wait());
        let answer = match snapshot.look_up(request.domain()) {
            Lookup::NotLoaded => return Err(self.not_ready(transport, NotReady::NoPolicies)),
            Lookup::InError => {
                let domain = request.domain().to_owned();
                return Err(self.not_ready(transport, NotReady::DomainInError(domain)));
            }
            Lookup::Unknown => {
                self.telemetry.requests.domain_not_found.increment(1);
                let statuses = request.descriptors().iter().map(|_| Status::default()).collect();
                Answer {
                    statuses,
                    ..Answer::default()
                }
            }
            Lookup::Found(domain) => self.decide_in(domain, request, now, budget).await,
        };
        self.telemetry.requests.decided(transport, answer.denied);
        let spent_us = self.clock.now_us().saturating_sub(now);
        self.telemetry.requests.took(spent_us);
        Ok(answer)
    }

    fn not_ready(&self, transport: Transport, why: NotReady) -> NotReady {
        self.telemetry.requests.unavailable(transport);
        why
    }

    async fn decide_in(
        &self,
        domain: &DomainPolicy,
        request: &Request<'_>,
        now: u64,
        budget: Option<Duration>,
    ) -> Answer {
        let planner = Planner {
            domain,
            request,
            keys: &self.keys,
            options: &self.options,
            telemetry: &self.telemetry,
            now,
        };
        let mut buffers = Buffers::take();
        let parts = buffers.parts();
        let subjects = planner.plan(parts);
        parts.global.budget_us = budget.map(|budget| u64::try_from(budget.as_micros()).unwrap_or(u64::MAX));
        let denied = self.charge(parts).await;
        self.answer(request, parts, &subjects, denied)
    }

    /// Has both parts of the plan decided, so that they are denied together. Returns whether the request is denied.
    async fn charge(&self, parts: &mut Parts) -> bool {
        let Parts { global, local, .. } = parts;
        if !local.charges.is_empty() {
            // Quota limits deny only all together: those of the other part are counted as not over until they are decided.
            local.prior.quota_limits = count_quota(global);
            self.local.decide(local);
            global.prior.denied = local.outcome.denied;
            global.prior.quota_limits = local.outcome.quota_limits;
            global.prior.quota_over = local.outcome.quota_over;
        }
        if global.charges.is_empty() {
            return local.outcome.denied;
        }
        match self.store.decide(global) {
            Step::Done => {}
            Step::Wait(verdicts) => verdicts.await,
        }
        if global.outcome.denied && !local.outcome.denied && !local.charges.is_empty() {
            self.local.give_back(local, self.clock.now_us());
        }
        global.outcome.denied
    }

    fn answer(&self, request: &Request<'_>, parts: &Parts, subjects: &[Subject<'_>], denied: bool) -> Answer {
        let mut answer = Answer {
            denied,
            ..Answer::default()
        };
        answer.statuses.reserve_exact(subjects.len());
        for subject in subjects {
            answer.statuses.push(match subject {
                Subject::Free { unlimited, .. } => Status {
                    remaining: if *unlimited { u32::MAX } else { 0 },
                    ..Status::default()
                },
                Subject::Limited {
                    rule,
                    shown,
                    local,
                    charge,
                    series,
                } => {
                    let batch = if *local { &parts.local } else { &parts.global };
                    status(*rule, *shown, batch, *charge, series)
                }
            });
        }
        if !denied && (parts.local.outcome.would_deny || parts.global.outcome.would_deny) {
            self.telemetry.requests.global_shadow.increment(1);
        }
        self.decorate(request, subjects, &mut answer);
        answer
    }

    /// Adds what settings ask for besides the statuses.
    fn decorate(&self, request: &Request<'_>, subjects: &[Subject<'_>], answer: &mut Answer) {
        if let Some(names) = &self.options.limit_headers {
            answer.response_headers = headers::limit_headers(names, &answer.statuses);
        }
        if answer.denied {
            if self.options.retry_after {
                answer
                    .response_headers
                    .push(headers::retry_after(&answer.statuses));
            }
            answer.denied_body.clone_from(&self.options.denied_body);
            if self.options.denied_body_is_json {
                let (name, value) = ("content-type".into(), "application/json".to_owned());
                answer.response_headers.push(Header { name, value });
            }
        }
        if self.options.dynamic_metadata {
            let rules = subjects.iter().map(|subject| match subject {
                Subject::Free { rule, .. } | Subject::Limited { rule, .. } => *rule,
            });
            answer.dynamic_metadata = Some(metadata::dynamic_metadata(request, rules.zip(&answer.statuses)));
        }
    }
}

/// What became of one limited descriptor.
fn status(rule: Option<&Rule>, shown: Shown, batch: &Batch, place: usize, series: &Series<'_>) -> Status {
    let charge = &batch.charges[place];
    // A store that left no verdict has decided nothing: the limit was not checked, so it is not passed.
    let unknown = || Verdict {
        over: true,
        limit: charge.limit.burst().into(),
        ..Verdict::default()
    };
    let verdict = batch.verdicts.get(place).copied().unwrap_or_else(unknown);
    observe(series.get(), charge, verdict);
    let name = rule.map(|rule| &rule.name).filter(|name| !name.is_empty());
    Status {
        over: verdict.over && !rule.is_some_and(|rule| rule.shadow),
        quota: charge.quota,
        current_limit: Some(CurrentLimit {
            requests_per_unit: shown.requests_per_unit,
            unit: shown.unit,
            unit_multiplier: shown.unit_multiplier,
            name: name.cloned(),
        }),
        remaining: u32::try_from(verdict.remaining).unwrap_or(u32::MAX),
        reset_s: Some(verdict.wait_us.div_ceil(1_000_000)),
    }
}

/// The snapshot that a request is decided by.
enum Held {
    /// On loan: the cheapest, and one of a few that a thread has.
    Guard(arc_swap::Guard<Arc<Snapshot>>),
    /// For as long as a store may take.
    Own(Arc<Snapshot>),
}

impl Held {
    fn of(snapshot: &ArcSwap<Snapshot>, may_wait: bool) -> Self {
        if may_wait {
            Self::Own(snapshot.load_full())
        } else {
            Self::Guard(snapshot.load())
        }
    }
}

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        match self {
            Self::Guard(snapshot) => snapshot,
            Self::Own(snapshot) => snapshot,
        }
    }
}

fn count_quota(batch: &Batch) -> u32 {
    let quota = batch.charges.iter().filter(|charge| charge.quota).count();
    u32::try_from(quota).unwrap_or(u32::MAX)
}

fn observe(series: &LimitSeries, charge: &Charge, verdict: Verdict) {
    match charge.mode {
        Mode::Refund => series.refund(charge.hits),
        Mode::Consume | Mode::Record | Mode::Peek => series.observe(Observed {
            limit: verdict.limit,
            hits: charge.hits,
            used: verdict.used,
            over: verdict.over,
            recorded: charge.mode == Mode::Record,
            shadow: charge.shadow,
        }),
    }
}
