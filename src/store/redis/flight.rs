//! Jobs that leave together: one script call for each slot, all in one pipeline, and what becomes of each.
//!
//! A call is sent once. It is sent again, inside the deadline, only where the answer says that nothing of it has run, and once for each
//! such answer: the server had lost the script, or the slot is somewhere else or on its way there.

use std::borrow::Cow;
use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::call::Decision;
use super::give_back::GiveBack;
use super::lane::{After, Job, Lane, Way, Work};
use super::lease::{LeaseCall, LeaseReply};
use super::link::{self, Connected, is_lost};
use super::node::lock;
use super::script::Dialect;
use super::spare::{Exchange, Spares};
use crate::limiter::Micros;
use crate::store::guard::{Decided, StoreError};

/// How long to wait before a call is tried again whose keys are on their way.
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// The jobs of one script call.
struct Group {
    slot: u16,
    way: Way,
    jobs: Vec<Job>,
    sent: Sent,
}

/// What is sent for them.
enum Sent {
    Call(Box<Exchange>),
    GiveBack(GiveBack),
    Lease(LeaseCall),
}

/// Sends these jobs and sees to it that each has its answer.
pub(super) async fn fly(lane: Lane, mut connected: Connected, jobs: Vec<Job>) -> After {
    let mut groups = lane.groups(jobs);
    let mut tried = Tried::default();
    loop {
        if groups.is_empty() {
            return After::Good;
        }
        let sending = exchange(&mut connected, &mut groups);
        let answers = match tokio::time::timeout(lane.patience(), sending).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => {
                let lost = is_lost(&error);
                fail(groups, &StoreError::of(&error));
                return if lost { After::Lost } else { After::Good };
            }
            Err(_) => {
                fail(groups, &StoreError::Timeout);
                return After::Lost;
            }
        };
        let mut next = Next::default();
        for (group, answer) in groups.into_iter().zip(answers) {
            lane.settle(group, answer, connected.epoch, tried, &mut next);
        }
        if next.lost {
            fail_jobs(next.jobs, &StoreError::Disconnected);
            return After::Lost;
        }
        if next.jobs.is_empty() {
            return After::Good;
        }
        if next.tried.reload {
            lane.context.stats.add(|stats| &stats.reloads, 1);
            let loading = link::load_scripts(&mut connected.connection, connected.dialect);
            match tokio::time::timeout(lane.patience(), loading).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    fail_jobs(next.jobs, &StoreError::of(&error));
                    return if is_lost(&error) { After::Lost } else { After::Good };
                }
                Err(_) => {
                    fail_jobs(next.jobs, &StoreError::Timeout);
                    return After::Lost;
                }
            }
        }
        if next.pause {
            tokio::time::sleep(TRY_AGAIN).await;
        }
        groups = lane.groups(next.jobs);
        tried.reload |= next.tried.reload;
        tried.alone |= next.tried.alone;
    }
}

/// What jobs were sent again for.
#[derive(Clone, Copy, Default)]
struct Tried {
    /// The scripts had to be loaded.
    reload: bool,
    /// Their slot was on its way.
    alone: bool,
}

/// What is left after the answers.
#[derive(Default)]
struct Next {
    /// To be sent again.
    jobs: Vec<Job>,
    /// What for.
    tried: Tried,
    /// Not at once: keys are under way just now.
    pause: bool,
    lost: bool,
}

impl Next {
    /// Has the jobs of a call sent again, each by itself.
    fn alone(&mut self, jobs: Vec<Job>) {
        self.tried.alone = true;
        self.jobs.extend(jobs.into_iter().map(|job| Job {
            way: if job.way == Way::Straight {
                Way::Alone
            } else {
                job.way
            },
            ..job
        }));
    }
}

/// Each answer is a server's error or the script's reply.
async fn exchange(connected: &mut Connected, groups: &mut [Group]) -> RedisResult<Vec<Value>> {
    if let [group] = groups
        && group.way != Way::Asking
    {
        let command = group.sent.command(connected.dialect);
        return Ok(vec![connected.connection.send_packed_command(&command).await?]);
    }
    let mut commands = Pipeline::new();
    let mut count = 0;
    let mut ours = Vec::with_capacity(groups.len());
    for group in groups {
        if group.way == Way::Asking {
            commands.cmd("ASKING");
            count += 1;
        }
        commands.add_command(group.sent.command(connected.dialect).into_owned());
        ours.push(count);
        count += 1;
    }
    let answers = connected
        .connection
        .send_packed_commands(&commands, 0, count)
        .await?;
    let mut answers: Vec<Option<Value>> = answers.into_iter().map(Some).collect();
    Ok(ours
        .into_iter()
        .map(|at| answers.get_mut(at).and_then(Option::take).unwrap_or(Value::Nil))
        .collect())
}

