//! One connection: what waits for it leaves together, and each request gets its own verdicts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::{mpsc, oneshot};

use super::Context;
use super::call::{CHARGES_MAX, Call, Decision, Reply};
use super::link::{self, Link, Pauses};
use super::script::Dialect;
use crate::limiter::Micros;
use crate::store::guard::{Asked, Decided, StoreError};

/// An idle connection is asked for a sign of life this often.
const IDLE: Duration = Duration::from_millis(500);
/// A call that has no answer for four times a request's longest wait, and for at least this long, will have none.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// Reasons for an outage that are logged; beyond that it goes on in silence.
const REASONS_MAX: usize = 8;
/// Calls under way on one connection; meanwhile requests wait and leave together.
const CALLS_MAX: usize = 4;

/// One request's part in a call.
#[derive(Debug)]
pub(super) struct Job {
    pub asked: Arc<Asked>,
    /// When the request stops waiting.
    pub give_up_at: Micros,
    pub reply: oneshot::Sender<Result<Decided, StoreError>>,
}

impl Job {
    fn end(self, result: Result<Decided, StoreError>) {
        // What this holds is needed by who waits.
        drop(self.asked);
        // Nobody waits any more: the request was given up or cancelled.
        let _ = self.reply.send(result);
    }

    fn is_over(&self, now: Micros) -> bool {
        self.reply.is_closed() || now >= self.give_up_at
    }
}

/// Whether a connection is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Good,
    Lost,
}

/// Serves jobs until nobody can send any more, connecting and reconnecting as needed.
pub(super) async fn run(link: Link, mut jobs: mpsc::Receiver<Job>, context: Arc<Context>) {
    let mut pauses = Pauses::default();
    // The reasons that were said of this outage.
    let mut reported: Vec<String> = Vec::new();
    // At the start requests wait for the connection, each for its own time: a share next to a store that is just not connected
    // yet would admit too much. Later a lost store is known to be lost.
    let mut first = Some(link.connect(&context).await);
    loop {
        let connected = match first.take() {
            Some(connected) => connected,
            None => match meanwhile_refusing(&mut jobs, link.connect(&context)).await {
                Some(connected) => connected,
                None => return,
            },
        };
        match connected {
            Ok(connection) => {
                context.stats.add(|stats| &stats.connects, 1);
                context.stats.connected.fetch_add(1, Ordering::Relaxed);
                if !std::mem::take(&mut reported).is_empty() {
                    tracing::info!("redis is back");
                }
                pauses.reset();
                let ended = serve(connection, &mut jobs, &context).await;
                context.stats.connected.fetch_sub(1, Ordering::Relaxed);
                if ended {
                    return;
                }
                tracing::warn!("connection to redis lost");
            }
            Err(error) => {
                // Each reason is said once for each outage, not for each attempt.
                let error = error.to_string();
                if reported.len() < REASONS_MAX && !reported.contains(&error) {
                    tracing::error!(error, "redis can't be reached");
                    reported.push(error);
                }
            }
        }
        context.stats.add(|stats| &stats.disconnects, 1);
        if meanwhile_refusing(&mut jobs, tokio::time::sleep(pauses.next()))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Waits for something while jobs are refused; `None` if nobody can send any more.
async fn meanwhile_refusing<T>(jobs: &mut mpsc::Receiver<Job>, waited: impl Future<Output = T>) -> Option<T> {
    let mut waited = std::pin::pin!(waited);
    loop {
        tokio::select! {
            biased;
            done = &mut waited => return Some(done),
            job = jobs.recv() => job?.end(Err(StoreError::Disconnected)),
        }
    }
}

/// Serves jobs on one connection; true if nobody can send any more, false if the connection was lost.
async fn serve(
    connection: MultiplexedConnection,
    jobs: &mut mpsc::Receiver<Job>,
    context: &Arc<Context>,
) -> bool {
    let mut calls: FuturesUnordered<Pin<Box<dyn Future<Output = After> + Send>>> = FuturesUnordered::new();
    let mut left = None;
    let mut idle = tokio::time::interval(IDLE);
    idle.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(after) = calls.next(), if !calls.is_empty() => {
                if after == After::Lost {
                    return false;
                }
            }
            job = next(&mut left, jobs), if calls.len() < CALLS_MAX => {
                let Some(job) = job else { return true };
                idle.reset();
                let waiting = gather(job, jobs, &mut left);
                calls.push(Box::pin(call(connection.clone(), waiting, Arc::clone(context))));
            }
            _ = idle.tick(), if calls.is_empty() => {
                calls.push(Box::pin(sign_of_life(connection.clone(), Arc::clone(context))));
            }
        }
    }
}

