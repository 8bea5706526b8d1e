//! One answer for a request whose counters are in several parts of the store, each of which decides by itself.
//!
//! ```text
//! the part that denied last ──verdict──> the others, side by side ──verdicts──> what nobody answered: shares, all together
//!                                                                                  │
//!                      denied: what was confirmed as booked is given back <────────┘
//! ```
//!
//! The request is charged as a whole or not at all, but not at one moment: between a part's answer and the give-back others may be
//! denied by what will be given back. It errs to the strict side, always:
//!
//! - Given back is only what a part has confirmed. What it may have booked without an answer stays until it leaves its window.
//! - The parts are asked to the end also if the caller goes away, and what they booked for it is given back.
//! - Shares come last, when all else has allowed the request, so that nothing has to be taken from them again.
//! - Quota limits deny only all together, so no part denies by its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::deny_cache::DenyCache;
use super::{Asked, Decided, Guarded, Part, Reason, Remote, StoreError, Wait};
use crate::limiter::{Charge, Micros, Mode, Prior, Reading, Verdict};
use crate::store::{Batch, Keys};

/// Places for denials that are remembered.
const DENIALS: usize = 1_024;
/// A denial that is longer ago says nothing about the next.
const LATELY_US: Micros = 1_000_000;
/// The least time that is left for a give-back to be waited for.
const GIVE_BACK_US: Micros = 2_000;

/// When counters denied last, by a hash of their key: what two of them share costs a detour, not a wrong answer.
#[derive(Debug)]
pub(super) struct Denials(Box<[AtomicU64]>);

