//! One answer for all charges of a request: everything that may be booked is, or nothing.
//!
//! 1. Charges are evaluated in order, each seeing the ones before it, also on the same counter. Refunds are booked after the
//!    verdicts, so only later requests see them.
//! 2. Any enforced "over" denies the request, and then none of its consumes is booked. Records and refunds always are.
//! 3. In a denied request a consume that fits stays OK; it shows the counter without its own hits, but with those of the
//!    request's fitting charges before it.
//! 4. A shadow or quota limit is charged as if it were enforced. A shadow limit's denial stops nothing; quota limits deny when
//!    all of the request's quota limits are over.
//! 5. A denied consume writes nothing: not an entry, not a time stamp.

use smallvec::SmallVec;

use super::limit::{Level, Limit, Micros, RECORD_HITS_MAX};
use super::state::State;

/// What a charge does to its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Booked if it fits whole and nothing denies the request.
    Consume,
    /// Booked always, up to 2^32 hits; over if the counter then is above the limit.
    Record,
    /// Never writes; over if the counter is above the limit.
    Peek,
    /// Takes hits back from the newest; never over.
    Refund,
}

/// One limit of a matched descriptor, to be charged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Charge {
    /// Which of the request's distinct counters, from 0. Charges with the same number share a counter; numbers are small, since
    /// memory for all up to the largest is used.
    pub counter: usize,
    /// The numbers.
    pub limit: Limit,
    /// Hits to consume, record or take back; a peek ignores them.
    pub hits: u64,
    /// What to do with them.
    pub mode: Mode,
    /// The limit's denial stops nothing.
    pub shadow: bool,
    /// The limit denies only together with all quota limits of the request.
    pub quota: bool,
}

impl Charge {
    /// A consume of an enforced limit that denies by itself.
    #[must_use]
    pub fn consume(counter: usize, limit: Limit, hits: u64) -> Self {
        Self {
            counter,
            limit,
            hits,
            mode: Mode::Consume,
            shadow: false,
            quota: false,
        }
    }
}

/// What a counter shows, in hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Hits used, a part of one counting whole.
    pub used: u64,
    /// Hits that still fit.
    pub remaining: u64,
    /// Microseconds until the counter is empty, at most the window.
    pub wait_us: Micros,
}

/// The outcome of one charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Above the limit, whether or not that denies the request.
    pub over: bool,
    /// Hits that fit into an empty counter of the limit that was judged: of an instance's share, if that decided.
    pub limit: u64,
    /// Hits used after this charge, a part of one counting whole.
    pub used: u64,
    /// Hits that still fit after this charge.
    pub remaining: u64,
    /// Microseconds: if over, until the same hits fit (the window, if they never can), else until the counter is empty.
    pub wait_us: Micros,
    /// What a fitting consume shows once the request is denied: the counter without its own hits. Else as above.
    pub unbooked: Reading,
}

impl Verdict {
    fn ok(limit: &Limit, reading: Reading) -> Self {
        Self {
            over: false,
            limit: limit.burst().into(),
            used: reading.used,
            remaining: reading.remaining,
            wait_us: reading.wait_us,
            unbooked: reading,
        }
    }

    /// Of `hits` that were booked by other means, and are part of this level; `empty_us` is the time until the counter is empty.
    #[must_use]
    pub fn booked(limit: &Limit, level: Level, hits: u64, empty_us: Micros) -> Self {
        let reading = |level: Level| Reading {
            used: level.used_hits(),
            remaining: level.remaining_hits(),
            wait_us: empty_us,
        };
        let before = Level {
            used: level.used.saturating_sub(hits.saturating_mul(level.cost)),
            ..level
        };
        Self {
            unbooked: reading(before),
            ..Self::ok(limit, reading(level))
        }
    }

    /// Shows the counter as it is when the hits of this charge were not booked.
    pub fn show_unbooked(&mut self) {
        self.used = self.unbooked.used;
        self.remaining = self.unbooked.remaining;
        self.wait_us = self.unbooked.wait_us;
    }
}

