//! Where the shared counters live.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::time;

/// The shared store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where it is; `None` keeps counters in memory. Set where `kind` is not single.
    pub url: Option<Secret>,
    /// What `url` lists.
    pub kind: RedisKind,
    /// `tcp`, `unix`, or empty for what the URL looks like.
    pub socket_type: String,
    /// Password, or user and password with a colon between.
    pub auth: Option<Secret>,
    /// A file whose first line is such; it wins over `auth`.
    pub auth_file: Option<PathBuf>,
    /// The sentinels' password, or user and password.
    pub sentinel_auth: Option<Secret>,
    /// TLS to it.
    pub tls: RedisTls,
    /// Connections in all; 0 is one a thread.
    pub pool_size: usize,
    /// Longest wait of a request.
    #[serde(deserialize_with = "time")]
    pub op_timeout: Duration,
    /// Longest time to connect.
    #[serde(deserialize_with = "time")]
    pub timeout: Duration,
    /// What all keys begin with.
    pub key_prefix: Option<String>,
    /// Whether denials that are still true are repeated without it.
    pub deny_cache: bool,
    /// Whether hits on hot counters are booked ahead.
    pub leases: bool,
    /// Another Redis, for limits of one second; `None` leaves them with all others. `url` is set where this is.
    #[serde(deserialize_with = "if_enabled")]
    pub per_second: Option<RedisPerSecond>,
}

/// What the address of a Redis lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisKind {
    /// One server.
    Single,
    /// The name of a primary, then its sentinels.
    Sentinel,
    /// Nodes of a cluster.
    Cluster,
}

/// The Redis for limits of one second. Prefix and TLS files are those of [`Redis`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisPerSecond {
    /// Always true.
    enabled: bool,
    /// Where it is; always set.
    pub url: Option<Secret>,
    /// What `url` lists.
    pub kind: RedisKind,
    /// `tcp`, `unix`, or empty for what the URL looks like.
    pub socket_type: String,
    /// Password, or user and password with a colon between.
    pub auth: Option<Secret>,
    /// A file whose first line is such; it wins over `auth`.
    pub auth_file: Option<PathBuf>,
    /// The sentinels' password, or user and password.
    pub sentinel_auth: Option<Secret>,
    /// Whether to use TLS; a `rediss://` address asks for it, too.
    pub tls: bool,
    /// Connections in all; 0 is one a thread.
    pub pool_size: usize,
    /// Longest wait of a request.
    #[serde(deserialize_with = "time")]
    pub op_timeout: Duration,
    /// Longest time to connect.
    #[serde(deserialize_with = "time")]
    pub timeout: Duration,
}

/// TLS to the shared store. `client_cert` and `client_key` are set both or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisTls {
    /// Whether to use TLS; a `rediss://` address asks for it, too.
    pub enabled: bool,
    /// PEM file with the authorities of the server's certificate; `None`: the system's.
    pub cacert: Option<PathBuf>,
    /// PEM file with the certificate that is shown to the server.
    pub client_cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub client_key: Option<PathBuf>,
    /// Whether the certificate may be for another host.
    pub skip_hostname_verification: bool,
}

/// Text that may hold a password: it has to be asked for by name, and no `Debug` output shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, never to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// Nothing where it is not enabled.
fn if_enabled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<RedisPerSecond>, D::Error> {
    RedisPerSecond::deserialize(from).map(|redis| redis.enabled.then_some(redis))
}
