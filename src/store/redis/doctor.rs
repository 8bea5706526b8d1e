//! Whether Redis suits, and what to do where it does not: `ratekeeper doctor`.
//!
//! ```text
//! Deployment ──sentinels, nodes──> servers ──collect──> Facts ──judge──> checks of each ──fold──> Report
//! ```
//!
//! `collect`, `sentinels` and `nodes` ask and judge nothing, `judge` asks nothing: so every verdict is tested without a server that
//! is in that state. What is asked of a server needs no more rights than `serve` does, except for `INFO`, `CONFIG GET`, `SCAN`,
//! `PTTL` and `ACL WHOAMI`; where those are refused, the value is unknown. What is written has a time to live, and is deleted at
//! once.

mod asker;
mod collect;
mod examined;
mod facts;
mod fold;
mod judge;
mod nodes;
mod report;
mod sentinels;

use std::time::Duration;

use futures_util::future::join_all;

use self::asker::Way;
pub use self::examined::Examined;
pub use self::report::{Check, Level, Report};
use super::deployment::Deployment;
use crate::clock::Clock;
use crate::limiter::Micros;

/// All of it ends within this time.
const WITHIN_US: Micros = 9_000_000;
/// Sentinels and the nodes of a list answer within this time: the servers that they name come after them.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// What is examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where it is.
    pub deployment: Deployment,
    /// Whether it is the one for limits of one second.
    pub per_second: bool,
    /// What our keys begin with.
    pub prefix: String,
    /// The longest wait of a request.
    pub op_timeout: Duration,
    /// The longest time to connect.
    pub connect_timeout: Duration,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Round trips that are measured.
    round_trips: usize,
    /// Looks at up to 500 keys each.
    scans: usize,
    /// Between one round trip or key and the next, so that what else runs has its turn.
    pause: Duration,
}

impl Effort {
    /// For a person who waits.
    pub const THOROUGH: Self = Self {
        round_trips: 200,
        scans: 20,
        pause: Duration::ZERO,
    };
    /// For a process that serves meanwhile.
    pub const LIGHT: Self = Self {
        round_trips: 50,
        scans: 1,
        pause: Duration::from_millis(1),
    };
}

/// Examines all of them at once, over connections of its own. Ends within 10 s.
pub async fn examine(subjects: &[Subject], effort: Effort, clock: &Clock) -> Report {
    let until = clock.now_us().saturating_add(WITHIN_US);
    let each = subjects.iter().map(|subject| {
        let way = Way {
            subject,
            effort,
            clock,
            until,
        };
        examine_one(way)
    });
    let mut blocks = join_all(each).await;
    if let [only] = blocks.as_mut_slice() {
        return Report::new(std::mem::take(only));
    }
    let named = subjects.iter().zip(blocks);
    Report::new(
        named
            .flat_map(|(subject, checks)| report::in_block(checks, subject.per_second))
            .collect(),
    )
}

async fn examine_one(way: Way<'_>) -> Vec<Check> {
    let first = way.ending_within(FIRST_WITHIN);
    match &way.subject.deployment {
        Deployment::Single(server) => judge::of_server(&collect::collect(way, server, None).await),
        Deployment::Sentinel {
            master,
            sentinels,
            primary,
        } => {
            let views = sentinels::views(first, master, sentinels).await;
            let mut checks = judge::of_sentinels(master, &views);
            if let Some(named) = sentinels::named_by_most(&views) {
                let server = primary.at(&named.host, named.port);
                checks.extend(judge::of_server(&collect::collect(way, &server, None).await));
            }
            checks
        }
        Deployment::Cluster { seeds } => {
            let facts = nodes::examine(first, way, seeds).await;
            let mut checks = judge::of_cluster(&facts);
            let each = facts.primaries.iter();
            checks.extend(fold::fold(each.map(|(view, facts)| {
                let name = view.name.clone();
                (name, judge::of_server(facts))
            })));
            checks
        }
    }
}