/// What was decided about the other part of a request that is decided in two places: charges of local scope first, then
/// those in the store. The default is a request in one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// The other part denies the request.
    pub denied: bool,
    /// Quota limits of the other part. For the part that comes first: those of the part to come, which so keeps this part's
    /// quota limits from denying the request on their own.
    pub quota_limits: u32,
    /// How many of them are over.
    pub quota_over: u32,
    /// Global shadow mode: nothing denies the request, so each consume that fits is booked.
    pub never_deny: bool,
}

/// What the charges of one call decide together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The request is denied, by this part or the other.
    pub denied: bool,
    /// The same, had nothing been told never to deny.
    pub would_deny: bool,
    /// Quota limits among these charges, without the other part's.
    pub quota_limits: u32,
    /// How many of them are over.
    pub quota_over: u32,
}

impl Outcome {
    /// What the verdicts of a request's charges come to: any enforced "over" denies, and so do quota limits that are all over.
    #[must_use]
    pub fn of(charges: &[Charge], verdicts: &[Verdict], prior: Prior) -> Self {
        let mut outcome = Self::default();
        let mut enforced_over = false;
        for (charge, verdict) in charges.iter().zip(verdicts) {
            let over = verdict.over && !charge.shadow;
            if charge.quota {
                outcome.quota_limits += 1;
                outcome.quota_over += u32::from(over);
            } else {
                enforced_over |= over;
            }
        }
        let quota_limits = outcome.quota_limits.saturating_add(prior.quota_limits);
        let quota_over = outcome.quota_over.saturating_add(prior.quota_over);
        let quota_denies = quota_limits > 0 && quota_over >= quota_limits;
        outcome.would_deny = prior.denied || enforced_over || quota_denies;
        outcome.denied = outcome.would_deny && !prior.never_deny;
        outcome
    }
}

/// Where the counters of a request are.
pub trait Counters {
    /// The counter, if it exists.
    fn get(&self, counter: usize) -> Option<&State>;
    /// The counter, created empty ([`State::new`]) if it does not exist. Called only to write.
    fn get_mut_or_new(&mut self, counter: usize, limit: &Limit) -> &mut State;
    /// Drops a counter that a refund emptied.
    fn remove(&mut self, counter: usize);
}

/// The plain form, for tests and for policies tried in virtual time.
impl Counters for Vec<Option<State>> {
    fn get(&self, counter: usize) -> Option<&State> {
        self.as_slice().get(counter)?.as_ref()
    }

    fn get_mut_or_new(&mut self, counter: usize, limit: &Limit) -> &mut State {
        if self.len() <= counter {
            self.resize(counter + 1, None);
        }
        self[counter].get_or_insert_with(|| State::new(limit.algorithm()))
    }

    fn remove(&mut self, counter: usize) {
        if let Some(slot) = self.get_mut(counter) {
            *slot = None;
        }
    }
}

/// Decides `charges` at `now`, books what is to be booked, and appends a verdict for each charge, in order.
pub fn decide<C: Counters + ?Sized>(
    now: Micros,
    charges: &[Charge],
    counters: &mut C,
    prior: Prior,
    verdicts: &mut Vec<Verdict>,
) -> Outcome {
    let first = verdicts.len();
    let mut booked: SmallVec<[u64; 16]> = SmallVec::new();
    for charge in charges {
        if booked.len() <= charge.counter {
            booked.resize(charge.counter + 1, 0);
        }
        verdicts.push(judge(now, charge, counters, &mut booked[charge.counter]));
    }
    let outcome = Outcome::of(charges, &verdicts[first..], prior);
    for (charge, verdict) in charges.iter().zip(&mut verdicts[first..]) {
        book(now, charge, counters, outcome.denied, verdict);
    }
    outcome
}

/// Gives back at `now` what an allowed part booked to consumes at `at`, because the other part denies the request, and shows the
/// counters so. `verdicts` are those that [`decide`] gave for `charges` at `at`.
pub fn give_back<C: Counters + ?Sized>(
    now: Micros,
    at: Micros,
    charges: &[Charge],
    counters: &mut C,
    verdicts: &mut [Verdict],
) {
    for (charge, verdict) in charges.iter().zip(verdicts) {
        if charge.mode == Mode::Consume && !verdict.over {
            take(now, charge, counters, Some(at));
            verdict.show_unbooked();
        }
    }
}

