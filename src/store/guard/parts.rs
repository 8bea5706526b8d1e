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
//! - Shares come last, when all else has allowed the request, so that nothing has to be taken from them again.
//! - Quota limits deny only all together, so no part denies by its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use smallvec::SmallVec;

use super::{Asked, Decided, Guarded, Part, Reason, Remote, StoreError};
use crate::limiter::{Charge, Micros, Mode, Outcome, Prior, Reading, Verdict};
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

impl<R: Remote> Guarded<R> {
    /// Decides a batch whose counters are in several parts.
    pub(super) async fn decide_in_parts(&self, batch: &mut Batch) {
        let mut groups = groups(batch, |charge| {
            self.remote.part(batch.keys.get(charge.counter), &charge.limit)
        });
        let unknown = Verdict {
            over: true,
            ..Verdict::default()
        };
        batch.verdicts.clear();
        batch.verdicts.resize(batch.charges.len(), unknown);
        let now = batch.now;
        let leader = (0..groups.len()).max_by_key(|at| self.denials.at(&groups[*at].asked));
        let leader = leader.filter(|at| self.denials.at(&groups[*at].asked) + LATELY_US > now);
        if let Some(at) = leader {
            groups.swap(0, at);
        }
        let mut answers: Vec<Result<Decided, StoreError>> = Vec::with_capacity(groups.len());
        if leader.is_some() {
            answers.push(self.ask_group(batch, &groups[0]).await);
            if matches!(&answers[0], Ok(decided) if decided.outcome.denied) {
                groups[1..].iter_mut().for_each(denied);
            }
        }
        let asking = groups[answers.len()..]
            .iter()
            .map(|group| self.ask_group(batch, group));
        answers.extend(join_all(asking).await);
        for (group, answer) in groups.iter().zip(&answers) {
            if let Ok(decided) = answer {
                for (at, verdict) in group.charges.iter().zip(&decided.verdicts) {
                    batch.verdicts[*at] = *verdict;
                }
                if decided.outcome.denied {
                    self.denials.note(&group.asked, now);
                }
            }
        }
        self.decide_rest(batch, &groups, &answers);
        batch.outcome = Outcome::of(&batch.charges, &batch.verdicts, batch.prior);
        if batch.outcome.denied {
            self.give_back(batch, &groups, &answers).await;
        }
    }

    async fn ask_group(&self, batch: &Batch, group: &Group) -> Result<Decided, StoreError> {
        let give_up_at = self.give_up_at(batch, group.part);
        self.remote
            .ask(group.part, Arc::clone(&group.asked), give_up_at)
            .await
    }

    /// Has what nobody answered decided by shares, as one.
    fn decide_rest(&self, batch: &mut Batch, groups: &[Group], answers: &[Result<Decided, StoreError>]) {
        let unanswered = groups.iter().zip(answers).filter_map(|(group, answer)| {
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
            reason = Some(Reason::from(error));
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
    async fn give_back(&self, batch: &mut Batch, groups: &[Group], answers: &[Result<Decided, StoreError>]) {
        let now = self.clock.now_us();
        let mut giving = Vec::new();
        for (group, answer) in groups.iter().zip(answers) {
            let Ok(decided) = answer else { continue };
            // A part that denied by itself, or was told that the request is denied, has booked nothing.
            if decided.outcome.denied {
                continue;
            }
            let which = group.booked(decided);
            if which.is_empty() {
                continue;
            }
            let wait_until = self.give_up_at(batch, group.part).max(now + GIVE_BACK_US);
            giving.push(async move {
                let asked = Arc::clone(&group.asked);
                let given = self
                    .remote
                    .give_back(group.part, asked, which.clone(), decided.now_us, wait_until)
                    .await;
                (group, which, given)
            });
        }
        for (group, which, given) in join_all(giving).await {
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
