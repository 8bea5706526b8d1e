//! Counters of requests and of the process.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use super::durations::Durations;
use super::slowest::Slowest;
use super::striped::Striped;

const REQUESTS: &str = "ratekeeper_requests_total";
const DURATION_MAX: &str = "ratekeeper_request_duration_max_seconds";
const INVALID: &str = "ratekeeper_invalid_requests_total";
const UNAVAILABLE: &str = "ratekeeper_unavailable_requests_total";
const DOMAIN_NOT_FOUND: &str = "ratekeeper_domain_not_found_total";
const OVERRIDES_IGNORED: &str = "ratekeeper_overrides_ignored_total";
const GLOBAL_SHADOW: &str = "ratekeeper_global_shadow_mode_total";
const SERIES_REFUSED: &str = "ratekeeper_metric_series_refused_total";
const LOADS: &str = "ratekeeper_policy_loads_total";
const RULES: &str = "ratekeeper_policy_rules";
const DOMAINS: &str = "ratekeeper_policy_domains";
const DEGRADED: &str = "ratekeeper_policy_files_in_error";
const KEYS: &str = "ratekeeper_store_keys";
const EVICTED: &str = "ratekeeper_store_evicted_keys_total";
const OVERFLOWED: &str = "ratekeeper_store_overflowed_charges_total";
const CONNECTIONS: &str = "ratekeeper_connections";
const REFUSED: &str = "ratekeeper_connections_refused_total";
const BUILD: &str = "ratekeeper_build_info";

pub(super) fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests decided, by transport and overall code"
    );
    describe_gauge!(
        DURATION_MAX,
        Unit::Seconds,
        "The slowest request of this minute and the last"
    );
    describe_counter!(INVALID, Unit::Count, "Requests refused as invalid");
    describe_counter!(UNAVAILABLE, Unit::Count, "Requests whose policies are not there");
    describe_counter!(
        DOMAIN_NOT_FOUND,
        Unit::Count,
        "Requests for a domain that no policy names"
    );
    describe_counter!(
        OVERRIDES_IGNORED,
        Unit::Count,
        "Overrides with an unknown unit or too long a window"
    );
    describe_counter!(
        GLOBAL_SHADOW,
        Unit::Count,
        "Denials that the global shadow mode let through"
    );
    describe_counter!(
        SERIES_REFUSED,
        Unit::Count,
        "Look-ups that got the shared series because of the bound"
    );
    describe_counter!(LOADS, Unit::Count, "Loads of the policy files, by result");
    describe_gauge!(RULES, Unit::Count, "Rules in force");
    describe_gauge!(DOMAINS, Unit::Count, "Domains in force");
    describe_gauge!(
        DEGRADED,
        Unit::Count,
        "Policy files in error, whose domains keep their last good version"
    );
    describe_gauge!(KEYS, Unit::Count, "Counters held");
    describe_counter!(EVICTED, Unit::Count, "Counters forgotten before they had run out");
    describe_counter!(
        OVERFLOWED,
        Unit::Count,
        "Charges to a rule's shared counter because the store was full"
    );
    describe_gauge!(CONNECTIONS, Unit::Count, "Open gRPC connections");
    describe_counter!(REFUSED, Unit::Count, "Connections refused, by reason");
    describe_gauge!(BUILD, Unit::Count, "Always 1; the version is its label");
}

/// Which door a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// `POST /json`.
    Json,
}

/// Metrics of requests.
#[derive(Debug)]
pub struct RequestSeries {
    decided: Striped<4>,
    decided_shown: [[Counter; 2]; 2],
    invalid: [Counter; 2],
    unavailable: [Counter; 2],
    durations: Durations,
    slowest: Slowest,
    slowest_shown: Gauge,
    /// Requests for a domain that no policy names.
    pub domain_not_found: Counter,
    /// Overrides that were ignored.
    pub overrides_ignored: Counter,
    /// Denials that the global shadow mode let through.
    pub global_shadow: Counter,
}

