//! Heartbeats: each instance keeps its name on a list in Redis, so that all know how many they are.
//!
//! The list is a sorted set, `<prefix>instances`: member = a name made at the start, score = when it was renewed, in
//! milliseconds of the server's clock. Plain commands, once a second, on a connection of its own: no request waits for it. It
//! needs no right that the scripts do not need as well.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};

use super::Context;
use super::link::{Link, is_lost};
use super::pauses::Pauses;
use super::server::Server;
use super::topology::Topology;
use crate::limiter::Micros;
use crate::store::guard::{Instances, Membership};

/// A name is renewed this often.
const BEAT: Duration = Duration::from_secs(1);
/// A heartbeat without an answer for this long was missed.
const PATIENCE: Duration = Duration::from_millis(800);
/// The list of a deployment that has ended leaves after this long, in milliseconds. A server that stood still for less still
/// has it.
const LIST_TTL_MS: u64 = 60_000;
/// The longest wait for the last command when the instance ends.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// The heartbeats of this instance. They end with the runtime; [`Heart::leave`] ends them before.
#[derive(Debug)]
pub struct Heart {
    leave: mpsc::Sender<oneshot::Sender<()>>,
}

impl Heart {
    /// Starts them on the current runtime.
    pub(super) fn start(
        topology: Arc<Topology>,
        context: Arc<Context>,
        key: String,
        instances: Arc<Instances>,
    ) -> Self {
        let (leave, leaving) = mpsc::channel(1);
        let beating = Beating {
            key,
            membership: Membership::new(context.process.clone(), instances.view().count),
            instances,
            topology,
            context,
            refused: false,
        };
        let link = Link::new(&beating.context.options);
        tokio::spawn(beating.run(link, leaving));
        Self { leave }
    }

    /// Takes this instance off the list, if Redis answers within half a second; else it is forgotten within seconds.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.leave.try_send(done).is_ok() {
            // Neither outcome changes what the process does next.
            let _ = tokio::time::timeout(LEAVE_WITHIN, left).await;
        }
    }
}

#[derive(Debug)]
struct Beating {
    key: String,
    membership: Membership,
    instances: Arc<Instances>,
    topology: Arc<Topology>,
    context: Arc<Context>,
    /// A refusal was reported.
    refused: bool,
}

impl Beating {
    async fn run(mut self, link: Link, mut leaving: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut pauses = Pauses::default();
        let mut connection: Option<(String, MultiplexedConnection)> = None;
        loop {
            let beaten = tokio::select! {
                biased;
                done = leaving.recv() => return self.leave(connection, done).await,
                beaten = self.beat(&link, &mut connection) => beaten,
            };
            let pause = if beaten {
                pauses.reset();
                BEAT
            } else {
                self.membership.missed();
                // A server that answers with a refusal is not gone: it is asked at the usual pace.
                if connection.is_some() { BEAT } else { pauses.next() }
            };
            tokio::select! {
                biased;
                done = leaving.recv() => return self.leave(connection, done).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One heartbeat, connecting first if need be. A connection that is of no use any more is dropped; also one to a primary that
    /// was replaced and lives on.
    async fn beat(&mut self, link: &Link, connection: &mut Option<(String, MultiplexedConnection)>) -> bool {
        let Some(server) = self.topology.server_of(&self.key) else {
            *connection = None;
            return false;
        };
        if connection.as_ref().is_none_or(|(name, _)| *name != server.name()) {
            *connection = self.connect(link, server).await;
        }
        let Some((_, connected)) = connection else {
            return false;
        };
        match tokio::time::timeout(PATIENCE, self.renew(connected)).await {
            Ok(Ok(())) => {
                self.refused = false;
                true
            }
            Ok(Err(error)) => {
                // Where the key is now, only a look at the nodes says.
                if is_lost(&error) || error.redirect_node().is_some() {
                    *connection = None;
                } else if !std::mem::replace(&mut self.refused, true) {
                    let code = error.code().unwrap_or(error.category());
                    tracing::warn!(code, key = self.key, "redis refuses to count the instances");
                }
                false
            }
            Err(_) => {
                *connection = None;
                false
            }
        }
    }

    async fn connect(&self, link: &Link, server: Server) -> Option<(String, MultiplexedConnection)> {
        let connecting = tokio::time::timeout(link.connect_timeout(), link.open(&server));
        // Why it failed is said by who needs it for requests.
        let connection = connecting.await.ok()?.ok()?;
        Some((server.name(), connection))
    }

    async fn renew(&mut self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let server_ms = seconds * 1_000 + micros / 1_000;
        let mut commands = redis::pipe();
        let key = self.key.as_str();
        commands
            .cmd("ZADD")
            .arg(key)
            .arg(server_ms)
            .arg(self.membership.own())
            .ignore();
        commands.cmd("PEXPIRE").arg(key).arg(LIST_TTL_MS).ignore();
        commands.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES");
        let (entries,): (Vec<(String, u64)>,) = commands.query_async(connection).await?;
        let entries = entries
            .into_iter()
            .map(|(name, renewed_ms)| (name, micros_of(renewed_ms)))
            .collect();
        let now = self.context.clock.now_us();
        let (view, gone) = self.membership.heard(entries, micros_of(server_ms), now);
        let before = self.instances.view();
        self.instances.note(view);
        if before.count != view.count {
            tracing::info!(
                count = view.count,
                before = before.count,
                "instances that share the limits"
            );
        }
        if !gone.is_empty() {
            let mut command = redis::cmd("ZREM");
            let () = command.arg(key).arg(gone).query_async(connection).await?;
        }
        Ok(())
    }

    async fn leave(
        self,
        connection: Option<(String, MultiplexedConnection)>,
        done: Option<oneshot::Sender<()>>,
    ) {
        // Without a connection there is nothing to leave: the name runs out by itself.
        let (Some((_, mut connection)), Some(done)) = (connection, done) else {
            return;
        };
        let mut command = redis::cmd("ZREM");
        command.arg(&self.key).arg(self.membership.own());
        let left: Result<RedisResult<()>, _> =
            tokio::time::timeout(LEAVE_WITHIN, command.query_async(&mut connection)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!("could not leave the list of instances");
        }
        // Nobody waits any more if it took too long.
        let _ = done.send(());
    }
}

fn micros_of(millis: u64) -> Micros {
    millis.saturating_mul(1_000)
}
