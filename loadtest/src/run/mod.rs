//! A run from its start to its report.

mod observe;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::oneshot;

use self::observe::{Observed, observe};
use crate::audit::{History, audit};
use crate::client::{Go, LinkStats, Thread, ThreadResult};
use crate::clock::{Clock, Nanos};
use crate::machine::{Machine, Usage, unix_ms};
use crate::measure::{Second, Tally};
use crate::num;
use crate::options::{Args, Plan};
use crate::report::{Report, Totals, failures, latencies};

/// Between the start signal and the first request, so that every thread has heard it.
const RUN_UP: Nanos = 20_000_000;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum RunError {
    /// No target could be reached.
    #[error("no connection to any target: {0}")]
    Unreachable(String),
    /// A process given by its id can't be looked at.
    #[error("--server-pid {0}: {1}")]
    Process(u32, io::Error),
    /// A thread of the generator failed.
    #[error("thread of the generator: {0}")]
    Thread(String),
}

/// The generator's threads, waiting for the start.
#[derive(Debug)]
struct Crew {
    handles: Vec<JoinHandle<io::Result<ThreadResult>>>,
    signals: Vec<oneshot::Sender<Go>>,
    ready: Receiver<usize>,
}

/// What the threads found together.
#[derive(Debug, Default)]
struct Found {
    tally: Tally,
    links: LinkStats,
    history: History,
}

/// Runs the plan; takes at most 5 s to connect, the plan's time, and the time to answer.
pub fn run(args: &Args, plan: Plan, command: Vec<String>) -> Result<Report, RunError> {
    for pid in &args.server_pid {
        Usage::of(*pid).map_err(|error| RunError::Process(*pid, error))?;
    }
    let (plan, clock) = (Arc::new(plan), Clock::start());
    let (sender, series) = channel();
    let crew = Crew::muster(&plan, clock, sender)?;
    if crew.connected() == 0 {
        let names: Vec<_> = args
            .target
            .iter()
            .map(|target| target.authority.as_str())
            .collect();
        return Err(RunError::Unreachable(names.join(", ")));
    }
    let start = clock.now() + RUN_UP;
    let go = Go {
        start,
        measured_from: start + plan.warmup,
        end: start + plan.sending(),
    };
    let started_unix_ms = unix_ms();
    let handles = crew.go(go);
    let observed = observe(&series, clock, go, &args.server_pid);
    let found = join(handles)?;
    let figures = report(&plan, &observed, &found);
    let audit = plan
        .audit
        .as_ref()
        .map(|rules| audit(found.history, &rules.limits, start, plan.sending()));
    let failures = failures(&figures.totals, audit.as_ref(), args.fail_on_error);
    Ok(Report {
        command,
        started_unix_ms,
        audit,
        failures,
        ..figures
    })
}

impl Crew {
    fn muster(plan: &Arc<Plan>, clock: Clock, series: Sender<Second>) -> Result<Self, RunError> {
        let (ready_sender, ready) = channel();
        let (mut handles, mut signals) = (Vec::new(), Vec::new());
        for index in 0..plan.threads {
            let (signal, go) = oneshot::channel();
            let thread = Thread {
                index,
                clock,
                targets: plan.targets_of(index),
                plan: Arc::clone(plan),
                series: series.clone(),
                ready: ready_sender.clone(),
                go,
            };
            let spawned = thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || thread.run());
            handles.push(spawned.map_err(|error| RunError::Thread(error.to_string()))?);
            signals.push(signal);
        }
        Ok(Self {
            handles,
            signals,
            ready,
        })
    }

    /// Waits until every thread has connected, or has tried long enough; the connections that are up.
    fn connected(&self) -> usize {
        self.ready.iter().take(self.handles.len()).sum()
    }

    fn go(self, go: Go) -> Vec<JoinHandle<io::Result<ThreadResult>>> {
        for signal in self.signals {
            // A thread that is gone shows when it is joined.
            let _ = signal.send(go);
        }
        self.handles
    }
}

fn join(handles: Vec<JoinHandle<io::Result<ThreadResult>>>) -> Result<Found, RunError> {
    let mut found = Found::default();
    for handle in handles {
        let joined = handle
            .join()
            .map_err(|_| RunError::Thread("panicked".to_owned()))?;
        let result = joined.map_err(|error| RunError::Thread(error.to_string()))?;
        found.tally.merge(&result.tally);
        found.links.merge(result.links);
        found.history.merge(result.history.unwrap_or_default());
    }
    Ok(found)
}

/// The figures alone: not yet dated, not yet judged.
fn report(plan: &Plan, observed: &Observed, found: &Found) -> Report {
    let decided = found.tally.decided();
    let (warmup_s, duration_s) = (num::seconds(plan.warmup), num::seconds(plan.duration));
    let (generator, servers) = observed.used(found.tally.counts.answered(), duration_s);
    Report {
        tool: concat!("rk-load ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: Vec::new(),
        started_unix_ms: 0,
        machine: Machine::read(),
        duration_s,
        warmup_s,
        totals: Totals::new(&found.tally, duration_s),
        latency: latencies(&found.tally, &decided),
        latency_curve: decided.curve(),
        lag: found.tally.lag.percentiles(),
        connections: found.links,
        generator,
        servers,
        series: observed.series.rows(warmup_s),
        audit: None,
        failures: Vec::new(),
    }
}
