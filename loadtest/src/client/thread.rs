//! A thread of the generator: connects, waits for the start, drives its share of the load, hands its figures over.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};

use super::link::{Link, LinkStats, Target};
use super::shared::{Shared, Source};
use super::{closed, open};
use crate::audit::History;
use crate::clock::{Clock, Nanos};
use crate::measure::{Recorder, Second, Tally};
use crate::num;
use crate::options::{Load, Plan};
use crate::plan::{Arrivals, Mix};

/// Links that are not up by then are not waited for.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How often a finished thread looks whether the last requests have ended.
const DRAIN_TICK: Duration = Duration::from_millis(1);
/// More than the sweeper needs to give up the last request.
const DRAIN_EXTRA: Duration = Duration::from_millis(300);

/// What a thread is given.
#[derive(Debug)]
pub struct Thread {
    /// From 0.
    pub index: usize,
    /// What to do.
    pub plan: Arc<Plan>,
    /// The common clock.
    pub clock: Clock,
    /// The connections it keeps.
    pub targets: Vec<Target>,
    /// Where finished seconds go.
    pub series: Sender<Second>,
    /// Says how many of its links are up.
    pub ready: Sender<usize>,
    /// The start; dropped if the run is given up.
    pub go: oneshot::Receiver<Go>,
}

/// When it starts.
#[derive(Debug, Clone, Copy)]
pub struct Go {
    /// The first request may leave.
    pub start: Nanos,
    /// From here on requests are measured.
    pub measured_from: Nanos,
    /// None leaves any more.
    pub end: Nanos,
}

/// What a thread found.
#[derive(Debug, Default)]
pub struct ThreadResult {
    /// What it measured.
    pub tally: Tally,
    /// What became of its connections.
    pub links: LinkStats,
    /// What it was granted, if that is to be audited.
    pub history: Option<History>,
}

impl Thread {
    /// Runs the thread to its end; at most the time to answer longer than the plan says.
    pub fn run(self) -> io::Result<ThreadResult> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(self.drive())
    }

    async fn drive(self) -> io::Result<ThreadResult> {
        let links = connect(&self.targets, self.seed()).await;
        let up = links.iter().filter(|link| link.is_up()).count();
        // Nobody listens any more: the run was given up.
        if self.ready.send(up).is_err() {
            return Ok(ThreadResult::default());
        }
        let (plan, clock, index) = (Arc::clone(&self.plan), self.clock, self.index);
        let seed = self.seed();
        let Ok(go) = self.go.await else {
            return Ok(ThreadResult::default());
        };
        let source = Source {
            random: SmallRng::seed_from_u64(seed),
            mix: Mix::new(&plan.kinds, index, plan.threads),
        };
        let shared = Rc::new(shared(&plan, clock, go, source, self.series));
        sleep_until(clock.instant(go.start)).await;
        let sweeper = spawn_local(sweep(Rc::clone(&shared)));
        let limit = clock.instant(go.end.saturating_add(plan.patience)) + DRAIN_EXTRA;
        if let Ok(result) = timeout_at(limit, send(&shared, &plan, &links, index, go)).await {
            result?;
        }
        sweeper.abort();
        let mut stats = LinkStats::default();
        links.iter().for_each(|link| stats.merge(link.stats()));
        let tally = shared.recorder.borrow_mut().finish();
        let history = shared.history.borrow_mut().take();
        Ok(ThreadResult {
            tally,
            links: stats,
            history,
        })
    }

    fn seed(&self) -> u64 {
        self.plan.seed.wrapping_add(self.index as u64)
    }
}

/// Drives the load from the start to the end, and waits for the last answers.
async fn send(shared: &Rc<Shared>, plan: &Plan, links: &[Rc<Link>], index: usize, go: Go) -> io::Result<()> {
    match plan.load {
        Load::Closed { in_flight } => {
            for link in links {
                for _ in 0..in_flight {
                    spawn_local(closed::run(Rc::clone(shared), Rc::clone(link)));
                }
            }
        }
        Load::Open {
            rate,
            pattern,
            in_flight_max,
            busy_poll,
        } => {
            let threads = num::fraction(plan.threads as u64);
            let phase = num::fraction(index as u64) / threads;
            let arrivals = Arrivals::new(pattern, rate / threads, go.start, phase);
            open::run(
                Rc::clone(shared),
                links.to_vec(),
                in_flight_max,
                busy_poll,
                arrivals,
            )
            .await?;
        }
    }
    sleep_until(shared.clock.instant(go.end)).await;
    while !shared.is_idle() {
        sleep(DRAIN_TICK).await;
    }
    Ok(())
}

/// Starts the links and waits until all are up, or long enough.
async fn connect(targets: &[Target], seed: u64) -> Vec<Rc<Link>> {
    let links: Vec<_> = targets
        .iter()
        .map(|target| Rc::new(Link::new(target.clone())))
        .collect();
    for (index, link) in links.iter().enumerate() {
        spawn_local(Rc::clone(link).keep(seed.wrapping_mul(31).wrapping_add(index as u64)));
    }
    let all = async {
        for link in &links {
            link.up().await;
        }
    };
    let _ = timeout(CONNECT_WAIT, all).await;
    links
}

fn shared(plan: &Plan, clock: Clock, go: Go, source: Source, series: Sender<Second>) -> Shared {
    Shared {
        clock,
        end: go.end,
        patience: plan.patience,
        grpc_timeout: plan.grpc_timeout.clone(),
        source: RefCell::new(source),
        recorder: RefCell::new(Recorder::new(go.start, go.measured_from, series)),
        history: RefCell::new(plan.audit.as_ref().map(|_| History::default())),
        watches: RefCell::default(),
        freed: Notify::new(),
    }
}

/// Looks for requests that ran out of time, some times within that time.
async fn sweep(shared: Rc<Shared>) {
    let pause = Duration::from_nanos((shared.patience / 8).clamp(1_000_000, 100_000_000));
    loop {
        sleep(pause).await;
        shared.sweep();
    }
}