/// The verdict of one charge on its counter, of which charges before it took `booked` units. Writes no counter.
fn judge<C: Counters + ?Sized>(now: Micros, charge: &Charge, counters: &C, booked: &mut u64) -> Verdict {
    let limit = &charge.limit;
    let nothing = State::new(limit.algorithm());
    let state = counters.get(charge.counter).unwrap_or(&nothing);
    let level = state.level(now, limit);
    let before = level.plus(*booked);
    let over = |level: Level, booked, hits| Verdict {
        over: true,
        ..Verdict::ok(
            limit,
            Reading {
                used: level.used_hits(),
                remaining: level.remaining_hits(),
                wait_us: state.wait_us(now, limit, booked, hits),
            },
        )
    };
    let ok = |level: Level, booked| {
        let reading = Reading {
            used: level.used_hits(),
            remaining: level.remaining_hits(),
            wait_us: state.empty_us(now, limit, booked),
        };
        Verdict::ok(limit, reading)
    };
    match charge.mode {
        Mode::Peek if before.fits(0) => ok(before, *booked),
        Mode::Peek => over(before, *booked, 0),
        Mode::Consume if before.fits(charge.hits) => {
            let unbooked = ok(before, *booked).unbooked;
            *booked += charge.hits * limit.cost();
            Verdict {
                unbooked,
                ..ok(level.plus(*booked), *booked)
            }
        }
        Mode::Consume => over(before, *booked, charge.hits),
        Mode::Record => {
            let most = limit.units_max().saturating_sub(before.used);
            let hits = charge.hits.min(RECORD_HITS_MAX);
            *booked += hits.saturating_mul(limit.cost()).min(most);
            let after = level.plus(*booked);
            if after.fits(0) {
                ok(after, *booked)
            } else {
                over(after, *booked, charge.hits)
            }
        }
        Mode::Refund => Verdict::default(), // read when it is booked
    }
}

/// Writes one charge, as the whole request's verdict allows.
fn book<C: Counters + ?Sized>(
    now: Micros,
    charge: &Charge,
    counters: &mut C,
    denied: bool,
    verdict: &mut Verdict,
) {
    let limit = &charge.limit;
    match charge.mode {
        Mode::Consume if denied && !verdict.over => verdict.show_unbooked(),
        Mode::Consume if !verdict.over && charge.hits > 0 => {
            counters
                .get_mut_or_new(charge.counter, limit)
                .consume(now, limit, charge.hits);
        }
        Mode::Record if charge.hits > 0 => {
            counters.get_mut_or_new(charge.counter, limit).charge(
                now,
                limit,
                charge.hits.min(RECORD_HITS_MAX),
            );
        }
        Mode::Refund => {
            take(now, charge, counters, None);
            let nothing = State::new(limit.algorithm());
            let state = counters.get(charge.counter).unwrap_or(&nothing);
            let level = state.level(now, limit);
            let reading = Reading {
                used: level.used_hits(),
                remaining: level.remaining_hits(),
                wait_us: state.empty_us(now, limit, 0),
            };
            *verdict = Verdict::ok(limit, reading);
        }
        Mode::Consume | Mode::Record | Mode::Peek => {}
    }
}

/// Takes a charge's hits from its counter, if there is one, and drops the counter when that empties it: those booked at an
/// instant, or the newest.
fn take<C: Counters + ?Sized>(now: Micros, charge: &Charge, counters: &mut C, booked_at: Option<Micros>) {
    let limit = &charge.limit;
    let used = |c: &C| c.get(charge.counter).map_or(0, |s| s.level(now, limit).used);
    if charge.hits == 0 || used(counters) == 0 {
        return;
    }
    let state = counters.get_mut_or_new(charge.counter, limit);
    match booked_at {
        Some(at) => state.give_back(now, limit, charge.hits, at),
        None => state.refund(now, limit, charge.hits),
    }
    if state.is_empty() {
        counters.remove(charge.counter);
    }
}
