//! Step 4 of a request: where counters live.
//!
//! A [`Batch`] is what one request wants to charge: keys and charges in the request's order. A [`Store`] decides it by
//! [`crate::limiter::decide`] over the counters that it holds, all charges together. [`memory::MemoryStore`] keeps counters in
//! this process, [`redis::RedisStore`] for all instances; [`guard::Guarded`] sees to it that the latter always has an
//! answer; [`local::LocalStore`] keeps the token buckets of limits with `scope: local`.

mod batch;
pub mod guard;
pub mod local;
pub mod memory;
pub mod redis;
mod table;

use std::future::Future;
use std::pin::Pin;

pub use batch::{Batch, Keys};
pub use table::{Fingerprint, TableStats, WhenFull};

/// Where a decision stands.
pub enum Step<'a> {
    /// The batch holds its verdicts.
    Done,
    /// The verdicts are there when the future is.
    Wait(Pin<Box<dyn Future<Output = ()> + Send + 'a>>),
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Wait(_) => "Wait",
        })
    }
}

/// A place for counters.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Checks and charges all of a batch, or nothing, and leaves the verdicts and the outcome in it. A store always decides:
    /// what it can't reach it answers by its own rules, never by an error.
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a>;

    /// Whether a decision may have to wait: then what it needs meanwhile is held in a way that costs nobody else anything.
    fn may_wait(&self) -> bool {
        true
    }

    /// How it is, in a line for people.
    fn describe(&self) -> String;
}
