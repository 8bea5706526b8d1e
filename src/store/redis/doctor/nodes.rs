//! What a cluster's nodes say of it.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use redis::{Value, cmd};

use super::asker::{Asker, Way};
use super::collect;
use super::facts::{Answer, Facts, Fault, Values, lines};
use crate::store::redis::server::Server;
use crate::store::redis::slot_map::{Endpoint, SlotMap};

/// Primaries that are examined.
const PRIMARIES_MAX: usize = 64;

/// One node's view of its cluster.
#[derive(Clone, Debug)]
pub(super) struct NodeView {
    /// Where the node is.
    pub name: String,
    /// `CLUSTER INFO`.
    pub info: Answer<Values>,
    /// Who has which slots.
    pub map: Answer<SlotMap>,
    /// `cluster-require-full-coverage`.
    pub full_coverage: Answer<Option<bool>>,
}

/// A cluster, as it was seen.
#[derive(Clone, Debug)]
pub(super) struct ClusterFacts {
    /// The nodes that the list names.
    pub seeds: Vec<NodeView>,
    /// The map of the node that knows the latest epoch.
    pub map: Option<SlotMap>,
    /// Its primaries, or the first of them.
    pub primaries: Vec<(NodeView, Facts)>,
}

/// Asks the nodes of the list, and then all primaries at once.
pub(super) async fn examine(first: Way<'_>, way: Way<'_>, seeds: &[Server]) -> ClusterFacts {
    let views = join_all(seeds.iter().map(|seed| view(first, seed))).await;
    let map = latest(&views);
    let mut primaries = Vec::new();
    if let (Some(map), Some(seed)) = (&map, seeds.first()) {
        let those = map.primaries.iter().enumerate().take(PRIMARIES_MAX);
        let each = those.map(|(place, (primary, _))| {
            let server = seed.at(&primary.host, primary.port);
            async move {
                let its = |slot: u16| map.owner(slot) == Some(place);
                join(view(way, &server), collect::collect(way, &server, Some(&its))).await
            }
        });
        primaries = join_all(each).await;
    }
    ClusterFacts {
        seeds: views,
        map,
        primaries,
    }
}

async fn view(way: Way<'_>, node: &Server) -> NodeView {
    let name = node.name();
    let mut asker = match Asker::connect(way, node, "TIME").await {
        Ok(asker) => asker,
        Err(fault) => {
            return NodeView {
                name,
                info: Err(fault.clone()),
                map: Err(fault.clone()),
                full_coverage: Err(fault),
            };
        }
    };
    let info: Answer<String> = asker.ask(cmd("CLUSTER").arg("INFO")).await;
    let slots: Answer<Value> = asker.ask(cmd("CLUSTER").arg("SLOTS")).await;
    let asked = node.endpoint();
    let setting = "cluster-require-full-coverage";
    let config: Answer<BTreeMap<String, String>> = asker.ask(cmd("CONFIG").arg("GET").arg(setting)).await;
    NodeView {
        name,
        info: info.map(|text| lines(&text)),
        map: slots.and_then(|slots| {
            let map = asked.and_then(|asked| SlotMap::read(&slots, &asked));
            map.ok_or_else(|| Fault::new("wrong", "its answer to CLUSTER SLOTS is none"))
        }),
        full_coverage: config.map(|it| it.get(setting).map(|value| value == "yes")),
    }
}

impl NodeView {
    /// A number of `CLUSTER INFO`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.info.as_ref().ok()?.get(name)?.parse().ok()
    }
}

impl Server {
    fn endpoint(&self) -> Option<Endpoint> {
        let info = self.address.parse().ok()?;
        match info.addr() {
            redis::ConnectionAddr::Tcp(host, port) | redis::ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Endpoint {
                    host: host.clone(),
                    port: *port,
                })
            }
            _ => None,
        }
    }
}

/// The map of the node that knows the latest epoch; of several such, of the first.
fn latest(views: &[NodeView]) -> Option<SlotMap> {
    let known = views.iter().filter(|view| view.map.is_ok());
    // The last one of the greatest wins.
    let latest = known
        .rev()
        .max_by_key(|view| view.number("cluster_current_epoch").unwrap_or(0));
    latest?.map.clone().ok()
}
