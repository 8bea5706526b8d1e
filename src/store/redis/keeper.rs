//! What each node is asked beside the requests: the probes of an open breaker, and its marker.
//!
//! Probes are made on connections of their own, and they write: a server that is full or read-only still answers who only looks. No
//! request is a probe, so nobody's request waits for a node that is not there. While a node is away this is the only one of the process
//! that tries to reach it; the lanes wait until it has.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;

use super::Context;
use super::connect_error::ConnectError;
use super::link::{Connected, Link};
use super::node::{NodeState, Place, lock};
use super::slot::key_in;
use crate::store::guard::{Probe, Reason};

/// The marker is renewed this often.
const MARK: Duration = Duration::from_secs(1);
/// A marker that takes longer was not written.
const MARK_WITHIN: Duration = Duration::from_millis(500);
/// Probes that may wait for an answer side by side: a later one can get through where an earlier one was lost.
const PROBES_MAX: usize = 4;
/// A probe that has no answer by then has failed, though it may still come.
const PROBE_WITHIN: Duration = Duration::from_millis(150);
/// A probe's key lives for so many milliseconds.
const PROBE_TTL_MS: u64 = 1_000;

/// Keeps a node until it is gone.
pub(super) async fn keep(node: Arc<NodeState>, context: Arc<Context>) {
    let link = Link::new(&context.options);
    let mut place = node.place.subscribe();
    let marking = mark(&node, &context, &link);
    let probing = probe(&node, &context, &link);
    tokio::select! {
        () = marking => {}
        () = probing => {}
        _ = place.wait_for(|place| matches!(place, Place::Gone)) => {}
    }
}

/// Waits for the breaker to open, and probes until it is closed.
async fn probe(node: &NodeState, context: &Context, link: &Link) {
    let mut probes = FuturesUnordered::new();
    loop {
        let troubled = node.troubled.notified();
        let ticket = match node.breaker.probe_due(context.clock.now_us()) {
            Probe::NotNeeded => {
                probes.clear();
                // Looks again by itself, too: a notice can come between the two lines above.
                let _ = tokio::time::timeout(MARK, troubled).await;
                continue;
            }
            Probe::In(pause) => {
                tokio::select! {
                    Some(Ok(())) = probes.next(), if !probes.is_empty() => {
                        // Too late to count, but a good sign: the next one comes soon.
                        node.breaker.trip(context.clock.now_us(), Reason::Timeout);
                    }
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
            Probe::Now(ticket) => ticket,
        };
        if probes.len() < PROBES_MAX {
            probes.push(try_to_write(node, context, link));
        }
        let answered = async {
            while let Some(answer) = probes.next().await {
                if answer.is_ok() {
                    return true;
                }
            }
            false
        };
        let answered = tokio::time::timeout(PROBE_WITHIN, answered).await;
        let now = context.clock.now_us();
        if answered == Ok(true) {
            let closed = node.breaker.probe_succeeded(now, ticket);
            node.is_back();
            node.moved(closed);
        } else {
            node.breaker.probe_failed(now, ticket);
        }
    }
}

/// A new connection, and a write that is answered in the time that requests have.
async fn try_to_write(node: &NodeState, context: &Context, link: &Link) -> Result<(), ConnectError> {
    let within = link.connect_timeout();
    let trying = async {
        let Place::At(server) = node.place.borrow().clone() else {
            return Err(ConnectError::NoPrimary);
        };
        let mut connection = link.open(&server).await?;
        let name = format!("probe:{}", context.process);
        let Some(key) = key_in(&context.options.prefix, &name, |slot| context.serves(node, slot)) else {
            return Ok(());
        };
        let mut command = redis::cmd("SET");
        command.arg(key).arg(1).arg("PX").arg(PROBE_TTL_MS);
        match tokio::time::timeout(context.options.op_timeout, command.query_async(&mut connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ConnectError::of(&error)),
            Err(_) => Err(ConnectError::Timeout(context.options.op_timeout)),
        }
    };
    let tried = match tokio::time::timeout(within, trying).await {
        Ok(tried) => tried,
        Err(_) => Err(ConnectError::Timeout(within)),
    };
    if let Err(error) = &tried {
        node.say(error);
    }
    tried
}

/// Renews the marker every second, and so notices a server that takes no writes where nobody writes.
async fn mark(node: &NodeState, context: &Context, link: &Link) {
    let mut connected: Option<Connected> = None;
    let mut place = node.place.subscribe();
    // An error means that the node is gone, which ends this.
    let _ = place.wait_for(|place| !matches!(place, Place::Unknown)).await;
    // The first one at once: only a loss after it is noticed.
    let mut ticks = tokio::time::interval(MARK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        lock(&node.recent).forget(context.clock.now_us());
        // A primary that was replaced may live on, and would still take what is written.
        let is_moved = place.has_changed().unwrap_or(true);
        place.mark_unchanged();
        if is_moved || !node.breaker.admits() {
            connected = None;
        }
        if !node.breaker.admits() {
            continue;
        }
        if connected.is_none() {
            let connecting = async {
                let Place::At(server) = node.place.borrow().clone() else {
                    return Err(ConnectError::NoPrimary);
                };
                let (connected, identity) = link.open_primary(&server, &node.time, &context.clock).await?;
                node.recognise(identity, &connected, context).await?;
                Ok(connected)
            };
            match tokio::time::timeout(link.connect_timeout(), connecting).await {
                Ok(Ok(new)) => connected = Some(new),
                // The lanes meet the same, and say it.
                Ok(Err(_)) | Err(_) => continue,
            }
        }
        let Some(connected_now) = &mut connected else {
            continue;
        };
        let marking = node.mark(&mut connected_now.connection, context, |slot| {
            context.serves(node, slot)
        });
        match tokio::time::timeout(MARK_WITHIN, marking).await {
            Ok(Ok(())) => {}
            failed => {
                connected = None;
                let why = if failed.is_err() {
                    Reason::Timeout
                } else {
                    Reason::Refused
                };
                node.moved(node.breaker.failed(context.clock.now_us(), why));
            }
        }
    }
}
