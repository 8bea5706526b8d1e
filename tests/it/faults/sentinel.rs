//! Sentinels and whom they watch.

use std::time::{Duration, Instant};

use super::fault::{Fault, Site};
use crate::support::eventually;
use crate::support::sentinel::Sentinels;

/// How long a failover may take; a second and a half to notice, and an election.
const FAILOVER_WITHIN: Duration = Duration::from_secs(15);

/// The servers, and what came of a failover.
#[derive(Debug)]
pub struct Watched {
    all: Sentinels,
    old: usize,
    promoted: Option<Instant>,
}

impl Watched {
    fn start() -> Self {
        let all = Sentinels::start();
        let old = all.primary();
        Self {
            all,
            old,
            promoted: None,
        }
    }

    /// Until a sentinel names another primary. The old one is not asked: it may be frozen.
    fn wait_named(&mut self) {
        let mut promoted = None;
        eventually("a sentinel names another primary", FAILOVER_WITHIN, || {
            let others = self.all.members.iter().enumerate();
            let others = others.filter(|(index, _)| *index != self.old);
            if promoted.is_none()
                && others
                    .clone()
                    .any(|(_, member)| member.info("role").as_deref() == Some("master"))
            {
                promoted = Some(Instant::now());
            }
            let mut named = self
                .all
                .sentinels
                .iter()
                .map(|sentinel| self.all.named_by(sentinel));
            named.any(|member| member.is_some_and(|member| member != self.old))
        });
        self.promoted = promoted.or_else(|| Some(Instant::now()));
    }
}

impl Site for Watched {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REDIS_TYPE", "SENTINEL".to_owned()),
            ("REDIS_URL", self.all.url()),
        ]
    }

    fn promoted(&self) -> Option<Instant> {
        self.promoted
    }
}

/// All of them.
pub fn faults() -> Vec<Fault<Watched>> {
    let fault = |name| Fault::new(name, Watched::start as fn() -> Watched);
    vec![
        fault("sentinel: none"),
        // What the primary had not passed on is lost: at most all of it.
        fault("sentinel: primary killed")
            .begin(|site| site.all.members[site.old].kill())
            .end(Watched::wait_named)
            .ends_itself()
            .losses(1),
        fault("sentinel: primary frozen")
            .begin(|site| site.all.members[site.old].freeze())
            .end(Watched::wait_named)
            .ends_itself()
            .losses(1),
        fault("sentinel: failover on request")
            .begin(|site| site.all.failover())
            .end(Watched::wait_named)
            .ends_itself()
            .losses(1),
    ]
}
