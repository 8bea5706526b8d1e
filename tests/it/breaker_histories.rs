//! The breaker in random histories, next to a model that keeps everything and works each answer out anew.

use ratekeeper::limiter::Micros;
use ratekeeper::store::guard::Reason;
use ratekeeper::store::guard::breaker::{Breaker, Cause, Probe, State, Ticket, Transition};

use crate::limiter_oracle::{NOW, Random, SECOND, seeds};

const MS: Micros = 1_000;
/// The window's parts.
const EIGHTH: Micros = SECOND / 8;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    Closed,
    /// The time of the next probe is the breaker's choice, and is checked once.
    Open {
        due: Micros,
        full: Micros,
    },
    HalfOpen {
        until: Micros,
        full: Micros,
    },
}

struct Model {
    phase: Phase,
    /// Since it was closed: when, and whether it failed.
    outcomes: Vec<(Micros, bool)>,
    /// Spans of time not closed; the last one may be without an end.
    away: Vec<(Micros, Option<Micros>)>,
    relapses: u32,
    opened: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            phase: Phase::Closed,
            outcomes: Vec::new(),
            away: Vec::new(),
            relapses: 0,
            opened: 0,
        }
    }

    fn in_window(at: Micros, now: Micros) -> bool {
        at / EIGHTH + 8 > now / EIGHTH
    }

    /// The failures that began a moment.
    fn moments(&self) -> Vec<usize> {
        let mut begins: Vec<usize> = Vec::new();
        for (index, (at, failed)) in self.outcomes.iter().enumerate() {
            let near = begins
                .last()
                .is_some_and(|last| at - self.outcomes[*last].0 < 1_500);
            if *failed && !near {
                begins.push(index);
            }
        }
        begins
    }

    /// A success counts if a failure was in its window.
    fn counts(&self, success: usize) -> bool {
        let at = self.outcomes[success].0;
        self.outcomes[..success]
            .iter()
            .rev()
            .take_while(|(earlier, _)| Self::in_window(*earlier, at))
            .any(|(_, failed)| *failed)
    }

    /// Judges the failure that came last.
    fn cause(&self) -> Option<Cause> {
        let now = self.outcomes.last()?.0;
        let moments = self.moments();
        let since = self.outcomes.iter().rposition(|(_, failed)| !failed);
        let row = moments
            .iter()
            .filter(|at| since.is_none_or(|since| **at > since))
            .count();
        if row >= 5 {
            return Some(Cause::Row);
        }
        let first = self
            .outcomes
            .partition_point(|(at, _)| !Self::in_window(*at, now));
        let recent = first..self.outcomes.len();
        let failed = recent.clone().filter(|at| self.outcomes[*at].1).count();
        let succeeded = recent
            .filter(|at| !self.outcomes[*at].1 && self.counts(*at))
            .count();
        let moments = moments.iter().filter(|at| **at >= first).count();
        (failed + succeeded >= 20 && 2 * failed >= failed + succeeded && moments >= 5).then_some(Cause::Ratio)
    }

    fn open(&mut self, now: Micros, why: Reason, cause: Cause) -> Transition {
        let closed = self.away.last().and_then(|(_, to)| *to);
        if cause != Cause::Trip {
            let relapsed = closed.is_some_and(|closed| now < closed + SECOND);
            self.relapses = if relapsed { self.relapses + 1 } else { 0 };
        }
        self.away.push((now, None));
        self.opened += 1;
        Transition::Opened {
            why,
            cause,
            relapses: self.relapses,
        }
    }

    fn open_us(&self, now: Micros) -> Micros {
        self.away.iter().map(|(from, to)| to.unwrap_or(now) - from).sum()
    }
}

/// A breaker next to its model.
struct Pair {
    breaker: Breaker,
    model: Model,
    ticket: Option<Ticket>,
    /// One that must be worth nothing.
    stale: Option<Ticket>,
    now: Micros,
}

impl Pair {
    /// Reads the time of the next probe, which has to be `full` away, a quarter more or less, and `most` at most.
    fn paused(&mut self, full: Micros, most: Option<Micros>) {
        let Probe::In(pause) = self.breaker.probe_due(self.now) else {
            panic!("a probe at once");
        };
        let pause = Micros::try_from(pause.as_micros()).unwrap();
        let most = most.unwrap_or(Micros::MAX);
        assert!(
            pause == most || pause < most && (full * 3 / 4..=full * 5 / 4).contains(&pause),
            "{pause} for {full}"
        );
        self.model.phase = Phase::Open {
            due: self.now + pause,
            full,
        };
    }

    fn fail(&mut self, why: Reason) {
        let got = self.breaker.failed(self.now, why);
        if self.model.phase != Phase::Closed {
            assert_eq!(got, None);
            return;
        }
        self.model.outcomes.push((self.now, true));
        let cause = self.model.cause();
        let expected = cause.map(|cause| self.model.open(self.now, why, cause));
        assert_eq!(got, expected);
        if got.is_some() {
            self.paused(((50 * MS) << self.model.relapses.min(20)).min(400 * MS), None);
        }
    }

