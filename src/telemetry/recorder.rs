//! The registry of all metrics of a process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::limit_series::{self, LimitSeries};
use super::request_series::{self, ProcessSeries, RequestSeries};
use super::store_series::{RedisObserved, RedisSeries};

/// Bounds and labels of the metrics.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// Pairs of domain and limit that get a series of their own; further ones share `other`.
    pub series_max: usize,
    /// The share of a limit above which hits count as near it.
    pub near_limit_ratio: f32,
    /// Labels on every metric.
    pub extra_labels: BTreeMap<String, String>,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            series_max: 10_000,
            near_limit_ratio: 0.8,
            extra_labels: BTreeMap::new(),
        }
    }
}

/// Names of limits can hold values of requests; longer ones share a series.
const NAME_BYTES_MAX: usize = 512;

/// A domain, and a limit's path in it.
type LimitName = (Arc<str>, Box<str>);

/// All metrics of a process. There is no global registry: tests run several side by side.
pub struct Telemetry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    options: TelemetryOptions,
    limits: RwLock<HashMap<LimitName, Arc<LimitSeries>>>,
    other: Arc<LimitSeries>,
    redis: OnceLock<RedisSeries>,
    /// Metrics of requests.
    pub requests: RequestSeries,
    /// Metrics of the process.
    pub process: ProcessSeries,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// An empty registry.
    #[must_use]
    pub fn new(options: TelemetryOptions) -> Self {
        let buckets = Matcher::Full(request_series::DURATION.to_owned());
        let bucketed =
            PrometheusBuilder::new().set_buckets_for_metric(buckets, &request_series::DURATION_BUCKETS_S);
        // The only error is an empty list of buckets; a summary does, too.
        let mut builder = bucketed.unwrap_or_default();
        for (key, value) in &options.extra_labels {
            builder = builder.add_global_label(key, value);
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let (other, requests, process) = metrics::with_local_recorder(&recorder, || {
            limit_series::describe();
            request_series::describe();
            let other = LimitSeries::new("other", "other", options.near_limit_ratio);
            (Arc::new(other), RequestSeries::new(), ProcessSeries::new())
        });
        Self {
            recorder,
            handle,
            options,
            limits: RwLock::default(),
            other,
            redis: OnceLock::new(),
            requests,
            process,
        }
    }

    /// The series of a limit: `limit` is its path in the policy's tree. Beyond the bound all share one series, `other`.
    #[must_use]
    pub fn limit(&self, domain: &Arc<str>, limit: &str) -> Arc<LimitSeries> {
        if limit.len() > NAME_BYTES_MAX {
            self.process.series_refused.increment(1);
            return Arc::clone(&self.other);
        }
        let key = (Arc::clone(domain), Box::from(limit));
        {
            let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = limits.get(&key) {
                return Arc::clone(series);
            }
            if limits.len() >= self.options.series_max {
                self.process.series_refused.increment(1);
                return Arc::clone(&self.other);
            }
        }
        let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            metrics::with_local_recorder(&self.recorder, || {
                Arc::new(LimitSeries::new(domain, limit, self.options.near_limit_ratio))
            })
        };
        Arc::clone(limits.entry(key).or_insert_with(made))
    }

    /// Shows what the shared store did since the start.
    pub fn redis(&self, observed: &RedisObserved) {
        metrics::with_local_recorder(&self.recorder, || {
            self.redis.get_or_init(RedisSeries::new).show(observed)
        });
    }

    /// The page that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.requests.show();
        self.handle.render()
    }

    /// Folds what histograms have collected; to be called every few seconds. `now_us` is the time in microseconds since the
    /// Unix epoch.
    pub fn upkeep(&self, now_us: u64) {
        self.requests.turn_over(now_us);
        self.handle.run_upkeep();
    }
}
