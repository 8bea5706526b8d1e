//! Follows the primary that sentinels name.
//!
//! All of them are asked, all the time: waiting for a notice of one of them would make that one a single point of failure. The answer
//! of the highest configuration epoch counts, which is the one of the last failover that a majority agreed on. So one sentinel that
//! knows of it is enough, and one that was cut off can't lead back.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::{Place, Topology};
use crate::store::redis::Context;
use crate::store::redis::connect_error::ConnectError;
use crate::store::redis::deployment::Deployment;
use crate::store::redis::link::Link;
use crate::store::redis::server::Server;
use crate::store::redis::slot_map::Endpoint;

/// Between two rounds of questions, while the primary answers and while it does not.
const CALM: Duration = Duration::from_millis(500);
const TROUBLE: Duration = Duration::from_millis(100);
/// Rounds in a row that all name an earlier epoch: no sentinels that were cut off, but ones that were set up anew.
const BEHIND_MAX: u32 = 30;
/// Rounds in a row without any answer that are worth a line in the log.
const SILENT: u32 = 3;
/// A sentinel that takes longer has not answered.
const WITHIN: Duration = Duration::from_millis(300);

/// A primary as a sentinel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    epoch: u64,
    at: Endpoint,
}

/// What a sentinel knows of the primary, and where it is.
type Answers = (HashMap<String, String>, Option<(String, u16)>);

/// Asks until the topology is gone.
pub(super) async fn follow(topology: Weak<Topology>, context: Arc<Context>) {
    let Deployment::Sentinel {
        master,
        sentinels,
        primary,
    } = &context.options.deployment
    else {
        return;
    };
    let link = Link::new(&context.options);
    let mut connections: Vec<Option<MultiplexedConnection>> = sentinels.iter().map(|_| None).collect();
    let mut last: Option<Named> = None;
    let (mut behind, mut silent) = (0, 0);
    loop {
        let questions = connections
            .iter_mut()
            .zip(sentinels)
            .map(|(connection, sentinel)| ask(&link, sentinel, connection, master));
        let answers = join_all(questions).await;
        let Some(topology) = topology.upgrade() else {
            return;
        };
        let Some(node) = topology.only() else { return };
        let named = answers.iter().filter_map(|answer| answer.as_ref().ok());
        let newest = named.max_by_key(|named| named.epoch).cloned();
        let is_behind = |new: &Named| last.as_ref().is_some_and(|last| new.epoch < last.epoch);
        behind = if newest.as_ref().is_some_and(is_behind) {
            behind + 1
        } else {
            0
        };
        silent = if newest.is_none() {
            silent + 1
        } else {
            say_answered(master, silent)
        };
        match (&newest, &last) {
            (None, Some(_)) if silent == SILENT => {
                for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                    tracing::error!(master, %error, "no sentinel answers, so a failover would not be seen");
                }
            }
            (None, None) => {
                for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                    node.state.say(error);
                }
            }
            (Some(new), known) if behind >= BEHIND_MAX || !is_behind(new) => {
                if known.as_ref().is_none_or(|known| known.at != new.at) {
                    tracing::info!(master, primary = %new.at, epoch = new.epoch, "sentinels name the primary");
                    let server = primary.at(&new.at.host, new.at.port);
                    node.state.time.forget();
                    node.state.place.send_replace(Place::At(Box::new(server)));
                }
                last.clone_from(&newest);
            }
            _ => {}
        }
        let calm = last.is_some() && node.state.breaker.admits();
        drop((node, topology));
        tokio::time::sleep(if calm { CALM } else { TROUBLE }).await;
    }
}

/// Says that sentinels answer again, if it was said that they do not. None is silent then.
fn say_answered(master: &str, silent: u32) -> u32 {
    if silent >= SILENT {
        tracing::info!(master, "sentinels answer again");
    }
    0
}

async fn ask(
    link: &Link,
    sentinel: &Server,
    connection: &mut Option<MultiplexedConnection>,
    master: &str,
) -> Result<Named, ConnectError> {
    let asking = async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => link.open(sentinel).await?,
        };
        // The address of the second answer is the newer one while a failover goes on: a sentinel that leads one tells the new
        // primary there as soon as that has agreed, in the first only when its replicas follow.
        let mut commands = redis::pipe();
        commands.cmd("SENTINEL").arg("MASTER").arg(master);
        commands
            .cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master);
        let answers: RedisResult<Answers> = commands.query_async(&mut open).await;
        let (fields, at) = answers.map_err(|error| ConnectError::of(&error))?;
        let named = read(&fields, at).ok_or(ConnectError::NoPrimary)?;
        *connection = Some(open);
        Ok(named)
    };
    tokio::time::timeout(WITHIN, asking)
        .await
        .unwrap_or(Err(ConnectError::Timeout(WITHIN)))
        .map_err(|error| error.at(format!("sentinel {}", sentinel.name())))
}

fn read(fields: &HashMap<String, String>, at: Option<(String, u16)>) -> Option<Named> {
    let (host, port) = at?;
    Some(Named {
        epoch: fields.get("config-epoch")?.parse().ok()?,
        at: Endpoint { host, port },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let fields = |epoch: &str| HashMap::from([("config-epoch".to_owned(), epoch.to_owned())]);
        let at = || Some(("10.0.0.1".to_owned(), 6_379));
        let named = read(&fields("3"), at()).expect("complete");
        assert_eq!((named.epoch, named.at.to_string().as_str()), (3, "10.0.0.1:6379"));
        assert_eq!(read(&fields("none"), at()), None);
        assert_eq!(read(&fields("3"), None), None);
    }
}
