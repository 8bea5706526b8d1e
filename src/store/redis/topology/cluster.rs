//! Follows who serves which slot of a cluster.
//!
//! All primaries are asked, and where none answers, replicas and the addresses of the settings. The answer of the highest epoch
//! counts: a node that was cut off does not know of the failovers since.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, RedisError, Value};

use super::{Node, Nodes, Past, Place, Topology, Way, lock};
use crate::limiter::Micros;
use crate::store::redis::Context;
use crate::store::redis::connect_error::ConnectError;
use crate::store::redis::deployment::Deployment;
use crate::store::redis::keeper;
use crate::store::redis::lane::Lane;
use crate::store::redis::link::Link;
use crate::store::redis::recent::Replayed;
use crate::store::redis::server::Server;
use crate::store::redis::slot::slot_of;
use crate::store::redis::slot_map::{Endpoint, SlotMap};

/// Between two looks, while all is well and while something is not.
const CALM: Duration = Duration::from_secs(1);
const TROUBLE: Duration = Duration::from_millis(100);
/// Not more often than this, whatever is redirected.
const PAUSE: Duration = Duration::from_millis(20);
/// A node that takes longer has not answered.
const WITHIN: Duration = Duration::from_millis(300);
/// Looks in a row that all show an earlier epoch: no nodes that were cut off, but a cluster that was made anew.
const BEHIND_MAX: u32 = 30;
/// Nodes that are asked at once.
const ASKED_MAX: usize = 16;

/// A node's view.
struct View {
    epoch: u64,
    map: SlotMap,
}

type Connections = BTreeMap<Endpoint, MultiplexedConnection>;

/// Looks until the topology is gone.
pub(super) async fn follow(topology: Weak<Topology>, context: Arc<Context>) {
    let Deployment::Cluster { seeds } = &context.options.deployment else {
        return;
    };
    let Some(template) = seeds.first() else { return };
    let seeds: Vec<(Endpoint, Server)> = seeds
        .iter()
        .filter_map(|seed| Some((endpoint_of(seed)?, seed.clone())))
        .collect();
    let link = Link::new(&context.options);
    let (mut connections, mut last, mut said) = (Connections::new(), 0, false);
    let mut behind = 0;
    loop {
        let Some(now) = topology.upgrade() else { return };
        let known = now.known_servers(template);
        let (primaries, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, _, primary)| *primary);
        let server = |(endpoint, server, _)| (endpoint, server);
        let mut views = look(
            &link,
            &mut connections,
            primaries.into_iter().map(server).collect(),
        )
        .await;
        if views.iter().all(Result::is_err) {
            let others = others.into_iter().map(server).chain(seeds.clone()).collect();
            views = look(&link, &mut connections, others).await;
        }
        let errors: Vec<_> = views.iter().filter_map(|view| view.as_ref().err()).collect();
        if errors.len() == views.len() && !*now.known.borrow() && !said {
            for error in errors {
                tracing::error!(%error, "no node of the redis cluster can be reached");
            }
            said = true;
        }
        let newest = views
            .into_iter()
            .filter_map(Result::ok)
            .filter(|view| view.map.covered() > 0)
            .max_by_key(|view| (view.epoch, view.map.covered()));
        behind = if newest.as_ref().is_some_and(|view| view.epoch < last) {
            behind + 1
        } else {
            0
        };
        if let Some(view) = newest.filter(|view| view.epoch >= last || behind >= BEHIND_MAX) {
            last = view.epoch;
            now.take_over(view.map, template, &context);
            now.known.send_replace(true);
        }
        let calm = *now.known.borrow() && now.all().iter().all(|node| node.state.breaker.admits());
        tokio::time::sleep(PAUSE).await;
        let pause = tokio::time::timeout(if calm { CALM } else { TROUBLE }, now.look.notified());
        // Neither a notice nor the end of the pause makes a difference.
        let _ = pause.await;
    }
}

