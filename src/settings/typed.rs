//! The settings as the rest of the program sees them: plain values, already checked.
//!
//! Every field has an entry in `table`, with its default and its bounds; a missing or a surplus one is an error.

mod redis;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer};

pub use self::redis::{Redis, RedisKind, RedisPerSecond, RedisTls, Secret};
use super::kind;

/// All settings of a process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The gRPC listener.
    pub grpc: Grpc,
    /// The HTTP listener: `/json`, health, `/metrics`.
    pub http: Endpoint,
    /// The debug listener. Whoever reaches it sees all policies, hence the loopback default.
    pub debug: Endpoint,
    /// The listener for metrics alone.
    pub prometheus: Prometheus,
    /// Where policies come from.
    pub policies: Policies,
    /// What limits get that do not say.
    #[serde(rename = "default")]
    pub default: Defaults,
    /// The shared store.
    pub redis: Redis,
    /// Instances that share the limits, at least 1.
    pub instances: u32,
    /// The memory store.
    pub memory: Memory,
    /// Counters of limits with `scope: local`.
    pub local: Local,
    /// Bounds of a request.
    pub limits: Limits,
    /// What answers carry beyond the decision.
    pub response: Response,
    /// Every limit is a shadow limit: nothing is denied.
    pub shadow_mode: bool,
    /// Every limit is a quota limit.
    pub quota_mode: bool,
    /// Share of a limit, 0 to 1, above which hits count as near it. 32 bits, as in the reference server's arithmetic.
    pub near_limit_ratio: f32,
    /// Threads that serve gRPC; 0 is one a core.
    pub threads: usize,
    /// What health depends on.
    pub health: Health,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// The log.
    pub log: Log,
    /// Bounds of the metrics.
    pub metrics: Metrics,
    /// Labels added to all metrics.
    #[serde(deserialize_with = "pairs")]
    pub extra_tags: BTreeMap<String, String>,
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// Interface, without brackets.
    pub host: String,
    /// Port; 0 takes any free one.
    pub port: u16,
    /// Unix socket, in place of host and port.
    pub uds: Option<PathBuf>,
    /// Age at which a connection gets GOAWAY; `None` is never.
    #[serde(deserialize_with = "time_or_never")]
    pub max_connection_age: Option<Duration>,
    /// Time from that GOAWAY until the connection is closed; `None` is never.
    #[serde(deserialize_with = "time_or_never")]
    pub max_connection_age_grace: Option<Duration>,
    /// Connections open at a time, at least 1.
    pub max_connections: usize,
    /// Largest request message, in bytes.
    pub max_message_bytes: usize,
    /// TLS on this listener.
    pub tls: Tls,
}

impl Grpc {
    /// Host and port together; where [`Grpc::uds`] is set they are not used.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

/// TLS of the gRPC listener. Where it is enabled, `cert` and `key` are set, and `client_ca` is if `client_san` is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Whether the listener speaks TLS.
    pub enabled: bool,
    /// PEM file with the server's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities of client certificates; a client must show one when this is set.
    pub client_ca: Option<PathBuf>,
    /// DNS name that a client certificate must have.
    pub client_san: Option<String>,
}

/// A host and a port to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name or address of an interface, without brackets.
    pub host: String,
    /// Port; 0 takes any free one.
    pub port: u16,
}

/// As in a URL: IPv6 addresses have brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    /// Reads `host:port`, `[::1]:port` and `:port`, which is all IPv4 interfaces.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("an address needs a port")?;
        let bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = kind::host(host).filter(|_| !bare_ipv6).ok_or("not a host")?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or("not a port")?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// The listener for metrics alone, as the reference server has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// Its address; `None` opens no listener.
    #[serde(deserialize_with = "endpoint_or_none")]
    pub addr: Option<Endpoint>,
    /// The path of the metrics, starting with a slash.
    pub path: String,
}

/// Where policies come from, and how much of them is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Directory or file that replaces the three runtime parts.
    pub path: Option<PathBuf>,
    /// First part of the reference server's directory.
    pub runtime_root: Option<PathBuf>,
    /// Second part.
    pub runtime_subdirectory: Option<PathBuf>,
    /// Third part.
    pub runtime_appdirectory: Option<PathBuf>,
    /// Accepted for the reference server's sake; both ways of changing files are watched.
    pub watch_root: bool,
    /// Accepted for the reference server's sake; dot files are never read.
    pub ignore_dot_files: bool,
    /// Whether several files may share a domain.
    pub merge_domain_config: bool,
    /// How often the files are looked at without a report from the system.
    #[serde(deserialize_with = "time")]
    pub poll_interval: Duration,
    /// Largest file, in bytes.
    pub max_file_bytes: u64,
    /// Most files in the directory.
    pub max_files: usize,
    /// Most YAML nodes in a file.
    pub max_nodes: usize,
}