impl RequestSeries {
    pub(super) fn new() -> Self {
        let names = ["grpc", "json"];
        Self {
            decided: Striped::default(),
            decided_shown: names.map(|transport| {
                ["ok", "over_limit"].map(|code| counter!(REQUESTS, "transport" => transport, "code" => code))
            }),
            invalid: names.map(|transport| counter!(INVALID, "transport" => transport)),
            unavailable: names.map(|transport| counter!(UNAVAILABLE, "transport" => transport)),
            durations: Durations::default(),
            slowest: Slowest::default(),
            slowest_shown: gauge!(DURATION_MAX),
            domain_not_found: counter!(DOMAIN_NOT_FOUND),
            overrides_ignored: counter!(OVERRIDES_IGNORED),
            global_shadow: counter!(GLOBAL_SHADOW),
        }
    }

    /// Counts a decision.
    pub fn decided(&self, transport: Transport, denied: bool) {
        self.decided
            .add([(2 * transport as usize + usize::from(denied), 1)]);
    }

    /// Counts how long a decision took, from the decoded request to its answer, in microseconds.
    pub fn took(&self, took_us: u64) {
        self.durations.record(took_us);
        self.slowest.note(took_us);
    }

    /// Begins a new minute of the slowest request, if it is time to.
    pub(super) fn turn_over(&self, now_us: u64) {
        self.slowest.turn_over(now_us);
    }

    /// Brings up to date what the registry holds.
    pub(super) fn show(&self) {
        let shown = self.decided_shown.iter().flatten();
        for (counter, count) in shown.zip(self.decided.sums()) {
            counter.absolute(count);
        }
        let longest = Duration::from_micros(self.slowest.longest_us());
        self.slowest_shown.set(longest.as_secs_f64());
    }

    /// Appends what the registry does not hold to the metrics page.
    pub(super) fn render(&self, labels: &BTreeMap<String, String>, page: &mut String) {
        self.durations.render(labels, page);
    }

    /// Counts a request whose policies are not there.
    pub fn unavailable(&self, transport: Transport) {
        self.unavailable[transport as usize].increment(1);
    }

    /// Counts a request that was refused as invalid.
    pub fn invalid(&self, transport: Transport) {
        self.invalid[transport as usize].increment(1);
    }
}

/// Metrics of the process.
#[derive(Debug)]
pub struct ProcessSeries {
    /// Look-ups that got the shared series.
    pub series_refused: Counter,
    loads: [Counter; 2],
    rules: Gauge,
    domains: Gauge,
    degraded: Gauge,
    stores: [(Gauge, Counter, Counter); 2],
    connections: Gauge,
    /// Connections over the bound.
    pub refused_full: Counter,
    /// Connections whose TLS handshake failed.
    pub refused_tls: Counter,
}

impl ProcessSeries {
    pub(super) fn new() -> Self {
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Self {
            series_refused: counter!(SERIES_REFUSED),
            loads: ["error", "ok"].map(|result| counter!(LOADS, "result" => result)),
            rules: gauge!(RULES),
            domains: gauge!(DOMAINS),
            degraded: gauge!(DEGRADED),
            stores: ["memory", "local"].map(|store| {
                (
                    gauge!(KEYS, "store" => store),
                    counter!(EVICTED, "store" => store),
                    counter!(OVERFLOWED, "store" => store),
                )
            }),
            connections: gauge!(CONNECTIONS),
            refused_full: counter!(REFUSED, "reason" => "too_many"),
            refused_tls: counter!(REFUSED, "reason" => "tls"),
        }
    }

    /// Counts a load of the policies.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn loaded(&self, ok: bool, domains: usize, rules: usize, files_in_error: usize) {
        self.loads[usize::from(ok)].increment(1);
        self.domains.set(domains as f64);
        self.rules.set(rules as f64);
        self.degraded.set(files_in_error as f64);
    }

    /// Shows how many gRPC connections are open.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn connections(&self, open: usize) {
        self.connections.set(open as f64);
    }

    /// Shows the state of a store.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub fn store(&self, local: bool, keys: usize, evicted: u64, overflowed: u64) {
        let (held, evictions, overflows) = &self.stores[usize::from(local)];
        held.set(keys as f64);
        evictions.absolute(evicted);
        overflows.absolute(overflowed);
    }
}
