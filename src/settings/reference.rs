//! Variables of the reference server that are no settings here, so that none of its environments is misread in
//! silence, and variables that only look like settings.

use std::collections::BTreeMap;

use super::{
    error::{Origin, Problem},
    go, table,
};

/// A variable whose other values would change what is decided or where policies come from. Going on without them
/// would be worse than not starting.
#[derive(Debug)]
pub struct Pinned {
    /// The variable.
    pub name: &'static str,
    /// The values that mean what happens anyway.
    pub accepted: &'static [&'static str],
    /// Known values that are refused, each with the reason.
    pub refused: &'static [(&'static str, &'static str)],
}

/// The variables that are read only to refuse some of their values.
pub static PINNED: &[Pinned] = &[
    Pinned {
        name: "CONFIG_TYPE",
        accepted: &["FILE"],
        refused: &[(
            "GRPC_XDS_SOTW",
            "GRPC_XDS_SOTW is not supported yet: policies come from files, by CONFIG_TYPE=FILE",
        )],
    },
    Pinned {
        name: "BACKEND_TYPE",
        accepted: &["redis", ""],
        refused: &[(
            "memcache",
            "memcache is not supported: unset BACKEND_TYPE, and counters live in memory while REDIS_URL is unset",
        )],
    },
];

/// Variables that may be set to anything without a word, because what they ask for happens anyway.
pub static NOT_NEEDED: &[(&str, &str)] = &[
    ("USE_PROMETHEUS", "metrics are always served, on the HTTP port"),
    (
        "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
        "a connection whose server turns out to be a replica is always closed, and made anew",
    ),
    (
        "REDIS_CLUSTER_PIPELINE_PARALLELISM",
        "what goes to several slots is always sent at once",
    ),
    (
        "REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM",
        "what goes to several slots is always sent at once",
    ),
];

/// Variables without an effect in this version, in the order of the reference server, each with the value that asks
/// for nothing (truth values are compared by meaning). `*` at the end of a name stands for any text.
#[rustfmt::skip]
pub static UNSUPPORTED: &[(&str, Option<&str>)] = &[
    ("GRPC_SERVER_TLS_CA_CERT", None),
    ("GRPC_MAX_CONCURRENT_STREAMS", Some("0")),
    ("CONFIG_GRPC_XDS_NODE_ID", None),
    ("CONFIG_GRPC_XDS_NODE_METADATA", None),
    ("CONFIG_GRPC_XDS_SERVER_URL", None),
    ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", None),
    ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", None),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", Some("false")),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", None),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", None),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", None),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", None),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", None),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", None),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", None),
    ("XDS_CLIENT_BACKOFF_JITTER", None),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", None),
    ("USE_DOG_STATSD", Some("false")),
    ("USE_DOG_STATSD_MOGRIFIERS", Some("")),
    ("DOG_STATSD_MOGRIFIER_*", None),
    ("USE_STATSD", Some("false")),
    ("STATSD_HOST", None),
    ("STATSD_PORT", None),
    ("STATSD_PROTOCOL", None),
    ("STATS_FLUSH_INTERVAL", None),
    ("DISABLE_STATS", Some("false")),
    ("PROMETHEUS_MAPPER_YAML", None),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", Some("false")),
    ("EXPIRATION_JITTER_MAX_SECONDS", None),
    ("LOCAL_CACHE_SIZE_IN_BYTES", Some("0")),
    ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", Some("false")),
    ("LIMIT_ALL_DESCRIPTORS_HEADERS_ENABLED", Some("false")),
    ("DESCRIPTOR_KEY_CONFIG", None),
    ("REDIS_AWS_IAM_AUTH", Some("false")),
    ("REDIS_PIPELINE_WINDOW", None),
    ("REDIS_PIPELINE_LIMIT", None),
    ("REDIS_PERSECOND_PIPELINE_WINDOW", None),
    ("REDIS_PERSECOND_PIPELINE_LIMIT", None),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Some("false")),
    ("REDIS_POOL_ON_EMPTY_BEHAVIOR", None),
    ("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", None),
    ("REDIS_STARTUP_INITIAL_INTERVAL", None),
    ("REDIS_STARTUP_MAX_INTERVAL", None),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", None),
    ("MEMCACHE_HOST_PORT", Some("")),
    ("MEMCACHE_MAX_IDLE_CONNS", None),
    ("MEMCACHE_SRV", Some("")),
    ("MEMCACHE_SRV_REFRESH", None),
    ("MEMCACHE_TLS", Some("false")),
    ("MEMCACHE_TLS_CLIENT_CERT", None),
    ("MEMCACHE_TLS_CLIENT_KEY", None),
    ("MEMCACHE_TLS_CACERT", None),
    ("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", Some("false")),
    ("TRACING_ENABLED", Some("false")),
    ("TRACING_SERVICE_NAME", None),
    ("TRACING_SERVICE_NAMESPACE", None),
    ("TRACING_SERVICE_INSTANCE_ID", None),
    ("TRACING_EXPORTER_PROTOCOL", None),
    ("TRACING_SAMPLING_RATE", None),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", None),
];