async fn look(
    link: &Link,
    connections: &mut Connections,
    nodes: Vec<(Endpoint, Server)>,
) -> Vec<Result<View, ConnectError>> {
    let asking = nodes.into_iter().take(ASKED_MAX).map(|(endpoint, server)| {
        let open = connections.remove(&endpoint);
        async move {
            let asked = tokio::time::timeout(WITHIN, ask(link, &server, open, &endpoint)).await;
            let asked = asked.unwrap_or(Err(ConnectError::Timeout(WITHIN)));
            let asked = asked.map_err(|error| error.at(&endpoint));
            (endpoint, asked)
        }
    });
    let answers = join_all(asking).await;
    connections.clear();
    answers
        .into_iter()
        .map(|(endpoint, answer)| {
            let (connection, view) = answer?;
            connections.insert(endpoint, connection);
            Ok(view)
        })
        .collect()
}

async fn ask(
    link: &Link,
    server: &Server,
    open: Option<MultiplexedConnection>,
    endpoint: &Endpoint,
) -> Result<(MultiplexedConnection, View), ConnectError> {
    let refused = |error: RedisError| ConnectError::of(&error);
    let mut connection = match open {
        Some(open) => open,
        None => link.open(server).await?,
    };
    let mut commands = redis::pipe();
    commands.cmd("CLUSTER").arg("INFO");
    commands.cmd("CLUSTER").arg("SLOTS");
    let (info, slots): (String, Value) = commands.query_async(&mut connection).await.map_err(refused)?;
    let epoch = info
        .lines()
        .find_map(|line| line.strip_prefix("cluster_current_epoch:"))
        .and_then(|epoch| epoch.trim().parse().ok())
        .unwrap_or(0);
    let map = SlotMap::read(&slots, endpoint).unwrap_or_else(SlotMap::empty);
    Ok((connection, View { epoch, map }))
}

impl Topology {
    /// All servers that are known, primaries and replicas.
    fn known_servers(&self, template: &Server) -> Vec<(Endpoint, Server, bool)> {
        let at = |endpoint: &Endpoint, primary| {
            let server = template.at(&endpoint.host, endpoint.port);
            (endpoint.clone(), server, primary)
        };
        match &**self.nodes.load() {
            Nodes::One(_) => Vec::new(),
            Nodes::Many { map, .. } => map
                .primaries
                .iter()
                .flat_map(|(primary, replicas)| {
                    std::iter::once(at(primary, true)).chain(replicas.iter().map(move |it| at(it, false)))
                })
                .collect(),
        }
    }

    /// Takes over a map: new nodes get lanes, those that serve nothing any more lose them, unless slots are on their way there.
    fn take_over(&self, mut map: SlotMap, template: &Server, context: &Arc<Context>) {
        let threads = lock(&self.threads);
        let Nodes::Many { map: old, nodes } = &**self.nodes.load() else {
            return;
        };
        let now = context.clock.now_us();
        for (endpoint, node) in nodes {
            if node.state.is_awaiting_slots(now) && map.primaries.iter().all(|(known, _)| known != endpoint) {
                map.primaries.push((endpoint.clone(), Vec::new()));
            }
        }
        if *old == map && nodes.len() == map.primaries.len() {
            return;
        }
        let mut all = Vec::with_capacity(map.primaries.len());
        for (place, (endpoint, _)) in map.primaries.iter().enumerate() {
            let known = nodes.iter().find(|(known, _)| known == endpoint);
            let node = match known {
                Some((_, node)) => Arc::clone(node),
                None => {
                    let serves = |key: &str| map.owner(slot_of(key)) == Some(place);
                    let past = past_of(endpoint, old, nodes, now, serves);
                    self.add(endpoint, template, past, &threads, context)
                }
            };
            all.push((endpoint.clone(), node));
        }
        self.nodes.store(Arc::new(Nodes::Many { map, nodes: all }));
    }

