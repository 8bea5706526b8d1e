//! The registry of all metrics of a process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

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

/// The series that were asked for.
#[derive(Debug, Default)]
struct Limits {
    /// By domain, and by a limit's path in it.
    by_name: HashMap<Arc<str>, HashMap<Box<str>, Arc<LimitSeries>>>,
    /// All of them.
    count: usize,
}

/// All metrics of a process. There is no global registry: tests run several side by side.
pub struct Telemetry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    options: TelemetryOptions,
    limits: RwLock<Limits>,
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
        let mut builder = PrometheusBuilder::new();
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
        {
            let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = limits.by_name.get(domain).and_then(|of| of.get(limit)) {
                return Arc::clone(series);
            }
            if limits.count >= self.options.series_max {
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
        let Limits { by_name, count } = &mut *limits;
        let series = by_name.entry(Arc::clone(domain)).or_default().entry(limit.into());
        Arc::clone(series.or_insert_with(|| {
            *count += 1;
            made()
        }))
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
        self.other.show();
        {
            let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
            let all = limits.by_name.values().flat_map(HashMap::values);
            all.for_each(|series| series.show());
        }
        let mut page = self.handle.render();
        self.requests.render(&self.options.extra_labels, &mut page);
        page
    }

    /// Folds what histograms have collected; to be called every few seconds. `now_us` is the time in microseconds since the
    /// Unix epoch.
    pub fn upkeep(&self, now_us: u64) {
        self.requests.turn_over(now_us);
        self.handle.run_upkeep();
    }
}
