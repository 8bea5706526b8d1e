//! A new primary may lack what the old one had: replication is asynchronous, and a server that restarts may have an old snapshot or
//! nothing.
//!
//! ```text
//! new identity ──marker there?──> no: the data is lost, `strict` limits deny for a window
//!              └─what this process charged lately──> recorded again, before the node is used
//! ```
//!
//! The marker is a key of this process in the node's slots, renewed every second: what the new primary has of it says how much is
//! missing.

use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use super::Context;
use super::call::{CHARGES_MAX, Call, Reply};
use super::connect_error::ConnectError;
use super::identity::Identity;
use super::link::{Connected, Link, is_elsewhere, see_time};
use super::node::{NodeState, lock};
use super::recent::{Recent, Replayed, SPAN_US};
use super::script::Script;
use super::server::Server;
use super::slot::slot_of;
use crate::limiter::{Micros, Prior};

/// A marker that is older by this has lost more than is recorded again: the last one was written up to a second, and with its
/// bounds half a second more, before the last charge.
const LOST_MS: u64 = SPAN_US / 1_000 - 1_500;
/// A marker outlives an outage of this length, in milliseconds.
const MARKER_TTL_MS: u64 = 3_600_000;
/// Charges that are recorded again at once: a few milliseconds of Redis.
const AT_ONCE: usize = 512;
/// The longest time for that; what is not recorded by then is left out, and said.
const WITHIN: Duration = Duration::from_secs(1);

/// What was known of the primary that was here before.
#[derive(Debug, Default)]
pub(super) struct Past {
    identity: Option<Identity>,
    marker: Option<Marker>,
    /// It has taken over from another node, and what was charged there is among its own recent charges.
    heir: bool,
}

/// The marker as it was written last.
#[derive(Clone, Debug)]
struct Marker {
    key: String,
    at_ms: u64,
}

impl Past {
    /// Of a node that takes over from this one.
    pub fn heir(&self) -> Self {
        Self {
            identity: None,
            marker: self.marker.clone(),
            heir: true,
        }
    }

    /// Whether the node has to be told what it may lack before it is used.
    fn is_new(&self, identity: &Identity) -> bool {
        match &self.identity {
            None => self.heir,
            Some(known) => !known.is(identity),
        }
    }
}

impl NodeState {
    /// A connection that may be used: its server is a primary, and lacks nothing that this process knows of.
    pub async fn open(
        &self,
        server: &Server,
        link: &Link,
        context: &Context,
    ) -> Result<Connected, ConnectError> {
        let (mut connected, identity) = link.open_primary(server, &self.time, &context.clock).await?;
        self.recognise(identity, &mut connected, context).await?;
        Ok(connected)
    }

    /// Looks whether this is the primary that it was, and tells a new one what it may lack. Others that connect wait meanwhile.
    async fn recognise(
        &self,
        identity: Option<Identity>,
        connected: &mut Connected,
        context: &Context,
    ) -> Result<(), ConnectError> {
        let Some(identity) = identity else {
            connected.epoch = self.epoch();
            return Ok(());
        };
        let mut past = self.past.lock().await;
        if past.is_new(&identity) {
            let refused = |error: RedisError| ConnectError::of(&error);
            let mut connection = connected.connection.clone();
            let lost = self.what_is_lost(&past, &mut connection).await.map_err(refused)?;
            let whole = lock(&self.recent).is_whole();
            let mut charged = Charged::take(self, context.clock.now_us());
            // Another server has another clock. What the earlier one still answers is not heard any more.
            self.time.forget();
            see_time(&mut connection, &self.time, &context.clock)
                .await
                .map_err(refused)?;
            let recording = self.record(&mut charged, connected.clone(), context);
            // Before the time to connect is over: what does not come to an end must not be begun again and again.
            let within = WITHIN.min(context.options.connect_timeout / 2);
            let in_time = match tokio::time::timeout(within, recording).await {
                Ok(recorded) => recorded.map_err(refused).map(|()| true)?,
                Err(_) => false,
            };
            let (recorded_again, left_out) = charged.done();
            let lost = lost || !whole || !in_time;
            let now = context.clock.now_us();
            if lost {
                self.emptied(now);
            }
            context.stats.add(|stats| &stats.recoveries, 1);
            tracing::warn!(
                node = self.name,
                %identity,
                lost,
                recorded_again,
                left_out,
                "a new primary, or one that was restarted"
            );
            past.heir = false;
        }
        past.identity = Some(identity);
        connected.epoch = self.epoch();
        Ok(())
    }

