//! What is done to Redis.

use std::time::{Duration, Instant};

/// Some servers, and how a service finds them.
pub trait Site {
    /// The service's settings, as environment variables.
    fn settings(&self) -> Vec<(&'static str, String)>;

    /// When another node was made the primary, where a fault is about that.
    fn promoted(&self) -> Option<Instant> {
        None
    }
}

/// Something that is done to a site.
pub type Step<S> = fn(&mut S);

/// A fault of one kind of site.
#[derive(Debug)]
pub struct Fault<S> {
    pub name: &'static str,
    /// Makes the servers, whole.
    pub site: fn() -> S,
    pub begin: Step<S>,
    /// What is done again and again until the end, and how often.
    pub again: Option<(Duration, Step<S>)>,
    /// Returns when the store can be used again.
    pub end: Step<S>,
    /// Ends by itself: `end` is called at once and waits. It takes about as long as other faults do, not longer in soaks.
    pub ends_itself: bool,
    /// How often the store has lost what it knew: each adds L to what a window can hold.
    pub losses: u64,
}

impl<S> Fault<S> {
    /// One that does nothing.
    pub const fn new(name: &'static str, site: fn() -> S) -> Self {
        Self {
            name,
            site,
            begin: |_| {},
            again: None,
            end: |_| {},
            ends_itself: false,
            losses: 0,
        }
    }

    pub const fn begin(mut self, begin: Step<S>) -> Self {
        self.begin = begin;
        self
    }

    pub const fn every_ms(mut self, pause_ms: u64, again: Step<S>) -> Self {
        self.again = Some((Duration::from_millis(pause_ms), again));
        self
    }

    pub const fn end(mut self, end: Step<S>) -> Self {
        self.end = end;
        self
    }

    pub const fn ends_itself(mut self) -> Self {
        self.ends_itself = true;
        self
    }

    pub const fn losses(mut self, losses: u64) -> Self {
        self.losses = losses;
        self
    }
}
