//! A circuit breaker: stops asking a node that does not answer, and lets requests come back once a probe could write to it.
//!
//! ```text
//!                            ┌─────────── failed: a longer pause ───────────┐
//!                            ▼                                              │
//! closed ──5 in a row──> open ──pause──> half-open: one probe under way ────┤
//!    ▲  ╲──half of them──╱▲                                                 │
//!    │   ╲─────trip─────╱ └────────────────── trip ─────────────────────────┤
//!    └───────────────────────── succeeded ──────────────────────────────────┘
//! ```
//!
//! # What counts
//! The requests of one late call fail together, so failures closer than 1.5 ms are one *moment*. Five moments without a success
//! between them open the breaker. So does a second in which at least half of at least 20 requests failed, in at least five
//! moments: here requests are counted, not moments, because a moment of many successful calls would weigh as little as one that
//! holds a single failed call.
//!
//! # What it costs
//! A request reads one byte before it asks and the same byte when it is answered; while nothing fails nobody writes to the byte
//! or beside it. The byte also says whether there was a failure during the last second, and only then are successes counted,
//! under a lock. So the ratio is the one since the first failure, at most a second back: without the successes before it the
//! breaker opens sooner than by the whole second, never later, and still not for less than 20 requests and five moments.
//!
//! # What closes it
//! Probes alone. The success of a request that was sent before it opened proves that the node answered then; a probe proves that
//! it takes writes now. A straggler that is not believed costs one pause at most.
//!
//! # Pauses
//! 50 ms before the first probe, doubled with each that fails, up to 400 ms; each by up to a quarter shorter or longer, so that
//! instances don't come together. A node that fails within a second of being closed again has relapsed, and every further
//! relapse doubles the first pause: one that lets probes through but not requests is soon asked every 400 ms only. It is not the
//! last pause that is taken up again: after a long outage that is the longest, and a return with one false start would take more
//! than a second.

mod window;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::window::Window;
use super::Reason;
use crate::limiter::Micros;

/// Moments of failure in a row that open the breaker, and that a failure ratio must have.
const MOMENTS_MAX: u32 = 5;
/// Failures closer together than this are one moment.
const MOMENT_US: Micros = 1_500;
/// Requests that a failure ratio must have.
const OUTCOMES_MIN: u32 = 20;
/// The first pause before a probe.
const PAUSE_US: Micros = 50_000;
/// The longest pause, less its random part of a quarter.
const PAUSE_US_MAX: Micros = 400_000;
/// Opening so soon after closing is a relapse.
const RELAPSE_US: Micros = 1_000_000;
/// A probe that says nothing for so long is given up, so that a task which ended in the middle does not block all further ones.
const PROBE_US_MAX: Micros = 1_000_000;

/// The byte that requests read: below [`OPEN`] they may ask.
const CALM: u8 = 0;
/// Closed, with a failure during the last second: successes are counted.
const TROUBLED: u8 = 1;
const OPEN: u8 = 2;
const HALF_OPEN: u8 = 3;

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests ask the node.
    Closed,
    /// No request asks it, until a probe succeeds.
    Open,
    /// The same, and a probe is under way.
    HalfOpen,
}

/// What made a breaker open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Failures in a row.
    Row,
    /// Too many of a second's requests failed.
    Ratio,
    /// It was told to.
    Trip,
}

/// A change that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Requests no longer ask the node.
    Opened {
        /// How the last request failed, or what the trip was for.
        why: Reason,
        /// What was too much.
        cause: Cause,
        /// How often in a row it did so within a second of closing.
        relapses: u32,
    },
    /// Requests ask it again.
    Closed {
        /// For how long they did not.
        after_us: Micros,
    },
}

/// The right to make one probe.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// What the task that makes the probes has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: it is closed.
    NotNeeded,
    /// To ask again after this time.
    In(Duration),
    /// To write to the node and to say within a second, by the ticket, whether that worked.
    Now(Ticket),
}

/// The breaker of one node, shared by all threads. All times are of one clock that never steps back.
#[derive(Debug)]
pub struct Breaker {
    /// What requests read; written under the lock.
    state: AtomicU8,
    inner: Mutex<Inner>,
}

