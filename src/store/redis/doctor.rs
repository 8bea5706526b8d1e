//! Whether a server suits, and what to do where it does not: `ratekeeper doctor`.
//!
//! ```text
//! server ──collect──> Facts ──judge──> Report
//! ```
//!
//! `collect` asks and judges nothing, `judge` asks nothing: so every verdict is tested without a server that is in that state.
//! What is asked needs no more rights than `serve` does, except for `INFO`, `CONFIG GET`, `SCAN`, `PTTL` and `ACL WHOAMI`;
//! where those are refused, the value is unknown. What is written has a time to live, and is deleted at once.

mod collect;
mod facts;
mod judge;
mod report;

pub use self::report::{Check, Level, Report};
use super::RedisStore;

impl RedisStore {
    /// Examines the server, over a connection of its own. `prefix` is what our keys begin with. Ends within 10 s.
    pub async fn examine(&self, prefix: &str) -> Report {
        judge::judge(&collect::collect(&self.context, prefix).await)
    }
}
