//! What the service says of itself while a run is under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::http;
use crate::support::service::Service;

const PAUSE: Duration = Duration::from_millis(40);
/// For how long the store must decide nearly all requests to count as in use.
const STEADY: Duration = Duration::from_millis(250);

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct Page(String);

impl Page {
    /// Reads it; none if nobody answers.
    pub fn read(address: SocketAddr) -> Option<Self> {
        let response = http::get(address, "/metrics", &[]).ok()?;
        Some(Self(response.body))
    }

    /// The sum of all series that begin so, labels included: `name{label="…`.
    pub fn sum(&self, prefix: &str) -> f64 {
        let values = self.0.lines().filter(|line| line.starts_with(prefix));
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    fn sample(&self, at: Instant, starved: Duration) -> Sample {
        Sample {
            at,
            starved,
            decided: self.sum("ratekeeper_requests_total{"),
            without: self.sum("ratekeeper_decisions_without_store_total{"),
        }
    }

    /// Reasons of decisions without the store, the most frequent first: `timeout 40, breaker_open 9`.
    pub fn reasons(&self) -> String {
        let parse = |line: &str| {
            let rest = line.strip_prefix("ratekeeper_decisions_without_store_total{reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            Some((count.parse::<u64>().ok()?, reason.to_owned()))
        };
        let mut found: Vec<(u64, String)> = self.0.lines().filter_map(parse).collect();
        found.retain(|(count, _)| *count > 0);
        found.sort_unstable_by(|one, other| other.cmp(one));
        let shown: Vec<String> = found
            .into_iter()
            .map(|(count, reason)| format!("{reason} {count}"))
            .collect();
        shown.join(", ")
    }
}

/// Counts at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    pub decided: f64,
    pub without: f64,
    /// For how long the service has waited for a core.
    pub starved: Duration,
}

/// Reads the metrics 25 times a second until told to stop.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

impl Sampler {
    pub fn start(service: &Arc<Service>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, service) = (Arc::clone(&stop), Arc::clone(service));
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Some(page) = Page::read(service.http_address()) {
                    // The moment after: a return is never seen earlier than it was.
                    samples.push(page.sample(Instant::now(), service.waited_for_a_core()));
                }
                std::thread::sleep(PAUSE);
            }
            samples
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// All samples, in order.
    pub fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is waited for once");
        thread.join().expect("the sampler panicked")
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The first moment from `since` on after which the store decided at least 99 % of the requests for a quarter of a second.
pub fn in_use(samples: &[Sample], since: Instant) -> Option<Instant> {
    let later = samples
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.at >= since);
    let steady = |(index, first): &(usize, &Sample)| {
        let last = samples[*index..]
            .iter()
            .find(|sample| sample.at >= first.at + STEADY)?;
        let decided = last.decided - first.decided;
        Some(decided > 0.0 && last.without - first.without <= 0.01 * decided)
    };
    later
        .filter(|each| steady(each) == Some(true))
        .map(|(_, sample)| sample.at)
        .next()
}

/// For how long decisions were made without the store, in steps of the samples.
pub fn without_store(samples: &[Sample]) -> Duration {
    let pairs = samples
        .windows(2)
        .filter(|pair| pair[1].without > pair[0].without);
    pairs.map(|pair| pair[1].at - pair[0].at).sum()
}

/// The longest that the service's threads waited for a core, all together, between two samples.
pub fn starved(samples: &[Sample]) -> Duration {
    let pairs = samples.windows(2);
    let waits = pairs.map(|pair| pair[1].starved.saturating_sub(pair[0].starved));
    waits.max().unwrap_or_default()
}

#[test]
fn in_use_is_when_nearly_all_is_decided_by_the_store() {
    let start = Instant::now();
    // Ten requests in each 50 ms: without the store until 500 ms, then by it, but for one at 1,000.
    let sample = |step: u32| Sample {
        at: start + step * Duration::from_millis(50),
        decided: f64::from(1_000 * step),
        without: f64::from(1_000 * step.min(10) + u32::from(step >= 20)),
        starved: Duration::from_millis(if step > 7 { 90 } else { 40 }),
    };
    let samples: Vec<Sample> = (0..30).map(sample).collect();
    let after = |from: u64| {
        let since = start + Duration::from_millis(from);
        in_use(&samples, since).map(|at| (at - start).as_millis())
    };
    assert_eq!(
        (after(0), after(510), after(900)),
        (Some(500), Some(550), Some(900))
    );
    assert_eq!(after(1_300), None, "too late to tell");
    assert_eq!(without_store(&samples), Duration::from_millis(550));
    assert_eq!(starved(&samples), Duration::from_millis(50));
}