/// Asks an idle connection for the time: a lost one is noticed before a request needs it.
async fn sign_of_life(mut connection: MultiplexedConnection, context: Arc<Context>) -> After {
    match tokio::time::timeout(patience(&context), link::see_time(&mut connection, &context)).await {
        Ok(Ok(())) => After::Good,
        Ok(Err(_)) | Err(_) => After::Lost,
    }
}

fn patience(context: &Context) -> Duration {
    (context.options.op_timeout * 4).max(PATIENCE_MIN)
}

/// The job that did not fit into the last call, else the next one that comes. Loses none when it is dropped.
async fn next(left: &mut Option<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    match left.take() {
        Some(job) => Some(job),
        None => jobs.recv().await,
    }
}

/// The first job and all that wait behind it, as many as fit into a call. The one that did not fit is left over.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>, left: &mut Option<Job>) -> Vec<Job> {
    let mut charges = first.asked.charges.len();
    let mut waiting = vec![first];
    while charges < CHARGES_MAX {
        let Ok(job) = jobs.try_recv() else { break };
        charges += job.asked.charges.len();
        if charges > CHARGES_MAX {
            *left = Some(job);
            break;
        }
        waiting.push(job);
    }
    waiting
}

/// One call: sent once, and again only if the server had lost the script, in which case nothing ran.
async fn call(mut connection: MultiplexedConnection, jobs: Vec<Job>, context: Arc<Context>) -> After {
    let now = context.clock.now_us();
    let mut call = Call::new();
    let mut sent = Vec::with_capacity(jobs.len());
    // Requests that were given up while they waited are not sent at all.
    for job in jobs.into_iter().filter(|job| !job.is_over(now)) {
        let not_after = not_after(&job, now, &context);
        match call.push(&job.asked.keys, &job.asked.charges, job.asked.prior, not_after) {
            Ok(()) => sent.push(job),
            Err(refused) => job.end(Err(StoreError::Unfit(refused.to_string()))),
        }
    }
    if sent.is_empty() {
        return After::Good;
    }
    context.stats.add(|stats| &stats.calls, 1);
    context.stats.add(|stats| &stats.charges, call.charges());
    let patience = patience(&context);
    let (error, after) =
        match tokio::time::timeout(patience, exchange(&mut connection, &call, &context)).await {
            Ok(Ok(value)) => {
                let mut reply = Reply::default();
                match call.decode(&value, &mut reply) {
                    Ok(()) => {
                        context.time.saw(reply.now_us, context.clock.now_us());
                        for (at, job) in sent.into_iter().enumerate() {
                            let decided = decided(call.decision(&reply, at));
                            job.end(decided);
                        }
                        return After::Good;
                    }
                    Err(error) => (StoreError::Server(error.to_string()), After::Lost),
                }
            }
            Ok(Err(error)) => {
                // A server that became read-only is no primary any more; the name may lead to the new one.
                let read_only = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
                let lost = error.is_io_error()
                    || error.is_connection_dropped()
                    || error.is_unrecoverable_error()
                    || read_only;
                (
                    StoreError::of(&error),
                    if lost { After::Lost } else { After::Good },
                )
            }
            Err(_) => (StoreError::Timeout, After::Lost),
        };
    for job in sent {
        job.end(Err(error.clone()));
    }
    after
}

async fn exchange(
    connection: &mut MultiplexedConnection,
    call: &Call,
    context: &Context,
) -> RedisResult<Value> {
    let mut command = Cmd::new();
    call.write_to(call.script(), Dialect::Plain, &mut command);
    match send(connection, &command).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            context.stats.add(|stats| &stats.reloads, 1);
            link::load_scripts(connection).await?;
            send(connection, &command).await
        }
        result => result,
    }
}

/// The reply; a server's error is one here, too.
async fn send(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    match connection.send_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

fn decided(decision: Option<Decision<'_>>) -> Result<Decided, StoreError> {
    match decision {
        Some(Decision::Decided { verdicts, outcome }) => Ok(Decided {
            verdicts: verdicts.to_vec(),
            outcome,
        }),
        Some(Decision::TooLate) => Err(StoreError::Timeout),
        Some(Decision::NotOurs { key }) => {
            tracing::debug!(key, "a key of ours holds something else");
            Err(StoreError::Key)
        }
        None => Err(StoreError::Server("no answer for the request".to_owned())),
    }
}

/// Until when, in the server's time, the request may still be charged: a little before it is given up here, so that the reply
/// can come in time.
fn not_after(job: &Job, now: Micros, context: &Context) -> Micros {
    let left = job.give_up_at.saturating_sub(now);
    let way_back = (left / 4).min(2_000);
    // Without a time seen there is no connection, so this is never 0, which would mean "for ever".
    context
        .time
        .at(now)
        .unwrap_or(0)
        .saturating_add(left - way_back)
        .max(1)
}
