//! What each node is asked beside the requests: the probes of an open breaker, and its marker.
//!
//! Probes are made on connections of their own, and they write: a server that is full or read-only still answers who only looks. No
//! request is a probe, so nobody's request waits for a node that is not there. While a node is away this is the only one of the process
//! that tries to reach it; the lanes wait until it has.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::call::Call;
use super::connect_error::ConnectError;
use super::link::{Connected, Link};
use super::node::{NodeState, Place, lock};
use super::script::Script;
use crate::limiter::Micros;
use crate::store::guard::{Probe, Reason};

/// The marker is renewed this often.
const MARK: Duration = Duration::from_secs(1);
/// A marker that takes longer was not written.
const MARK_WITHIN: Duration = Duration::from_millis(500);
/// Probes that may wait for an answer side by side: a later one can get through where an earlier one was lost.
const PROBES_MAX: usize = 4;
/// A probe that has no answer by then has failed, though it may still come.
const PROBE_WITHIN: Duration = Duration::from_millis(150);
/// A probe that succeeded longer ago does not count any more.
const LATE_US: Micros = 200_000;
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
    let mut place = node.place.subscribe();
    // When a probe succeeded that came too late for its ticket.
    let mut late: Option<Micros> = None;
    loop {
        if place.has_changed().unwrap_or(false) {
            // Somewhere else now: what waits there says nothing.
            place.mark_unchanged();
            probes.clear();
            late = None;
        }
        let troubled = node.troubled.notified();
        let ticket = match node.breaker.probe_due(context.clock.now_us()) {
            Probe::NotNeeded => {
                probes.clear();
                late = None;
                // Looks again by itself, too: a notice can come between the two lines above.
                let _ = tokio::time::timeout(MARK, troubled).await;
                continue;
            }
            Probe::In(pause) => {
                tokio::select! {
                    Some(Ok(())) = probes.next(), if !probes.is_empty() => {
                        // To connect took long, but the write did not. It counts for the next ticket, which is due soon.
                        late = Some(context.clock.now_us());
                        node.breaker.trip(context.clock.now_us(), Reason::Timeout);
                    }
                    Ok(()) = place.changed() => {
                        probes.clear();
                        node.breaker.trip(context.clock.now_us(), Reason::Disconnected);
                    }
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
            Probe::Now(ticket) => ticket,
        };
        let now = context.clock.now_us();
        if late.take().is_some_and(|late| now - late < LATE_US) {
            node.is_back(node.breaker.probe_succeeded(now, ticket));
            continue;
        }
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
            node.is_back(node.breaker.probe_succeeded(now, ticket));
        } else {
            node.breaker.probe_failed(now, ticket);
        }
    }
}

/// A new connection like those of the lanes, and a write that is answered in the time that requests have.
async fn try_to_write(node: &NodeState, context: &Context, link: &Link) -> Result<(), ConnectError> {
    let within = link.connect_timeout();
    let trying = async {
        let connected = connect(node, context, link).await?;
        let op_timeout = context.options.op_timeout;
        match tokio::time::timeout(op_timeout, write(connected, node, context)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ConnectError::of(&error)),
            Err(_) => Err(ConnectError::Timeout(op_timeout)),
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

/// A connection that may be used: what keeps a lane from one keeps a probe from it, too, so a node that no lane can use stays away.
async fn connect(node: &NodeState, context: &Context, link: &Link) -> Result<Connected, ConnectError> {
    let Place::At(server) = node.place.borrow().clone() else {
        return Err(ConnectError::NoPrimary);
    };
    node.open(&server, link, context).await
}

/// Writes a key, and runs a script that has nothing to do: a user may be allowed the one and not the other.
async fn write(mut connected: Connected, node: &NodeState, context: &Context) -> RedisResult<()> {
    let mut moving = Vec::new();
    while let Some(key) = context.key_on(node, "probe", &moving) {
        let mut commands = Pipeline::new();
        commands.cmd("SET").arg(&key).arg(1).arg("PX").arg(PROBE_TTL_MS);
        let mut nothing = Cmd::new();
        Call::new().write_to(Script::batch(), connected.dialect, &mut nothing);
        commands.add_command(nothing);
        let answers = connected.connection.send_packed_commands(&commands, 0, 2).await?;
        let refused = answers.into_iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(RedisError::from(error)),
            _ => None,
        });
        match refused {
            None => break,
            Some(error) => context.pass_over(error, &key, &mut moving)?,
        }
    }
    Ok(())
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
            match tokio::time::timeout(link.connect_timeout(), connect(node, context, link)).await {
                Ok(Ok(new)) => connected = Some(new),
                // The lanes meet the same, and say it.
                Ok(Err(_)) | Err(_) => continue,
            }
        }
        let Some(connected_now) = &mut connected else {
            continue;
        };
        let marking = node.mark(&mut connected_now.connection, context);
        match tokio::time::timeout(MARK_WITHIN, marking).await {
            // What it has had for so long its successors have as well. While it is away nothing is forgotten, however long that is.
            Ok(Ok(())) => lock(&node.recent).forget(context.clock.now_us()),
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
