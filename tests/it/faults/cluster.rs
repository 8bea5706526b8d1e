//! A cluster, of which a node fails or slots move.

use std::time::{Duration, Instant};

use super::fault::{Fault, Site};
use crate::support::cluster::Cluster;

/// How long a failover may take; a second to notice, and an election.
const FAILOVER_WITHIN: Duration = Duration::from_secs(15);
/// 300 slots, moved in some 3 s.
const SLOTS: usize = 300;
const PAUSE: Duration = Duration::from_millis(5);

/// The nodes, and when a replica took over.
#[derive(Debug)]
pub struct Nodes {
    cluster: Cluster,
    promoted: Option<Instant>,
}

impl Nodes {
    fn start() -> Self {
        Self {
            cluster: Cluster::start(),
            promoted: None,
        }
    }

    /// Until another node has the slots of the first.
    fn wait_taken_over(&mut self) {
        self.cluster.wait_other_owner(0, 0, FAILOVER_WITHIN);
        self.promoted = Some(Instant::now());
    }
}

impl Site for Nodes {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REDIS_TYPE", "CLUSTER".to_owned()),
            ("REDIS_URL", self.cluster.url()),
        ]
    }

    fn promoted(&self) -> Option<Instant> {
        self.promoted
    }
}

/// All of them.
pub fn faults() -> Vec<Fault<Nodes>> {
    let fault = |name| Fault::new(name, Nodes::start as fn() -> Nodes);
    vec![
        fault("cluster: none"),
        // What the primary had not passed on is lost: at most all of it.
        fault("cluster: a primary killed")
            .begin(|site| site.cluster.nodes[0].kill())
            .end(Nodes::wait_taken_over)
            .ends_itself()
            .losses(1),
        fault("cluster: a primary frozen")
            .begin(|site| site.cluster.nodes[0].freeze())
            .end(Nodes::wait_taken_over)
            .ends_itself()
            .losses(1),
        fault("cluster: 300 slots moved")
            .end(|site| {
                site.cluster.move_slots(SLOTS, 0, 1, PAUSE);
            })
            .ends_itself(),
    ]
}