/// All that is needed only while something fails.
#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// The latest time told. Threads tell theirs a little out of order.
    latest: Micros,
    /// Moments of failure since the last success.
    row: u32,
    /// The last moment's begin.
    moment: Option<Micros>,
    window: Window,
    relapses: u32,
    closed_at: Option<Micros>,
    opened_at: Micros,
    /// Time not closed, without the present.
    away_us: Micros,
    /// By reason.
    opened: [u64; Reason::ALL.len()],
    tickets: u64,
    /// Of the pauses' random parts.
    random: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open {
        due: Micros,
        pause: Micros,
    },
    HalfOpen {
        ticket: u64,
        until: Micros,
        pause: Micros,
    },
}

impl Breaker {
    /// A closed breaker. `seed` should differ between the instances that use the same node: it draws the pauses' random parts.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            phase: Phase::Closed,
            latest: 0,
            row: 0,
            moment: None,
            window: Window::default(),
            relapses: 0,
            closed_at: None,
            opened_at: 0,
            away_us: 0,
            opened: [0; Reason::ALL.len()],
            tickets: 0,
            random: seed,
        };
        Self {
            state: AtomicU8::new(CALM),
            inner: Mutex::new(inner),
        }
    }

    /// Whether a request may ask the node. Costs one load.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.state.load(Ordering::Acquire) < OPEN
    }

    /// The node answered a request. Costs one load while nothing fails; never closes the breaker.
    pub fn succeeded(&self, now: Micros) {
        if self.state.load(Ordering::Acquire) != TROUBLED {
            return;
        }
        let mut inner = self.lock();
        if inner.phase == Phase::Closed && inner.is_calm_after_success(now) {
            self.state.store(CALM, Ordering::Release);
        }
    }

    /// The node did not answer a request, or not in time. What says nothing about the node is not to be told.
    pub fn failed(&self, now: Micros, why: Reason) -> Option<Transition> {
        if !self.admits() {
            return None;
        }
        let mut inner = self.lock();
        if inner.phase != Phase::Closed {
            return None;
        }
        let Some(cause) = inner.count_failure(now) else {
            self.state.store(TROUBLED, Ordering::Release);
            return None;
        };
        let opened = inner.open(why, cause);
        self.state.store(OPEN, Ordering::Release);
        Some(opened)
    }

    /// Opens at once: the node is known to be gone, or must not be used yet. If it is open already, the next probe is at most
    /// the first pause away, and a probe under way no longer counts.
    pub fn trip(&self, now: Micros, why: Reason) -> Option<Transition> {
        let mut inner = self.lock();
        let now = inner.see(now);
        let pause = inner.jittered(PAUSE_US);
        let (due, opened) = match inner.phase {
            Phase::Closed => (now + pause, Some(inner.open(why, Cause::Trip))),
            Phase::Open { due, .. } => (due.min(now + pause), None),
            Phase::HalfOpen { .. } => (now + pause, None),
        };
        inner.phase = Phase::Open { due, pause: PAUSE_US };
        self.state.store(OPEN, Ordering::Release);
        opened
    }

    /// Whether a probe is due; if so, it is the caller's and the only one.
    pub fn probe_due(&self, now: Micros) -> Probe {
        if self.admits() {
            return Probe::NotNeeded;
        }
        let mut inner = self.lock();
        let now = inner.see(now);
        let (due, pause) = match inner.phase {
            Phase::Closed => return Probe::NotNeeded,
            Phase::Open { due, pause } => (due, pause),
            Phase::HalfOpen { until, pause, .. } => (until, pause),
        };
        if now < due {
            return Probe::In(Duration::from_micros(due - now));
        }
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.phase = Phase::HalfOpen {
            ticket,
            until: now + PROBE_US_MAX,
            pause,
        };
        self.state.store(HALF_OPEN, Ordering::Release);
        Probe::Now(Ticket(ticket))
    }

    /// The probe could write. Closes the breaker, unless the probe was given up or overtaken by a trip.
    pub fn probe_succeeded(&self, now: Micros, ticket: Ticket) -> Option<Transition> {
        let mut inner = self.lock();
        inner.pause_of(&ticket)?;
        let closed = inner.close(now);
        self.state.store(CALM, Ordering::Release);
        Some(closed)
    }

    /// The probe could not write, or its outcome is not known.
    pub fn probe_failed(&self, now: Micros, ticket: Ticket) {
        let mut inner = self.lock();
        let Some(pause) = inner.pause_of(&ticket) else {
            return;
        };
        let now = inner.see(now);
        let pause = (pause * 2).min(PAUSE_US_MAX);
        let due = now + inner.jittered(pause);
        inner.phase = Phase::Open { due, pause };
        self.state.store(OPEN, Ordering::Release);
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            OPEN => State::Open,
            HALF_OPEN => State::HalfOpen,
            _ => State::Closed,
        }
    }

    /// How often it opened since the start, by reason.
    pub fn opened(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let opened = self.lock().opened;
        Reason::ALL.into_iter().map(|(_, name)| name).zip(opened)
    }

    /// The time for which it was not closed since the start, the present outage included.
    #[must_use]
    pub fn open_us(&self, now: Micros) -> Micros {
        let inner = self.lock();
        let present = match inner.phase {
            Phase::Closed => 0,
            _ => now.saturating_sub(inner.opened_at),
        };
        inner.away_us + present
    }

    /// What holds the lock does nothing that can panic, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn see(&mut self, now: Micros) -> Micros {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Counts a success; whether there was no failure for a second.
    fn is_calm_after_success(&mut self, now: Micros) -> bool {
        let now = self.see(now);
        self.row = 0;
        self.window.advance(now);
        let calm = self.window.sum().failed == 0;
        if !calm {
            self.window.count(1, 0, 0);
        }
        calm
    }

    /// Counts a failure; what it was too much for.
    fn count_failure(&mut self, now: Micros) -> Option<Cause> {
        let now = self.see(now);
        let begins = self.moment.is_none_or(|last| now - last >= MOMENT_US);
        if begins {
            self.moment = Some(now);
            self.row += 1;
        }
        self.window.advance(now);
        self.window.count(0, 1, u32::from(begins));
        if self.row >= MOMENTS_MAX {
            return Some(Cause::Row);
        }
        let sum = self.window.sum();
        let enough = sum.moments >= MOMENTS_MAX && sum.failed.saturating_add(sum.succeeded) >= OUTCOMES_MIN;
        (enough && sum.failed >= sum.succeeded).then_some(Cause::Ratio)
    }

    fn open(&mut self, why: Reason, cause: Cause) -> Transition {
        let now = self.latest;
        let relapse = self.closed_at.is_some_and(|closed| now - closed < RELAPSE_US);
        self.relapses = match (cause, relapse) {
            (Cause::Trip, _) => self.relapses,
            (_, true) => self.relapses.saturating_add(1),
            (_, false) => 0,
        };
        let pause = (PAUSE_US << self.relapses.min(10)).min(PAUSE_US_MAX);
        let due = now + self.jittered(pause);
        self.phase = Phase::Open { due, pause };
        self.opened_at = now;
        self.opened[why as usize] += 1;
        Transition::Opened {
            why,
            cause,
            relapses: self.relapses,
        }
    }

    fn close(&mut self, now: Micros) -> Transition {
        let now = self.see(now);
        let after_us = now - self.opened_at;
        self.away_us += after_us;
        self.phase = Phase::Closed;
        self.closed_at = Some(now);
        (self.row, self.moment, self.window) = (0, None, Window::default());
        Transition::Closed { after_us }
    }

    /// The pause before the probe of this ticket, if it is the one under way.
    fn pause_of(&self, ticket: &Ticket) -> Option<Micros> {
        match self.phase {
            Phase::HalfOpen {
                ticket: own, pause, ..
            } if own == ticket.0 => Some(pause),
            _ => None,
        }
    }

    /// The pause, by up to a quarter shorter or longer. The random numbers are those of SplitMix64 (Steele, Lea, Flood 2014).
    fn jittered(&mut self, pause: Micros) -> Micros {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        pause - pause / 4 + (mixed ^ (mixed >> 31)) % (pause / 2 + 1)
    }
}

#[cfg(test)]
mod tests;
