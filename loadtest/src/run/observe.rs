//! While the threads run: the series, the bar, and what the processes use from the measurement's beginning to its end.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::client::Go;
use crate::clock::{Clock, Nanos};
use crate::machine::{ProcessUse, Usage, own_cpu};
use crate::measure::{Second, Series};
use crate::report::Progress;

/// How often the bar moves.
const TICK: Nanos = 200_000_000;

/// The generator and the servers at one moment.
#[derive(Debug)]
struct Snapshot {
    own: Duration,
    /// `None` for a process that is gone.
    servers: Vec<(u32, Option<Usage>)>,
}

impl Snapshot {
    fn take(pids: &[u32]) -> Self {
        let servers = pids.iter().map(|pid| (*pid, Usage::of(*pid).ok())).collect();
        Self {
            own: own_cpu(),
            servers,
        }
    }
}

/// What was seen of a run.
#[derive(Debug)]
pub struct Observed {
    pub series: Series,
    before: Snapshot,
    after: Snapshot,
}

/// Watches until the last thread is done.
pub fn observe(seconds: &Receiver<Second>, clock: Clock, go: Go, pids: &[u32]) -> Observed {
    let progress = Progress::new(Duration::from_nanos(go.end - go.start));
    let mut series = Series::default();
    let (mut before, mut after) = (None, None);
    loop {
        let now = clock.now();
        if now >= go.measured_from && before.is_none() {
            before = Some(Snapshot::take(pids));
        }
        if now >= go.end && after.is_none() {
            after = Some(Snapshot::take(pids));
        }
        let next = if before.is_none() {
            go.measured_from
        } else {
            go.end
        };
        let pause = if now < next { (next - now).min(TICK) } else { TICK };
        match seconds.recv_timeout(Duration::from_nanos(pause)) {
            Ok(second) => series.add(second),
            Err(RecvTimeoutError::Timeout) => {
                progress.show(Duration::from_nanos(now.saturating_sub(go.start)), &series);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    progress.finish();
    // Only a run that broke off gets here without them.
    let snapshot = |taken: Option<Snapshot>| taken.unwrap_or_else(|| Snapshot::take(pids));
    Observed {
        series,
        before: snapshot(before),
        after: snapshot(after),
    }
}

impl Observed {
    /// What the generator and each server used for so many requests in so many seconds.
    pub fn used(&self, requests: u64, seconds: f64) -> (ProcessUse, Vec<ProcessUse>) {
        let own_id = std::process::id();
        let own_cpu = self.after.own.saturating_sub(self.before.own);
        let own_peak = Usage::of(own_id).map_or(0, |usage| usage.peak_rss_kib);
        let used = |pid, cpu, peak| ProcessUse::new(pid, cpu, peak, requests, seconds);
        let pairs = self.before.servers.iter().zip(&self.after.servers);
        let servers = pairs.filter_map(|((pid, before), (_, after))| {
            let (before, after) = (before.as_ref()?, after.as_ref()?);
            Some(used(
                *pid,
                after.cpu.saturating_sub(before.cpu),
                after.peak_rss_kib,
            ))
        });
        (used(own_id, own_cpu, own_peak), servers.collect())
    }
}