    fn succeed(&mut self) {
        self.breaker.succeeded(self.now);
        if self.model.phase == Phase::Closed {
            self.model.outcomes.push((self.now, false));
        }
    }

    fn trip(&mut self, why: Reason) {
        let got = self.breaker.trip(self.now, why);
        let (expected, most) = match self.model.phase {
            Phase::Closed => (Some(self.model.open(self.now, why, Cause::Trip)), None),
            Phase::Open { due, .. } if due <= self.now => {
                // It stays due.
                assert_eq!(got, None);
                self.model.phase = Phase::Open { due, full: 50 * MS };
                return;
            }
            Phase::Open { due, .. } => (None, Some(due - self.now)),
            Phase::HalfOpen { .. } => {
                self.stale = self.ticket.take();
                (None, None)
            }
        };
        assert_eq!(got, expected);
        self.paused(50 * MS, most);
    }

    fn ask_for_probe(&mut self) {
        let due = match self.model.phase {
            Phase::Closed => {
                assert_eq!(self.breaker.probe_due(self.now), Probe::NotNeeded);
                return;
            }
            Phase::Open { due, full } | Phase::HalfOpen { until: due, full } => (due, full),
        };
        match self.breaker.probe_due(self.now) {
            Probe::Now(ticket) => {
                assert!(self.now >= due.0);
                if let Some(lost) = self.ticket.replace(ticket) {
                    self.stale = Some(lost);
                }
                self.model.phase = Phase::HalfOpen {
                    until: self.now + SECOND,
                    full: due.1,
                };
            }
            Probe::In(pause) => {
                assert_eq!(u128::from(due.0 - self.now), pause.as_micros());
            }
            Probe::NotNeeded => panic!("it is not closed"),
        }
    }

    fn end_probe(&mut self, well: bool) {
        if let Some(stale) = self.stale.take() {
            if well {
                assert_eq!(self.breaker.probe_succeeded(self.now, stale), None);
            } else {
                self.breaker.probe_failed(self.now, stale);
            }
            return;
        }
        let Some(ticket) = self.ticket.take() else { return };
        let Phase::HalfOpen { full, .. } = self.model.phase else {
            panic!("a ticket without a probe");
        };
        if well {
            let from = self.model.away.last_mut().unwrap();
            from.1 = Some(self.now);
            let after_us = self.now - from.0;
            assert_eq!(
                self.breaker.probe_succeeded(self.now, ticket),
                Some(Transition::Closed { after_us })
            );
            self.model.phase = Phase::Closed;
            self.model.outcomes.clear();
        } else {
            self.breaker.probe_failed(self.now, ticket);
            self.paused((full * 2).min(400 * MS), None);
        }
    }

    fn compare(&self) {
        let state = match self.model.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        };
        assert_eq!(self.breaker.state(), state);
        assert_eq!(self.breaker.admits(), state == State::Closed);
        assert_eq!(self.breaker.open_us(self.now), self.model.open_us(self.now));
        let opened: u64 = self.breaker.opened().map(|(_, times)| times).sum();
        assert_eq!(opened, self.model.opened);
    }
}

#[test]
fn a_breaker_is_its_model() {
    // Rows, ratios, relapses, probes given up.
    let mut seen = [0_u64; 4];
    for seed in seeds(400) {
        let random = &mut Random::new(seed);
        let mut pair = Pair {
            breaker: Breaker::new(seed),
            model: Model::new(),
            ticket: None,
            stale: None,
            now: NOW,
        };
        let (mut failing, mut step) = (0, 1);
        for _ in 0..1_000 {
            // The weather changes now and then.
            if random.below(60) == 0 {
                failing = [0, 5, 30, 50, 60, 90, 100][usize::try_from(random.below(7)).unwrap()];
                step = [20, 400, 3 * MS, 30 * MS, 200 * MS][usize::try_from(random.below(5)).unwrap()];
            }
            pair.now += random.below(step);
            let why = [Reason::Timeout, Reason::Disconnected][usize::try_from(random.below(2)).unwrap()];
            let before = pair.model.opened;
            match random.below(100) {
                0 if random.below(4) == 0 => pair.trip(why),
                0..12 => pair.ask_for_probe(),
                12..22 => pair.end_probe(random.below(100) >= failing),
                _ if random.below(100) < failing => pair.fail(why),
                _ => pair.succeed(),
            }
            pair.compare();
            if pair.model.opened > before {
                let row = pair.model.outcomes.iter().rev().take_while(|(_, failed)| *failed);
                seen[usize::from(row.count() < 5)] += 1;
                seen[2] += u64::from(pair.model.relapses > 0);
            }
            seen[3] += u64::from(pair.stale.is_some());
        }
    }
    println!("rows, ratios and trips, relapses, stale probes: {seen:?}");
    assert!(seen.iter().all(|times| *times > 100), "{seen:?}");
}
