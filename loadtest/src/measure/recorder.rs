//! One thread's measurements; nothing in here is shared.

use std::sync::mpsc::Sender;

use super::{Counts, Latencies, Outcome, Second};
use crate::clock::{Nanos, SECOND_NS};

/// Digits kept of latencies: 0.1 % exact.
const DIGITS: u8 = 3;
/// A request sent later than this after its intended moment counts as late: then the generator, or an outage, was in
/// the way.
const LATE_NS: Nanos = 1_000_000;

/// Everything a thread counted of the measured time (warm-up left out).
#[derive(Debug, Clone)]
pub struct Tally {
    /// By outcome.
    pub counts: Counts,
    /// Of admitted requests, from the intended moment to the answer.
    pub ok: Latencies,
    /// Of denied ones.
    pub over_limit: Latencies,
    /// From the intended moment to the sending.
    pub lag: Latencies,
    /// Sent more than a millisecond after the intended moment.
    pub late: u64,
    /// Due, but not sent in time: too many in flight, or no connection.
    pub unsent: u64,
    /// Sent again, because the server said that it had not looked at them.
    pub resent: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let [ok, over_limit, lag] = std::array::from_fn(|_| Latencies::new(DIGITS));
        Self {
            counts: Counts::default(),
            ok,
            over_limit,
            lag,
            late: 0,
            unsent: 0,
            resent: 0,
        }
    }
}

impl Tally {
    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.ok.merge(&other.ok);
        self.over_limit.merge(&other.over_limit);
        self.lag.merge(&other.lag);
        self.late += other.late;
        self.unsent += other.unsent;
        self.resent += other.resent;
    }

    /// Latencies of all decided requests.
    pub fn decided(&self) -> Latencies {
        let mut all = self.ok.clone();
        all.merge(&self.over_limit);
        all
    }
}

/// Counts requests as they end, and hands every finished second over.
#[derive(Debug)]
pub struct Recorder {
    start: Nanos,
    measured_from: Nanos,
    tally: Tally,
    second: Second,
    next_second: Nanos,
    series: Sender<Second>,
}

impl Recorder {
    /// Requests meant to start at or after `measured_from` are measured; seconds count from `start`.
    pub fn new(start: Nanos, measured_from: Nanos, series: Sender<Second>) -> Self {
        let (tally, second) = (Tally::default(), Second::new(0));
        Self {
            start,
            measured_from,
            tally,
            second,
            next_second: start + SECOND_NS,
            series,
        }
    }

    /// A request ended at `end` that was meant to start at `intended` and was sent at `sent`.
    pub fn ended(&mut self, outcome: Outcome, intended: Nanos, sent: Nanos, end: Nanos) {
        self.roll(end);
        let latency = end.saturating_sub(intended);
        self.second.counts.add(outcome);
        if outcome.is_decision() {
            self.second.latencies.record(latency);
        }
        if intended < self.measured_from {
            return;
        }
        self.tally.counts.add(outcome);
        match outcome {
            Outcome::Ok => self.tally.ok.record(latency),
            Outcome::OverLimit => self.tally.over_limit.record(latency),
            Outcome::Error(_) | Outcome::Unanswered(_) => {}
        }
        let lag = sent.saturating_sub(intended);
        self.tally.lag.record(lag);
        self.tally.late += u64::from(lag > LATE_NS);
    }

    /// A request was due at `intended` and could not be sent in time.
    pub fn unsent(&mut self, intended: Nanos) {
        self.tally.unsent += u64::from(intended >= self.measured_from);
    }

    /// So many measured requests were due and never sent.
    pub fn never_sent(&mut self, count: u64) {
        self.tally.unsent += count;
    }

    /// From when on requests are measured.
    pub fn measured_from(&self) -> Nanos {
        self.measured_from
    }

    /// A request had to be sent once more.
    pub fn resent(&mut self, intended: Nanos) {
        self.tally.resent += u64::from(intended >= self.measured_from);
    }

    /// Hands over the current second if it is past.
    pub fn roll(&mut self, now: Nanos) {
        if now < self.next_second {
            return;
        }
        let index = now.saturating_sub(self.start) / SECOND_NS;
        self.next_second = self.start + (index + 1) * SECOND_NS;
        let past = std::mem::replace(&mut self.second, Second::new(index));
        // The receiver is gone only when the run was given up.
        let _ = self.series.send(past);
    }

    /// Hands over the last second and what was measured.
    pub fn finish(&mut self) -> Tally {
        let index = self.second.index;
        let past = std::mem::replace(&mut self.second, Second::new(index));
        if past.counts.sent() > 0 {
            let _ = self.series.send(past);
        }
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn warm_up_is_in_the_series_but_not_in_the_totals() {
        let (sender, receiver) = mpsc::channel();
        let at = |tenths: u64| 1_000 + tenths * SECOND_NS / 10;
        let mut recorder = Recorder::new(at(0), at(10), sender);
        recorder.ended(Outcome::Ok, at(9), at(9), at(11)); // meant to start in the warm-up
        recorder.ended(Outcome::OverLimit, at(10), at(12), at(13)); // late by 0.2 s
        recorder.ended(Outcome::TIMEOUT, at(12), at(12), at(25));
        recorder.unsent(at(9));
        recorder.unsent(at(10));
        let tally = recorder.finish();
        assert_eq!(
            (tally.counts.ok, tally.counts.over_limit, tally.counts.unanswered),
            (0, 1, 1)
        );
        assert_eq!((tally.late, tally.unsent), (1, 1));
        assert!((tally.over_limit.percentiles().max_us / 300_000.0 - 1.0).abs() < 0.001);
        let seconds: Vec<_> = receiver
            .try_iter()
            .map(|second| (second.index, second.counts.sent()))
            .collect();
        assert_eq!(seconds, [(0, 0), (1, 2), (2, 1)]);
    }
}