/// The pinned variables that are set to something else than what happens anyway.
pub(super) fn refused(env: &BTreeMap<String, String>) -> Vec<Problem> {
    let problem = |pinned: &'static Pinned| {
        let value = env
            .get(pinned.name)
            .filter(|value| !pinned.accepted.contains(&value.as_str()))?;
        let origin = Origin::Variable(pinned.name.to_owned());
        let known = pinned.refused.iter().find(|(name, _)| name == value);
        Some(match known {
            Some((_, reason)) => Problem::Refused {
                origin,
                reason: (*reason).to_owned(),
            },
            None => Problem::Value {
                origin,
                want: pinned.accepted[0].to_owned(),
                got: super::error::quoted(value),
            },
        })
    };
    PINNED.iter().filter_map(problem).collect()
}

/// The variables that are set and ask for something that does not happen in this version, by name alone.
pub(super) fn unsupported(env: &BTreeMap<String, String>) -> Vec<String> {
    let ignored = |name: &str, value: &str| {
        UNSUPPORTED
            .iter()
            .any(|(pattern, off)| matches(pattern, name) && !off.is_some_and(|off| same(off, value)))
    };
    env.iter()
        .filter(|(name, value)| ignored(name, value))
        .map(|(name, _)| name.clone())
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether two values mean the same; `0` and `false` do, as in Go.
fn same(off: &str, value: &str) -> bool {
    off == value || (off == "false" && go::parse_bool(value) == Some(false))
}

/// The variables that start like this program's own and belong to no setting: most likely a slip.
pub(super) fn unknown(env: &BTreeMap<String, String>) -> Vec<String> {
    let known: Vec<_> = table::all().flat_map(table::Setting::variables).collect();
    let config = table::variable_of(super::CONFIG_FILE);
    let own = env.keys().filter(|name| name.starts_with("RATEKEEPER_"));
    own.filter(|name| **name != config && !known.contains(name))
        .cloned()
        .collect()
}

/// The environment without the variables that Kubernetes sets for every service of a namespace. A service called
/// `grpc` gives `GRPC_PORT=tcp://10.0.0.7:8081`, one called `ratekeeper` nine that would all be reported as unknown.
pub(super) fn without_service_links(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let services: Vec<String> = env
        .keys()
        .filter_map(|name| name.strip_suffix("_SERVICE_HOST"))
        .map(str::to_owned)
        .collect();
    env.retain(|name, value| {
        !services
            .iter()
            .filter_map(|service| name.strip_prefix(service.as_str()))
            .any(|rest| {
                matches!(rest, "_SERVICE_HOST" | "_SERVICE_PORT")
                    || rest.starts_with("_SERVICE_PORT_")
                    || (rest == "_PORT" && value.contains("://"))
                    || rest
                        .strip_prefix("_PORT_")
                        .is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
            })
    });
    env
}