    /// A new node with its lanes.
    fn add(
        &self,
        endpoint: &Endpoint,
        template: &Server,
        (past, charged): (Past, Vec<Replayed>),
        threads: &[(usize, tokio::runtime::Handle)],
        context: &Arc<Context>,
    ) -> Arc<Node> {
        tracing::info!(node = %endpoint, "a primary of the redis cluster");
        let server = template.at(&endpoint.host, endpoint.port);
        let place = Place::At(Box::new(server));
        let node = Arc::new(Node::new(
            endpoint.to_string(),
            place,
            context.options.threads,
            past,
        ));
        lock(&node.state.recent).put_back(&charged);
        for (thread, runtime) in threads {
            self.start_lanes(&node, *thread, runtime, context);
        }
        if let Some((_, runtime)) = threads.first() {
            runtime.spawn(keeper::keep(Arc::clone(&node.state), Arc::clone(context)));
        }
        node
    }

    /// The node that a redirection names. It is added if nobody knew it; a slot that has moved is noted as its.
    pub(super) fn target(&self, lane: &Lane, to: &str, slot: u16, way: Way) -> Option<Arc<Node>> {
        let context = &lane.context;
        let Deployment::Cluster { seeds } = &context.options.deployment else {
            return None;
        };
        let template = seeds.first()?;
        let threads = lock(&self.threads);
        let Nodes::Many { map, nodes } = &**self.nodes.load() else {
            return None;
        };
        let (asked, _) = nodes
            .iter()
            .find(|(_, node)| Arc::ptr_eq(&node.state, &lane.node))?;
        let endpoint = Endpoint::parse(to, asked)?;
        let known = nodes.iter().find(|(known, _)| *known == endpoint);
        let now = context.clock.now_us();
        if let (Some((_, node)), Way::Asking) = (known, way) {
            node.state.awaits_slots(now);
            return Some(Arc::clone(node));
        }
        let (mut map, mut nodes) = (map.clone(), nodes.clone());
        let node = match known {
            Some((_, node)) => Arc::clone(node),
            None => {
                // Of a replica that took over, only a look at all slots says what it has to be told.
                if map
                    .primaries
                    .iter()
                    .any(|(_, replicas)| replicas.contains(&endpoint))
                {
                    return None;
                }
                let node = self.add(
                    &endpoint,
                    template,
                    (Past::default(), Vec::new()),
                    &threads,
                    context,
                );
                nodes.push((endpoint.clone(), Arc::clone(&node)));
                map.primaries.push((endpoint.clone(), Vec::new()));
                node
            }
        };
        match way {
            Way::Asking => node.state.awaits_slots(now),
            _ => map.assign(slot, &endpoint),
        }
        self.nodes.store(Arc::new(Nodes::Many { map, nodes }));
        Some(node)
    }
}

/// Where a node of the settings is.
fn endpoint_of(seed: &Server) -> Option<Endpoint> {
    match seed.address.parse().ok()?.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some(Endpoint {
            host: host.clone(),
            port: *port,
        }),
        _ => None,
    }
}

/// What is known of a new primary: that it takes over from the one whose replica it was, and what was charged there.
fn past_of(
    endpoint: &Endpoint,
    old: &SlotMap,
    nodes: &[(Endpoint, Arc<Node>)],
    now: Micros,
    serves: impl Fn(&str) -> bool,
) -> (Past, Vec<Replayed>) {
    let before = old
        .primaries
        .iter()
        .position(|(_, replicas)| replicas.contains(endpoint))
        .and_then(|place| nodes.get(place));
    let Some((_, before)) = before else {
        return (Past::default(), Vec::new());
    };
    let charged = before.state.hand_over(now, serves);
    // If it is just being told something itself, its marker is not known.
    let past = before.state.past.try_lock();
    (
        past.map_or_else(|_| Past::default().heir(), |past| past.heir()),
        charged,
    )
}
