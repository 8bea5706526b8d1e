//! Requests by how they ended.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;

/// Adds up; each request is in exactly one of the four numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Admitted.
    pub ok: u64,
    /// Denied.
    pub over_limit: u64,
    /// Answered without a decision.
    pub errors: u64,
    /// Never answered, or too late.
    pub unanswered: u64,
    /// The errors and the unanswered by cause.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Counts one request.
    pub fn add(&mut self, outcome: Outcome) {
        let cause = match outcome {
            Outcome::Ok => {
                self.ok += 1;
                return;
            }
            Outcome::OverLimit => {
                self.over_limit += 1;
                return;
            }
            Outcome::Error(cause) => {
                self.errors += 1;
                cause
            }
            Outcome::Unanswered(cause) => {
                self.unanswered += 1;
                cause
            }
        };
        *self.causes.entry(cause).or_default() += 1;
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.over_limit += other.over_limit;
        self.errors += other.errors;
        self.unanswered += other.unanswered;
        for (cause, count) in &other.causes {
            *self.causes.entry(cause).or_default() += count;
        }
    }

    /// Requests that were decided.
    pub fn decided(&self) -> u64 {
        self.ok + self.over_limit
    }

    /// Requests that got any answer.
    pub fn answered(&self) -> u64 {
        self.decided() + self.errors
    }

    /// All requests that were sent.
    pub fn sent(&self) -> u64 {
        self.answered() + self.unanswered
    }
}
