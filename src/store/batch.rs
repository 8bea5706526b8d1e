//! What one request wants to charge.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::limiter::{Charge, Micros, OnStoreError, Outcome, Prior, Verdict};

/// The distinct counters of a request, as keys in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    text: String,
    ends: Vec<usize>,
    /// Of the keys: what is not equal here is not equal.
    hashes: Vec<u64>,
    /// For each key: the rule whose shared counter takes over when the store is full.
    rules: Vec<u64>,
}

impl Keys {
    /// Adds the key that `write` appends, unless the request has it already, and returns its index. `rule` tells rules apart.
    pub fn add(&mut self, rule: u64, write: impl FnOnce(&mut String)) -> usize {
        let start = self.text.len();
        write(&mut self.text);
        let hash = FixedState::default().hash_one(&self.text[start..]);
        let equal = |&index: &usize| self.hashes[index] == hash && self.get(index) == &self.text[start..];
        if let Some(index) = (0..self.ends.len()).find(equal) {
            self.text.truncate(start);
            return index;
        }
        self.ends.push(self.text.len());
        self.hashes.push(hash);
        self.rules.push(rule);
        self.ends.len() - 1
    }

    /// The key of a counter.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// The rule that the counter belongs to.
    #[must_use]
    pub fn rule(&self, index: usize) -> u64 {
        self.rules[index]
    }

    /// How many distinct counters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// The charges of one request for one store, and then their verdicts.
#[derive(Debug, Default)]
pub struct Batch {
    /// The time of the request in microseconds since the Unix epoch; a store with a clock of its own uses that.
    pub now: Micros,
    /// The counters.
    pub keys: Keys,
    /// The charges, in the request's order.
    pub charges: Vec<Charge>,
    /// For each charge: what becomes of it while the store is away. What is not listed is counted locally.
    pub on_store_error: SmallVec<[OnStoreError; 8]>,
    /// How long the caller can wait for the store, in microseconds; `None`: as long as the store's own bound.
    pub budget_us: Option<Micros>,
    /// What another part of the same request has decided already.
    pub prior: Prior,
    /// One verdict a charge, once decided.
    pub verdicts: Vec<Verdict>,
    /// The whole, once decided.
    pub outcome: Outcome,
}

impl Batch {
    /// What becomes of a charge while the store is away.
    #[must_use]
    pub fn on_store_error(&self, charge: usize) -> OnStoreError {
        self.on_store_error.get(charge).copied().unwrap_or_default()
    }
}