impl Policies {
    /// The directory (or file) of policies: `path`, else the runtime parts put together. A later part stays below the
    /// earlier ones even if it starts with a slash, as in the reference server.
    #[must_use]
    pub fn policies_dir(&self) -> PathBuf {
        if let Some(path) = &self.path {
            return path.clone();
        }
        let mut directory = self.runtime_root.clone().unwrap_or_default();
        for part in [&self.runtime_subdirectory, &self.runtime_appdirectory]
            .into_iter()
            .flatten()
        {
            directory.push(part.strip_prefix("/").unwrap_or(Path::new(part)));
        }
        directory
    }
}

/// What limits and overrides get that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// How they count.
    pub algorithm: DefaultAlgorithm,
    /// What they charge.
    pub charge: DefaultCharge,
    /// What they do while the store is away.
    pub on_store_error: DefaultOnStoreError,
}

/// An algorithm that a limit can be given by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultAlgorithm {
    /// Never more than the limit in any window.
    SlidingWindow,
    /// Windows aligned to the epoch, as in the reference server.
    FixedWindow,
    /// A bucket that fills at a steady rate.
    TokenBucket,
}

/// Which hits are charged by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultCharge {
    /// Explicit hits of a descriptor are recorded, all others are charged only if they fit.
    Auto,
    /// All hits are charged only if they fit.
    Admitted,
    /// All hits are recorded, denied ones too, as in the reference server.
    Always,
}

/// What limits do by default while the store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultOnStoreError {
    /// They are counted on this instance's share.
    Local,
    /// They let everything pass.
    Allow,
    /// They deny everything.
    Deny,
}

/// The memory store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Most counters, at least 1.
    pub max_keys: usize,
    /// What happens beyond that.
    pub when_full: WhenFull,
}

/// What a full memory store does with a new counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The least recently used counter makes room.
    Evict,
    /// New counters of a rule share one.
    Overflow,
}

/// Counters of limits with `scope: local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Most counters, at least 1.
    pub max_keys: usize,
}

/// Bounds of a request; what is above one is an invalid argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Descriptors in a request.
    pub max_descriptors: usize,
    /// Entries in a descriptor.
    pub max_entries: usize,
    /// Bytes in the key of an entry.
    pub max_key_bytes: usize,
    /// Bytes in the value of an entry.
    pub max_value_bytes: usize,
}

/// What answers carry beyond the decision. Header names are valid and not reserved, in the user's spelling.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Whether the three headers are added.
    pub headers_enabled: bool,
    /// Header with the limit.
    pub limit_header: String,
    /// Header with what is left of it.
    pub remaining_header: String,
    /// Header with the seconds until the reset.
    pub reset_header: String,
    /// Whether denied responses carry `Retry-After`.
    pub retry_after: bool,
    /// Body of denied responses.
    pub denied_body: Option<String>,
    /// Whether dynamic metadata says what was matched.
    pub dynamic_metadata: bool,
}

/// What health depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Unhealthy while no domain is loaded.
    pub healthy_with_at_least_one_config_loaded: bool,
    /// Ready before the policies were loaded once.
    pub force_start_without_initial_config: bool,
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Full service after the signal, while health says no.
    #[serde(deserialize_with = "time")]
    pub drain_delay: Duration,
    /// Longest wait after that for open connections.
    #[serde(deserialize_with = "time")]
    pub grace: Duration,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Least serious level that is logged.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// A level of the log, most talkative first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// Start, end and reloads.
    Info,
    /// What needs a look.
    Warn,
    /// What failed. logrus' `fatal` and `panic` end here too.
    Error,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Most time series that rules may make.
    pub max_series: usize,
}

/// A duration from its canonical nanoseconds.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_nanos)
}

/// The same where zero stands for "never".
fn time_or_never<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Ok(Some(time(from)?).filter(|time| !time.is_zero()))
}

/// An address from its text.
fn endpoint_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Endpoint>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// A map from its canonical pairs; of two equal names the last one wins.
fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Vec::<(String, String)>::deserialize(from).map(|pairs| pairs.into_iter().collect())
}