impl Sent {
    /// What is sent for this work, still empty where more can be added. `None` for a lease that can't be.
    fn of(work: &Work, not_after: Micros, spares: &Spares) -> Option<Self> {
        Some(match work {
            Work::Charge { .. } => Self::Call(spares.take()),
            Work::GiveBack { .. } => Self::GiveBack(GiveBack::new(not_after)),
            Work::Lease { asked, parts, .. } => {
                let charge = asked.charges.first()?;
                let key = asked.keys.get(charge.counter);
                Self::Lease(LeaseCall::new(key, charge.limit, charge.hits, *parts, not_after)?)
            }
        })
    }

    /// It as a command.
    fn command(&mut self, dialect: Dialect) -> Cow<'_, Cmd> {
        let mut own = Cmd::new();
        match self {
            Self::Call(exchange) => {
                let Exchange { call, command, .. } = &mut **exchange;
                call.write_to(call.script(), dialect, command);
                return Cow::Borrowed(command);
            }
            Self::GiveBack(given) => given.write_to(dialect, &mut own),
            Self::Lease(lease) => lease.write_to(dialect, &mut own),
        }
        Cow::Owned(own)
    }
}

impl Lane {
    /// The calls of these jobs. What was given up while it waited is not sent at all.
    fn groups(&self, jobs: Vec<Job>) -> Vec<Group> {
        let now = self.context.clock.now_us();
        let (mut groups, mut calls): (Vec<Group>, usize) = (Vec::with_capacity(1), 0);
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if job.is_over(now) {
                job.fail(StoreError::Timeout);
                continue;
            }
            let not_after = self.not_after(&job, now);
            let is_charge = matches!(job.work, Work::Charge { .. });
            // What was sent here or tried before goes alone: what keeps one from its keys need not keep another.
            let fits = |group: &Group| {
                job.way == Way::Straight
                    && group.way == Way::Straight
                    && is_charge
                    && group.slot == job.slot
                    && matches!(group.sent, Sent::Call(_))
            };
            let at = match groups.iter().rposition(fits) {
                Some(at) => at,
                None => {
                    let Some(sent) = Sent::of(&job.work, not_after, &self.spares) else {
                        job.fail(StoreError::Unfit("a limit that can't be leased".to_owned()));
                        continue;
                    };
                    groups.push(Group {
                        slot: job.slot,
                        way: job.way,
                        // Without a cluster all of them go together.
                        jobs: Vec::with_capacity(1 + jobs.len()),
                        sent,
                    });
                    groups.len() - 1
                }
            };
            match groups[at].add(job, not_after) {
                Ok(()) => calls += 1,
                Err((job, error)) => job.fail(error),
            }
        }
        groups.retain(|group| !group.jobs.is_empty());
        if calls > 0 {
            let charges = groups.iter().map(|group| group.charges()).sum();
            self.context.stats.add(|stats| &stats.calls, groups.len());
            self.context.stats.add(|stats| &stats.charges, charges);
        }
        groups
    }

    /// Until when, in the server's time, a request may still be charged: a little before it is given up here, so that the reply
    /// can come in time.
    fn not_after(&self, job: &Job, now: Micros) -> Micros {
        let left = job.give_up_at.saturating_sub(now);
        let way_back = (left / 4).min(2_000);
        // Without a time seen there is no connection, so this is never 0, which would mean "for ever".
        let server_now = self.node.time.at(now).unwrap_or(0);
        server_now.saturating_add(left - way_back).max(1)
    }

    /// Gives the jobs of a call what its answer says, or another try.
    fn settle(&self, mut group: Group, answer: Value, epoch: u64, tried: Tried, next: &mut Next) {
        let error = match answer {
            Value::ServerError(error) => RedisError::from(error),
            value => {
                if let Err(error) = self.deliver(&mut group, &value, epoch) {
                    next.lost = true;
                    fail_jobs(group.jobs, &error);
                } else if let Sent::Call(exchange) = group.sent {
                    self.spares.put(exchange);
                }
                return;
            }
        };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) if !tried.reload => {
                next.tried.reload = true;
                next.jobs.append(&mut group.jobs);
            }
            ErrorKind::Server(ServerErrorKind::TryAgain) if !tried.alone => {
                next.pause = true;
                next.alone(group.jobs);
            }
            // Redis 6.2 says it of a call already if one of its keys has gone: those of other requests may still be here.
            ErrorKind::Server(ServerErrorKind::Ask) if !tried.alone && group.jobs.len() > 1 => {
                next.alone(group.jobs);
            }
            ErrorKind::Server(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                let last = !matches!(group.way, Way::Straight | Way::Alone);
                let way = match kind {
                    ServerErrorKind::Ask => Way::Asking,
                    _ => Way::Redirected,
                };
                let to = error.redirect_node().map(|(address, _)| address.to_owned());
                match (self.context.topology.upgrade(), to) {
                    (Some(topology), Some(to)) => {
                        topology.redirect(self, group.jobs, &to, way, last);
                    }
                    _ => fail_jobs(group.jobs, &StoreError::of(&error)),
                }
            }
            _ => {
                next.lost |= is_lost(&error);
                fail_jobs(group.jobs, &StoreError::of(&error));
            }
        }
    }

    /// A key that holds something else, which is said from time to time: every request for it meets that.
    fn not_ours(&self, key: &str, now: Micros) -> StoreError {
        if self.node.is_foreign_key_news(now) {
            tracing::warn!(key, node = self.node.name, "a key of ours holds something else");
        }
        StoreError::Key
    }

    /// Gives each job its part of a reply.
    fn deliver(&self, group: &mut Group, value: &Value, epoch: u64) -> Result<(), StoreError> {
        let malformed = |error: &dyn std::fmt::Display| StoreError::Server(error.to_string());
        match &mut group.sent {
            Sent::Call(exchange) => {
                let Exchange { call, reply, .. } = &mut **exchange;
                call.decode(value, reply).map_err(|error| malformed(&error))?;
                let now = self.context.clock.now_us();
                let mut recent = lock(&self.node.recent);
                if epoch != self.node.epoch() {
                    // Too late to be among what its successor was told.
                    return Err(StoreError::Disconnected);
                }
                recent.note(now, call, reply);
                drop(recent);
                self.node.time.saw(reply.now_us, now);
                for (at, job) in group.jobs.drain(..).enumerate() {
                    let Work::Charge { asked, reply: to } = job.work else {
                        continue;
                    };
                    // What this holds is needed by who waits.
                    drop(asked);
                    // Nobody waits any more: the request was given up or cancelled.
                    let _ = to.send(decided(call.decision(reply, at), reply.now_us, |key| {
                        self.not_ours(key, now)
                    }));
                }
            }
            Sent::Lease(lease) => {
                let reply = lease.decode(value).map_err(|error| malformed(&error))?;
                let granted = match reply {
                    LeaseReply::Granted(granted) => {
                        let now = self.context.clock.now_us();
                        let mut recent = lock(&self.node.recent);
                        if epoch != self.node.epoch() {
                            return Err(StoreError::Disconnected);
                        }
                        recent.note_hits(now, lease.key(), lease.limit(), granted.hits);
                        drop(recent);
                        self.node.time.saw(granted.now_us, now);
                        Ok(granted)
                    }
                    LeaseReply::TooLate => Err(StoreError::Timeout),
                    LeaseReply::NotOurs => Err(self.not_ours(lease.key(), self.context.clock.now_us())),
                };
                if let Some(Job {
                    work: Work::Lease { reply: to, .. },
                    ..
                }) = group.jobs.pop()
                {
                    // If nobody waits any more, the hits are left behind.
                    let _ = to.send(granted);
                }
            }
            Sent::GiveBack(given) => {
                let readings = given.decode(value).map_err(|error| malformed(&error))?;
                if let Some(Job {
                    work: Work::GiveBack { reply: to, .. },
                    ..
                }) = group.jobs.pop()
                {
                    // If nobody waits any more, it was done all the same.
                    let _ = to.send(readings);
                }
            }
        }
        Ok(())
    }
}

