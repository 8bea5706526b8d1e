//! What sentinels say of their primary.

use futures_util::future::join_all;
use redis::{Value, cmd};

use super::asker::{Asker, Way};
use super::facts::{Answer, Fault, Values};
use crate::store::redis::server::Server;
use crate::store::redis::slot_map::Endpoint;

/// One sentinel's view.
#[derive(Clone, Debug)]
pub(super) struct SentinelView {
    /// Where the sentinel is.
    pub name: String,
    /// Whom it names; `None` if it does not know the primary's name.
    pub primary: Answer<Option<Endpoint>>,
    /// What it knows of the primary.
    pub state: Answer<Values>,
    /// Whether a failover can be agreed upon, in the sentinel's words.
    pub quorum: Answer<String>,
}

impl SentinelView {
    fn unreachable(name: String, fault: &Fault) -> Self {
        Self {
            name,
            primary: Err(fault.clone()),
            state: Err(fault.clone()),
            quorum: Err(fault.clone()),
        }
    }
}

/// Asks all of them at once.
pub(super) async fn views(way: Way<'_>, master: &str, sentinels: &[Server]) -> Vec<SentinelView> {
    join_all(sentinels.iter().map(|sentinel| view(way, master, sentinel))).await
}

async fn view(way: Way<'_>, master: &str, sentinel: &Server) -> SentinelView {
    let name = sentinel.name();
    // Sentinels have no `TIME`.
    let mut asker = match Asker::connect(way, sentinel, "PING").await {
        Ok(asker) => asker,
        Err(fault) => return SentinelView::unreachable(name, &fault),
    };
    let ask = |what: &str| {
        let mut command = cmd("SENTINEL");
        command.arg(what).arg(master);
        command
    };
    SentinelView {
        name,
        primary: named(asker.ask(&ask("GET-MASTER-ADDR-BY-NAME")).await),
        state: asker.ask(&ask("MASTER")).await,
        quorum: asker.ask(&ask("CKQUORUM")).await,
    }
}

fn named(answer: Answer<Value>) -> Answer<Option<Endpoint>> {
    let answer = answer?;
    if answer == Value::Nil {
        return Ok(None);
    }
    match redis::from_redis_value::<(String, u16)>(answer) {
        Ok((host, port)) => Ok(Some(Endpoint { host, port })),
        Err(_) => Err(Fault::new("wrong", "no address in its answer")),
    }
}

/// Whom most of them name; of two with as many votes the one that is named first.
pub(super) fn named_by_most(views: &[SentinelView]) -> Option<Endpoint> {
    let named: Vec<&Endpoint> = views
        .iter()
        .filter_map(|view| view.primary.as_ref().ok()?.as_ref())
        .collect();
    let votes = |endpoint: &Endpoint| named.iter().filter(|other| **other == endpoint).count();
    // The last one of the greatest wins.
    let most = named.iter().rev().max_by_key(|endpoint| votes(endpoint));
    most.map(|endpoint| (*endpoint).clone())
}