    /// Whether more is missing than this process can record again.
    async fn what_is_lost(&self, past: &Past, connection: &mut MultiplexedConnection) -> RedisResult<bool> {
        let Some(marker) = &past.marker else {
            // It became another server before the first marker was written.
            return Ok(true);
        };
        let found: RedisResult<Option<u64>> =
            redis::cmd("GET").arg(&marker.key).query_async(connection).await;
        match found {
            Ok(found) => Ok(found.is_none_or(|at_ms| at_ms + LOST_MS < marker.at_ms)),
            // Its slot has moved, it holds something else, or we may not read it: nothing follows.
            Err(error) if is_elsewhere(&error) || matches!(error.code(), Some("WRONGTYPE" | "NOPERM")) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Renews the marker.
    pub async fn mark(&self, connection: &mut MultiplexedConnection, context: &Context) -> RedisResult<()> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let at_ms = seconds * 1_000 + micros / 1_000;
        let mut moving: Vec<u16> = Vec::new();
        // Without a slot nothing can be lost here.
        while let Some(key) = context.key_on(self, "seen", &moving) {
            let mut command = redis::cmd("SET");
            command.arg(&key).arg(at_ms).arg("PX").arg(MARKER_TTL_MS);
            match command.query_async(connection).await {
                Err(error) => context.pass_over(error, &key, &mut moving)?,
                Ok(()) => {
                    self.past.lock().await.marker = Some(Marker { key, at_ms });
                    break;
                }
            }
        }
        Ok(())
    }

    /// Records charges, in calls of one slot each. What is confirmed is taken out, so that no further attempt records it twice.
    async fn record(
        &self,
        charged: &mut Charged<'_>,
        mut connected: Connected,
        context: &Context,
    ) -> RedisResult<()> {
        while !charged.hits.is_empty() {
            let some = charged.hits.len().min(AT_ONCE);
            let calls = calls(&charged.hits[..some], context.options.is_cluster());
            let mut commands = Pipeline::new();
            for call in &calls {
                let mut command = Cmd::new();
                call.write_to(Script::batch(), connected.dialect, &mut command);
                commands.add_command(command);
            }
            let connection = &mut connected.connection;
            let answers = connection.send_packed_commands(&commands, 0, calls.len()).await?;
            for (call, answer) in calls.iter().zip(answers) {
                if let Value::ServerError(error) = answer {
                    let error = RedisError::from(error);
                    // A slot that is another node's by now, or soon: that one has its data.
                    if is_elsewhere(&error) {
                        continue;
                    }
                    return Err(error);
                }
                let mut reply = Reply::default();
                if call.decode(&answer, &mut reply).is_ok() {
                    lock(&self.recent).note(context.clock.now_us(), call, &reply);
                }
            }
            charged.hits.drain(..some);
            charged.recorded += some;
        }
        Ok(())
    }
}

/// Charges that are being recorded again. Until that is done they are put back by whoever ends it: the server, a deadline of the
/// connection.
struct Charged<'a> {
    recent: &'a Mutex<Recent>,
    /// Those that are left.
    hits: Vec<Replayed>,
    recorded: usize,
}

impl<'a> Charged<'a> {
    fn take(node: &'a NodeState, now: Micros) -> Self {
        Self {
            recent: &node.recent,
            hits: node.hand_over(now, |_| true),
            recorded: 0,
        }
    }

    /// How many were recorded, and how many are given up.
    fn done(mut self) -> (usize, usize) {
        (self.recorded, std::mem::take(&mut self.hits).len())
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        lock(self.recent).put_back(&self.hits);
    }
}

/// The calls that record these charges.
fn calls(charged: &[Replayed], by_slot: bool) -> Vec<Call> {
    let slot = |it: &Replayed| if by_slot { slot_of(&it.key) } else { 0 };
    let mut in_order: Vec<&Replayed> = charged.iter().collect();
    in_order.sort_by_cached_key(|it| slot(it));
    let mut calls = Vec::new();
    for of_slot in in_order.chunk_by(|a, b| slot(a) == slot(b)) {
        for some in of_slot.chunks(CHARGES_MAX) {
            let mut call = Call::new();
            for it in some {
                let (keys, charges) = it.request();
                if let Err(refused) = call.push(&keys, &charges, Prior::default(), 0) {
                    // Each was in a call before.
                    tracing::error!(%refused, "a recent charge that can't be recorded again");
                }
            }
            calls.push(call);
        }
    }
    calls
}