impl Default for Denials {
    fn default() -> Self {
        Self((0..DENIALS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Denials {
    fn place(&self, asked: &Asked) -> &AtomicU64 {
        &self.0[asked.spread() % DENIALS]
    }

    fn at(&self, asked: &Asked) -> Micros {
        self.place(asked).load(Ordering::Relaxed)
    }

    fn note(&self, asked: &Asked, now: Micros) {
        self.place(asked).store(now, Ordering::Relaxed);
    }
}

/// The charges of one part.
#[derive(Debug)]
struct Group {
    part: Part,
    /// Their places in the batch.
    charges: SmallVec<[usize; 8]>,
    asked: Arc<Asked>,
    wait: Wait,
}

impl Group {
    /// Its charges that `decided` has booked and a denial takes back.
    fn booked(&self, decided: &Decided) -> Vec<usize> {
        let charges = self.asked.charges.iter().zip(&decided.verdicts).enumerate();
        charges
            .filter(|(_, (charge, verdict))| charge.mode == Mode::Consume && !verdict.over && charge.hits > 0)
            .map(|(index, _)| index)
            .collect()
    }
}

/// The charges by part, in the order in which the parts come first.
fn groups(batch: &Batch, part: impl Fn(&Charge) -> Part) -> Vec<Group> {
    let mut found: Vec<(Part, SmallVec<[usize; 8]>, Asked)> = Vec::new();
    for (at, charge) in batch.charges.iter().enumerate() {
        let part = part(charge);
        let place = found.iter().position(|(known, ..)| *known == part);
        let place = place.unwrap_or_else(|| {
            found.push((part, SmallVec::new(), Asked::default()));
            found.len() - 1
        });
        let (_, places, asked) = &mut found[place];
        places.push(at);
        let counter = asked.keys.add(batch.keys.rule(charge.counter), |text| {
            text.push_str(batch.keys.get(charge.counter));
        });
        asked.charges.push(Charge { counter, ..*charge });
    }
    let quota_limits = batch.prior.quota_limits.saturating_add(quota(&batch.charges));
    found
        .into_iter()
        .map(|(part, charges, mut asked)| {
            asked.prior = Prior {
                // A part counts its own by itself.
                quota_limits: quota_limits - quota(&asked.charges),
                ..batch.prior
            };
            Group {
                part,
                charges,
                asked: Arc::new(asked),
                wait: Wait {
                    until: 0,
                    hurried: false,
                },
            }
        })
        .collect()
}

fn quota(charges: &[Charge]) -> u32 {
    u32::try_from(charges.iter().filter(|charge| charge.quota).count()).unwrap_or(u32::MAX)
}

/// The same, in a request that is denied already.
fn denied(group: &mut Group) {
    let asked = &group.asked;
    group.asked = Arc::new(Asked {
        keys: asked.keys.clone(),
        charges: asked.charges.clone(),
        prior: Prior {
            denied: true,
            ..asked.prior
        },
    });
}

/// What the parts have answered.
#[derive(Debug)]
struct Answers {
    groups: Vec<Group>,
    /// One for each group.
    answers: Vec<Result<Decided, StoreError>>,
}

impl Answers {
    /// The groups that have booked something, their charges that a denial takes back, and when that was.
    fn booked(&self) -> impl Iterator<Item = (&Group, Vec<usize>, Micros)> {
        self.groups
            .iter()
            .zip(&self.answers)
            .filter_map(|(group, answer)| {
                let decided = answer.as_ref().ok()?;
                // A part that denied by itself, or was told that the request is denied, has booked nothing.
                let which = if decided.outcome.denied {
                    Vec::new()
                } else {
                    group.booked(decided)
                };
                (!which.is_empty()).then_some((group, which, decided.now_us))
            })
    }
}

/// Asks all parts, the first before the others if it `leads`.
async fn ask<R: Remote>(remote: Arc<R>, mut groups: Vec<Group>, leads: bool) -> Answers {
    let mut answers = Vec::with_capacity(groups.len());
    let one = |group: &Group| remote.ask(group.part, Arc::clone(&group.asked), group.wait);
    if leads {
        answers.push(one(&groups[0]).await);
        if matches!(&answers[0], Ok(decided) if decided.outcome.denied) {
            groups[1..].iter_mut().for_each(denied);
        }
    }
    answers.extend(join_all(groups[answers.len()..].iter().map(one)).await);
    Answers { groups, answers }
}

/// Tells the deny cache that there may be room now where there was none.
fn given_back(cache: Option<&DenyCache>, answers: &Answers) {
    let Some(cache) = cache else { return };
    for (group, which, _) in answers.booked() {
        for at in which {
            cache.raise(group.asked.keys.hash(group.asked.charges[at].counter));
        }
    }
}

impl<R: Remote + 'static> Guarded<R> {
    /// Decides a batch whose counters are in several parts. Whether the store has decided all of it.
    pub(super) async fn decide_in_parts(&self, batch: &mut Batch) -> bool {
        let mut groups = groups(batch, |charge| {
            self.remote.part(batch.keys.get(charge.counter), &charge.limit)
        });
        let now = batch.now;
        let leader = (0..groups.len()).max_by_key(|at| self.denials.at(&groups[*at].asked));
        let leader = leader.filter(|at| self.denials.at(&groups[*at].asked) + LATELY_US > now);
        if let Some(at) = leader {
            groups.swap(0, at);
        }
        for group in &mut groups {
            group.wait = self.wait(batch, group.part);
        }
        let Some(answers) = self.ask_to_the_end(groups, leader.is_some()).await else {
            return false;
        };
        let unknown = Verdict {
            over: true,
            ..Verdict::default()
        };
        batch.verdicts.clear();
        batch.verdicts.resize(batch.charges.len(), unknown);
        for (group, answer) in answers.groups.iter().zip(&answers.answers) {
            if let Ok(decided) = answer {
                for (at, verdict) in group.charges.iter().zip(&decided.verdicts) {
                    batch.verdicts[*at] = *verdict;
                }
                // One that was told so denied nothing by itself.
                if decided.outcome.denied && !group.asked.prior.denied {
                    self.denials.note(&group.asked, now);
                }
            }
        }
        self.decide_unanswered(batch, &answers);
        batch.decided();
        if batch.outcome.denied {
            self.give_back(batch, &answers).await;
        }
        answers.answers.iter().all(Result::is_ok)
    }

    /// Asks in a task of its own: if the caller goes away in between, what was booked for it is given back. `None` if the process
    /// ends.
    async fn ask_to_the_end(&self, groups: Vec<Group>, leads: bool) -> Option<Answers> {
        let (deliver, delivered) = oneshot::channel();
        let (remote, deny_cache) = (Arc::clone(&self.remote), self.deny_cache.clone());
        tokio::spawn(async move {
            let answers = ask(Arc::clone(&remote), groups, leads).await;
            if let Err(unwanted) = deliver.send(answers) {
                let giving = unwanted.booked().map(|(group, which, at)| {
                    let asked = Arc::clone(&group.asked);
                    remote.give_back(group.part, asked, which, at, group.wait.until)
                });
                join_all(giving).await;
                given_back(deny_cache.as_deref(), &unwanted);
            }
        });
        delivered.await.ok()
    }

    /// Has what nobody answered decided by shares, as one.
    fn decide_unanswered(&self, batch: &mut Batch, answers: &Answers) {
        let all = answers.groups.iter().zip(&answers.answers);
        let unanswered = all.filter_map(|(group, answer)| {
            let error = answer.as_ref().err()?;
            Some((group, error))
        });
        let mut rest = Batch {
            now: batch.now,
            prior: batch.prior,
            ..Batch::default()
        };
        let (mut places, mut reason): (Vec<usize>, Option<Reason>) = (Vec::new(), None);
        for (group, error) in unanswered {
            let why = Reason::from(error);
            // One that may have decided speaks for all: then no refund has an effect.
            if reason.is_none_or(|known| !known.is_unknown()) {
                reason = Some(why);
            }
            places.extend_from_slice(&group.charges);
        }
        let Some(reason) = reason else { return };
        places.sort_unstable();
        for (at, verdict) in batch.verdicts.iter().enumerate() {
            let charge = &batch.charges[at];
            if places.binary_search(&at).is_ok() {
                continue;
            }
            // What the others have decided, as the part that came before.
            if charge.quota {
                rest.prior.quota_limits += 1;
                rest.prior.quota_over += u32::from(verdict.over && !charge.shadow);
            } else {
                rest.prior.denied |= verdict.over && !charge.shadow;
            }
        }
        let mut keys = Keys::default();
        for at in &places {
            let charge = &batch.charges[*at];
            let counter = keys.add(batch.keys.rule(charge.counter), |text| {
                text.push_str(batch.keys.get(charge.counter));
            });
            rest.charges.push(Charge { counter, ..*charge });
            rest.on_store_error.push(batch.on_store_error(*at));
        }
        rest.keys = keys;
        self.decide_without(&mut rest, reason);
        for (at, verdict) in places.iter().zip(&rest.verdicts) {
            batch.verdicts[*at] = *verdict;
        }
    }

    /// Gives back what was confirmed as booked, and shows the counters without it.
    async fn give_back(&self, batch: &mut Batch, answers: &Answers) {
        let now = self.clock.now_us();
        // A little longer than for the answer, if the caller has the time.
        let latest = batch.budget_us.map_or(Micros::MAX, |budget| batch.now + budget);
        let giving = answers.booked().map(|(group, which, at)| async move {
            let wait_until = group.wait.until.max(now + GIVE_BACK_US).min(latest);
            let asked = Arc::clone(&group.asked);
            let given = self
                .remote
                .give_back(group.part, asked, which.clone(), at, wait_until)
                .await;
            (group, which, given)
        });
        let given = join_all(giving).await;
        given_back(self.deny_cache.as_deref(), answers);
        for (group, which, given) in given {
            for (place, index) in which.iter().enumerate() {
                let at = group.charges[*index];
                let reading = given.as_ref().and_then(|given| *given.get(place)?);
                let verdict = &mut batch.verdicts[at];
                verdict.unbooked = reading.unwrap_or(Reading {
                    used: verdict.used.saturating_sub(batch.charges[at].hits),
                    remaining: verdict.remaining + batch.charges[at].hits,
                    wait_us: verdict.wait_us,
                });
                verdict.show_unbooked();
            }
        }
    }
}