impl Group {
    fn charges(&self) -> usize {
        match &self.sent {
            Sent::Call(exchange) => exchange.call.charges(),
            Sent::GiveBack(given) => given.len(),
            Sent::Lease(_) => 1,
        }
    }

    /// Adds a job, or hands it back with what keeps it out.
    fn add(&mut self, job: Job, not_after: Micros) -> Result<(), (Job, StoreError)> {
        let added = match (&mut self.sent, &job.work) {
            (Sent::Call(exchange), Work::Charge { asked, .. }) => exchange
                .call
                .push(&asked.keys, &asked.charges, asked.prior, not_after)
                .map_err(|refused| StoreError::Unfit(refused.to_string())),
            (Sent::GiveBack(given), Work::GiveBack { asked, which, at, .. }) => {
                which.iter().try_for_each(|index| {
                    let charge = &asked.charges[*index];
                    given
                        .push(asked.keys.get(charge.counter), &charge.limit, charge.hits, *at)
                        .map_err(|not_taken| StoreError::Unfit(not_taken.to_string()))
                })
            }
            (Sent::Lease(_), Work::Lease { .. }) => Ok(()),
            _ => Err(StoreError::Unfit("a call of another kind".to_owned())),
        };
        match added {
            Ok(()) => {
                self.jobs.push(job);
                Ok(())
            }
            Err(error) => Err((job, error)),
        }
    }
}

fn fail(groups: Vec<Group>, error: &StoreError) {
    for group in groups {
        fail_jobs(group.jobs, error);
    }
}

pub(super) fn fail_jobs(jobs: Vec<Job>, error: &StoreError) {
    for job in jobs {
        job.fail(error.clone());
    }
}

fn decided(
    decision: Option<Decision<'_>>,
    now_us: Micros,
    not_ours: impl FnOnce(&str) -> StoreError,
) -> Result<Decided, StoreError> {
    match decision {
        Some(Decision::Decided { verdicts, outcome }) => Ok(Decided {
            verdicts: verdicts.to_vec(),
            outcome,
            now_us,
        }),
        Some(Decision::TooLate) => Err(StoreError::Timeout),
        Some(Decision::NotOurs { key }) => Err(not_ours(key)),
        None => Err(StoreError::Server("no answer for the request".to_owned())),
    }
}
