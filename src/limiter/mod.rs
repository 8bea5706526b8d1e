//! The algorithms: what a counter holds, whether hits fit, and how long until they do.
//!
//! Everything here is a pure function of (state, now, hits, limit). Nothing reads a clock, locks, does I/O or knows the rest of
//! the project, so that the same code decides in the memory store, in the degraded share, in virtual time and in tests.
//!
//! | file | what |
//! |---|---|
//! | [`limit`] | the numbers of one limit, with everything that follows from them worked out once |
//! | [`sliding_window`] | never more than L in any rolling window: running totals in ticks |
//! | [`fixed_window`] | windows aligned to the epoch, the reference server's counting |
//! | [`token_bucket`] | GCRA as a leaky bucket, shared by instances |
//! | [`local_bucket`] | a token bucket of this process alone, by the crate `governor` |
//! | [`state`] | one counter of any algorithm |
//! | [`request`] | one answer for all charges of a request |
//!
//! # The shape of an algorithm
//!
//! Each of the four files has the same functions, and [`State`] picks one. A counter measures in *units*: hits for the windows,
//! fractions of the bucket for the buckets. [`Level`] says how many units are used now, what one hit costs and what the limit
//! holds; `booked` is the units that charges of the same request took before.
//!
//! | function | meaning |
//! |---|---|
//! | `level(now, limit)` | the units used at `now` |
//! | `charge(now, limit, hits)` | books the hits, fit or not; saturates |
//! | `refund(now, limit, hits)` | takes back from the newest hits; floor 0 |
//! | `give_back(now, limit, hits, at)` | takes back hits that were charged at `at` and not used, from no newer ones |
//! | `wait_us(now, limit, booked, hits)` | until `hits` more fit, 0 if they do now; the window if they never can |
//! | `empty_us(now, limit, booked)` | until nothing is used any more, at most the window |
//! | `expires_us(limit)` | the instant from which the counter equals one that does not exist |
//!
//! Only the three in the middle write, so a denied request leaves a counter as it was, to the bit.
//!
//! A refund says that hits which were let pass count no longer, and takes the newest. A give-back says that hits were never used,
//! because another part of their request was denied, while others may have been let pass after them: had it their hits taken,
//! a rolling window could hold more than the limit once the given-back ones leave it. With both on one counter, a promise
//! is about admitted hits less refunds; a refund between a charge and its give-back may have taken the same hits already.
//!
//! Time is [`Micros`]: the Unix epoch's for shared limits; for [`Algorithm::LocalBucket`] the time since the process started,
//! by a clock that never steps. A clock that steps back makes every algorithm admit less, never more.

pub mod fixed_window;
pub mod limit;
pub mod local_bucket;
pub mod request;
pub mod sliding_window;
pub mod state;
pub mod token_bucket;

pub use limit::{Algorithm, Level, Limit, Micros, OnStoreError};
pub use request::{Charge, Counters, Mode, Outcome, Prior, Reading, Verdict, decide, give_back};
pub use state::State;
