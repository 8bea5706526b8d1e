//! What one request wants to charge.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::limiter::{Charge, Micros, OnStoreError, Outcome, Prior, Verdict};

/// Up to so many keys are compared one by one; beyond, a hash index finds them.
const INDEXED_FROM: usize = 16;

/// The distinct counters of a request, as keys in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    text: String,
    keys: Vec<Key>,
    /// Places in `keys`; empty until there are many.
    index: HashTable<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    /// Where its text ends; it begins at the end of the one before.
    end: usize,
    /// What is not equal here is not equal.
    hash: u64,
    /// The rule whose shared counter takes over when the store is full.
    rule: u64,
}

impl Keys {
    /// Adds the key that `write` appends, unless the request has it already, and returns its index. `rule` tells rules apart.
    pub fn add(&mut self, rule: u64, write: impl FnOnce(&mut String)) -> usize {
        let start = self.text.len();
        write(&mut self.text);
        let hash = FixedState::default().hash_one(&self.text.as_bytes()[start..]);
        if let Some(index) = self.find(hash, start) {
            self.text.truncate(start);
            return index;
        }
        let index = self.keys.len();
        self.keys.push(Key {
            end: self.text.len(),
            hash,
            rule,
        });
        if index >= INDEXED_FROM {
            let keys = &self.keys;
            let hash_of = |at: &u32| keys[*at as usize].hash;
            let from = if index == INDEXED_FROM { 0 } else { index };
            for at in from..=index {
                // A request has a thousand descriptors at most.
                let at = u32::try_from(at).unwrap_or(u32::MAX);
                self.index.insert_unique(hash_of(&at), at, hash_of);
            }
        }
        index
    }

    /// The place of the key that is equal to the text from `start` on.
    fn find(&self, hash: u64, start: usize) -> Option<usize> {
        let text = &self.text[start..];
        let equal = |at: usize| self.keys[at].hash == hash && self.get(at) == text;
        if self.keys.len() > INDEXED_FROM {
            self.index
                .find(hash, |at| equal(*at as usize))
                .map(|at| *at as usize)
        } else {
            (0..self.keys.len()).find(|at| equal(*at))
        }
    }

    /// The key of a counter.
    #[must_use]
    pub fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.keys[before].end);
        &self.text[start..self.keys[index].end]
    }

    /// A hash of the key. Equal keys have the same, on all threads.
    #[must_use]
    pub fn hash(&self, index: usize) -> u64 {
        self.keys[index].hash
    }

    /// The rule that the counter belongs to.
    #[must_use]
    pub fn rule(&self, index: usize) -> u64 {
        self.keys[index].rule
    }

    /// How many distinct counters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets all keys and keeps their memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.keys.clear();
        self.index.clear();
    }

    /// Bytes that the texts take, reserved ones included.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text.capacity()
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
    /// Begins anew, for a request of that time, with the memory of the last one.
    pub fn begin(&mut self, now: Micros, prior: Prior) {
        self.now = now;
        self.keys.clear();
        self.charges.clear();
        self.on_store_error.clear();
        self.budget_us = None;
        self.prior = prior;
        self.verdicts.clear();
        self.outcome = Outcome::default();
    }

    /// Works out the whole from the verdicts.
    pub fn decided(&mut self) {
        self.outcome = Outcome::of(&self.charges, &self.verdicts, self.prior);
    }

    /// What becomes of a charge while the store is away.
    #[must_use]
    pub fn on_store_error(&self, charge: usize) -> OnStoreError {
        self.on_store_error.get(charge).copied().unwrap_or_default()
    }
}
