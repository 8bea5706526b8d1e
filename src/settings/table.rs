//! The table of settings. Flags, variables, file keys, defaults, error texts and `docs/settings.md` all come from it.

use super::kind::{Choice, Kind};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The key in the file, `a.b`; it makes the variable `RATEKEEPER_A_B` and the flag `--a-b`.
    pub key: &'static str,
    /// A second, shorter key for the variable and the flag alone.
    pub short: Option<&'static str>,
    /// The place in [`super::Settings`], where it is not the key.
    pub field: Option<&'static str>,
    /// What it takes.
    pub kind: Kind,
    /// The default, written as in the environment; empty where there is none.
    pub default: &'static str,
    /// The reference server's variable, if it has one.
    pub reference: Option<&'static str>,
    /// Whether its value may hold a password, and is therefore never printed.
    pub secret: bool,
    /// One line of help.
    pub help: &'static str,
}

impl Setting {
    /// The place of its value in [`super::Settings`].
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field.unwrap_or(self.key)
    }

    /// The name of its flag, without the dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        flag_of(self.key)
    }

    /// The names of its variables; the first one that is set wins.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let own = [Some(self.key), self.short]
            .into_iter()
            .flatten()
            .map(variable_of);
        own.chain(self.reference.map(str::to_owned)).collect()
    }

    const fn reference(self, name: &'static str) -> Self {
        Self {
            reference: Some(name),
            ..self
        }
    }

    const fn short(self, key: &'static str) -> Self {
        Self {
            short: Some(key),
            ..self
        }
    }

    const fn field_is(self, field: &'static str) -> Self {
        Self {
            field: Some(field),
            ..self
        }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// The flag of a key, without the dashes.
#[must_use]
pub fn flag_of(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

/// The variable of a key.
#[must_use]
pub fn variable_of(key: &str) -> String {
    format!("RATEKEEPER_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Settings under one heading of the help and of the reference.
#[derive(Debug)]
pub struct Group {
    /// The heading.
    pub heading: &'static str,
    /// The settings, in the order in which a reader wants them.
    pub settings: &'static [Setting],
}

/// All settings, in the order of [`GROUPS`].
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

const fn set(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting {
        key,
        short: None,
        field: None,
        kind,
        default,
        reference: None,
        secret: false,
        help,
    }
}

/// Port 0 takes any free port.
const PORT: Kind = Kind::Integer(0, 65_535);
/// The longest duration of a setting: 100 years.
const CENTURY: u64 = 876_000 * HOUR;
const HOUR: u64 = 3_600_000_000_000;
const ALGORITHMS: &[Choice] = &[
    named("sliding_window"),
    named("fixed_window"),
    named("token_bucket"),
];
const CHARGES: &[Choice] = &[named("auto"), named("admitted"), named("always")];
const SOCKETS: &[Choice] = &[("", ""), named("tcp"), named("unix")];
const REDIS_TYPES: &[Choice] = &[
    named("single"),
    named("sentinel"),
    named("cluster"),
    ("", "single"),
];
const ON_STORE_ERROR: &[Choice] = &[named("local"), named("allow"), named("deny")];
const WHEN_FULL: &[Choice] = &[named("evict"), named("overflow")];
const LOG_FORMATS: &[Choice] = &[named("text"), named("json")];
/// The levels of logrus, which the reference server takes; `fatal` and `panic` have no counterpart here.
const LOG_LEVELS: &[Choice] = &[
    named("trace"),
    named("debug"),
    named("info"),
    named("warn"),
    ("warning", "warn"),
    named("error"),
    ("fatal", "error"),
    ("panic", "error"),
];

const fn named(name: &'static str) -> Choice {
    (name, name)
}

/// Every setting of the process.
#[rustfmt::skip]
pub static GROUPS: &[Group] = &[
    Group { heading: "gRPC", settings: &[
        set("grpc.host", Kind::Host, "0.0.0.0", "interface of the gRPC port").reference("GRPC_HOST"),
        set("grpc.port", PORT, "8081", "gRPC port; 0 takes any free one").reference("GRPC_PORT"),
        set("grpc.uds", Kind::Path, "", "unix socket to serve gRPC on, in place of host and port")
            .reference("GRPC_UDS"),
        set("grpc.max_connection_age", Kind::Duration(0, CENTURY), "24h",
            "age at which a connection is asked to end (GOAWAY), so that load spreads again; 0 is never")
            .reference("GRPC_MAX_CONNECTION_AGE"),
        set("grpc.max_connection_age_grace", Kind::Duration(0, CENTURY), "1h",
            "time after which such a connection is closed; 0 is never")
            .reference("GRPC_MAX_CONNECTION_AGE_GRACE"),
        set("grpc.max_connections", Kind::Integer(1, 1_000_000), "10_000", "connections open at a time"),
        set("grpc.max_message_bytes", Kind::Integer(1_024, 1_073_741_824), "4_194_304",
            "largest request, in bytes; a larger one is answered OUT_OF_RANGE"),
        set("grpc.tls.enabled", Kind::Bool, "false", "serve gRPC over TLS; needs a certificate and its key")
            .reference("GRPC_SERVER_USE_TLS"),
        set("grpc.tls.cert", Kind::Path, "", "PEM file with the server's certificate chain")
            .reference("GRPC_SERVER_TLS_CERT"),
        set("grpc.tls.key", Kind::Path, "", "PEM file with the private key").reference("GRPC_SERVER_TLS_KEY"),
        set("grpc.tls.client_ca", Kind::Path, "",
            "PEM file with the authorities of client certificates; when set, a client must show one")
            .reference("GRPC_CLIENT_TLS_CACERT"),
        set("grpc.tls.client_san", Kind::Text, "",
            "DNS name that a client certificate must have; needs grpc.tls.client_ca")
            .reference("GRPC_CLIENT_TLS_SAN"),
    ]},
    Group { heading: "HTTP", settings: &[
        set("http.host", Kind::Host, "0.0.0.0", "interface of the HTTP port").reference("HOST"),
        set("http.port", PORT, "8080", "HTTP port: /json, health, /metrics; 0 takes any free one")
            .reference("PORT"),
        set("debug.host", Kind::Host, "127.0.0.1",
            "interface of the debug port; the reference server has 0.0.0.0, open to all without a password")
            .reference("DEBUG_HOST"),
        set("debug.port", PORT, "6070", "debug port: /rlconfig, /metrics; 0 takes any free one")
            .reference("DEBUG_PORT"),
        set("prometheus.addr", Kind::Endpoint, "", "another address that serves the metrics; none unless set")
            .reference("PROMETHEUS_ADDR"),
        set("prometheus.path", Kind::UrlPath, "/metrics", "path of the metrics there").reference("PROMETHEUS_PATH"),
    ]},
    Group { heading: "Policies", settings: &[
        set("policies.path", Kind::Path, "",
            "directory of policy files, or one file; replaces the three runtime parts below").short("policies"),
        set("policies.runtime_root", Kind::Path, "/srv/runtime_data/current",
            "first part of the directory, as the reference server names it").reference("RUNTIME_ROOT"),
        set("policies.runtime_subdirectory", Kind::Path, "", "second part").reference("RUNTIME_SUBDIRECTORY"),
        set("policies.runtime_appdirectory", Kind::Path, "config", "third part").reference("RUNTIME_APPDIRECTORY"),
        set("policies.watch_root", Kind::Bool, "true",
            "accepted and not needed: changed files and a swapped link are both seen")
            .reference("RUNTIME_WATCH_ROOT"),
        set("policies.ignore_dot_files", Kind::Bool, "true",
            "accepted and not needed: names that start with a dot are never read")
            .reference("RUNTIME_IGNOREDOTFILES"),
        set("policies.merge_domain_config", Kind::Bool, "false", "several files may share a domain")
            .reference("MERGE_DOMAIN_CONFIG"),
        set("policies.poll_interval", Kind::Duration(100_000_000, 24 * HOUR), "30s",
            "how often the files are looked at even if the system reports no change"),
        set("policies.max_file_bytes", Kind::Integer(1, 1_073_741_824), "67_108_864", "largest file, in bytes"),
        set("policies.max_files", Kind::Integer(1, 1_000_000), "10_000", "files in the directory"),
        set("policies.max_nodes", Kind::Integer(1, 1_000_000_000), "20_000_000", "YAML nodes in a file"),
    ]},
    Group { heading: "Deciding", settings: &[
        set("default.algorithm", Kind::Choice(ALGORITHMS), "sliding_window",
            "algorithm of limits that name none; fixed_window counts as the reference server does"),
        set("default.charge", Kind::Choice(CHARGES), "auto",
            "charge of limits that name none; always records denied hits too, as the reference server does"),
        set("shadow_mode", Kind::Bool, "false", "deny nothing: every limit is a shadow limit")
            .reference("SHADOW_MODE"),
        set("quota_mode", Kind::Bool, "false", "every limit is a quota limit").reference("QUOTA_MODE"),
        set("near_limit_ratio", Kind::Ratio, "0.8", "share of a limit from which hits are counted as near it")
            .reference("NEAR_LIMIT_RATIO"),
        set("limits.max_descriptors", Kind::Integer(1, 100_000), "1_000", "descriptors in a request"),
        set("limits.max_entries", Kind::Integer(1, 10_000), "100", "entries in a descriptor"),
        set("limits.max_key_bytes", Kind::Integer(1, 65_536), "1_024", "longest key of an entry, in bytes"),
        set("limits.max_value_bytes", Kind::Integer(1, 4_194_304), "65_536", "longest value of an entry, in bytes"),
    ]},
    Group { heading: "Counters", settings: &[
        set("redis.url", Kind::Text, "",
            "host:port, a socket's path, redis://, rediss:// or unix://; a list of them for sentinels (the primary's name first) and clusters; unset, counters live in memory")
            .reference("REDIS_URL").secret(),
        set("redis.type", Kind::Choice(REDIS_TYPES), "single",
            "what redis.url lists: a server, the name of a primary and its sentinels, or nodes of a cluster")
            .field_is("redis.kind").reference("REDIS_TYPE"),
        set("redis.socket_type", Kind::Choice(SOCKETS), "",
            "tcp or unix, where redis.url does not say; unset, it is what the URL looks like")
            .reference("REDIS_SOCKET_TYPE"),
        set("redis.auth", Kind::Text, "", "password, or user:password").reference("REDIS_AUTH").secret(),
        set("redis.auth_file", Kind::Path, "",
            "file whose first line is such, in place of redis.auth; read again for each connection")
            .reference("REDIS_AUTH_FILE"),
        set("redis.sentinel_auth", Kind::Text, "", "password, or user:password, of the sentinels")
            .reference("REDIS_SENTINEL_AUTH").secret(),
        set("redis.tls.enabled", Kind::Bool, "false", "use TLS, also where redis.url is not rediss://")
            .reference("REDIS_TLS"),
        set("redis.tls.cacert", Kind::Path, "",
            "PEM file with the authorities of the server's certificate; unset, the system's")
            .reference("REDIS_TLS_CACERT"),
        set("redis.tls.client_cert", Kind::Path, "", "PEM file with the certificate to show to the server")
            .reference("REDIS_TLS_CLIENT_CERT"),
        set("redis.tls.client_key", Kind::Path, "", "PEM file with its private key")
            .reference("REDIS_TLS_CLIENT_KEY"),
        set("redis.tls.skip_hostname_verification", Kind::Bool, "false",
            "take a certificate that is for another host, if its authority is right")
            .reference("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION"),
        set("redis.pool_size", Kind::Integer(0, 1_024), "0",
            "connections that serving threads share out, each at least one; the JSON port has one more. 0 is one a thread")
            .reference("REDIS_POOL_SIZE"),
        set("redis.op_timeout", Kind::Duration(1_000_000, 60_000_000_000), "10ms",
            "longest wait of a request for Redis; a caller's deadline may shorten it")
            .reference("REDIS_OP_TIMEOUT"),
        set("redis.timeout", Kind::Duration(1_000_000, 60_000_000_000), "1s", "longest time to connect")
            .reference("REDIS_TIMEOUT"),
        set("redis.key_prefix", Kind::Text, "rk:", "what all keys begin with; no braces")
            .reference("CACHE_KEY_PREFIX"),
        set("redis.deny_cache", Kind::Bool, "true",
            "repeat a denial without Redis as long as it is certainly true, a second at most"),
        set("redis.leases", Kind::Bool, "true",
            "book hits on hot counters ahead, so that most decisions on them need no Redis"),
        set("redis.per_second.enabled", Kind::Bool, "false",
            "count limits of one second in a Redis of their own; needs redis.per_second.url and redis.url")
            .reference("REDIS_PERSECOND"),
        set("redis.per_second.url", Kind::Text, "", "where it is, as redis.url")
            .reference("REDIS_PERSECOND_URL").secret(),
        set("redis.per_second.type", Kind::Choice(REDIS_TYPES), "single", "as redis.type")
            .field_is("redis.per_second.kind").reference("REDIS_PERSECOND_TYPE"),
        set("redis.per_second.socket_type", Kind::Choice(SOCKETS), "", "as redis.socket_type")
            .reference("REDIS_PERSECOND_SOCKET_TYPE"),
        set("redis.per_second.auth", Kind::Text, "", "as redis.auth").reference("REDIS_PERSECOND_AUTH").secret(),
        set("redis.per_second.auth_file", Kind::Path, "", "as redis.auth_file"),
        set("redis.per_second.sentinel_auth", Kind::Text, "", "as redis.sentinel_auth")
            .reference("REDIS_PERSECOND_SENTINEL_AUTH").secret(),
        set("redis.per_second.tls", Kind::Bool, "false",
            "as redis.tls.enabled; the files are those of redis.tls").reference("REDIS_PERSECOND_TLS"),
        set("redis.per_second.pool_size", Kind::Integer(0, 1_024), "0", "as redis.pool_size")
            .reference("REDIS_PERSECOND_POOL_SIZE"),
        set("redis.per_second.op_timeout", Kind::Duration(1_000_000, 60_000_000_000), "10ms", "as redis.op_timeout")
            .reference("REDIS_PERSECOND_OP_TIMEOUT"),
        set("redis.per_second.timeout", Kind::Duration(1_000_000, 60_000_000_000), "1s", "as redis.timeout")
            .reference("REDIS_PERSECOND_TIMEOUT"),
        set("default.on_store_error", Kind::Choice(ON_STORE_ERROR), "local",
            "while Redis is away: local counts on this instance's share, allow and deny do not count"),
        set("instances", Kind::Integer(1, 100_000), "1",
            "instances that share the limits, until they have counted each other in Redis; each one's share while Redis is away is one of so many"),
        set("memory.max_keys", Kind::Integer(1, 1_000_000_000), "4_000_000", "counters in memory"),
        set("memory.when_full", Kind::Choice(WHEN_FULL), "evict",
            "beyond that: evict drops the least recently used, overflow shares one counter a rule"),
        set("local.max_keys", Kind::Integer(1, 1_000_000_000), "1_000_000", "counters of limits with scope: local"),
    ]},
    Group { heading: "Answers", settings: &[
        set("response.headers_enabled", Kind::Bool, "false", "add the three headers below to responses")
            .reference("LIMIT_RESPONSE_HEADERS_ENABLED"),
        set("response.limit_header", Kind::Header, "RateLimit-Limit", "header with the limit")
            .reference("LIMIT_LIMIT_HEADER"),
        set("response.remaining_header", Kind::Header, "RateLimit-Remaining", "header with what is left of it")
            .reference("LIMIT_REMAINING_HEADER"),
        set("response.reset_header", Kind::Header, "RateLimit-Reset", "header with the seconds until the reset")
            .reference("LIMIT_RESET_HEADER"),
        set("retry_after", Kind::Bool, "false", "add Retry-After to denied responses")
            .field_is("response.retry_after"),
        set("denied_body", Kind::Text, "", "body of denied responses").field_is("response.denied_body"),
        set("response.dynamic_metadata", Kind::Bool, "false", "say in dynamic metadata what was matched")
            .reference("RESPONSE_DYNAMIC_METADATA"),
    ]},
    Group { heading: "Process", settings: &[
        set("threads", Kind::Integer(0, 1_024), "0", "threads that serve gRPC; 0 is one a core"),
        set("health.healthy_with_at_least_one_config_loaded", Kind::Bool, "false",
            "unhealthy while no domain is loaded").reference("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED"),
        set("health.force_start_without_initial_config", Kind::Bool, "false",
            "ready before the policies were loaded once").reference("FORCE_START_WITHOUT_INITIAL_CONFIG"),
        set("shutdown.drain_delay", Kind::Duration(0, HOUR), "2s",
            "time of full service after SIGTERM, while health already says no"),
        set("shutdown.grace", Kind::Duration(0, HOUR), "5s", "longest wait after that for open connections"),
        set("log.level", Kind::Choice(LOG_LEVELS), "info",
            "least serious level to log; the reference server has warn, which hides the start")
            .reference("LOG_LEVEL"),
        set("log.format", Kind::Choice(LOG_FORMATS), "text", "form of a log line").reference("LOG_FORMAT"),
        set("metrics.max_series", Kind::Integer(1, 1_000_000), "10_000", "limits (pairs of domain and path) with metrics of their own, six time series each; further ones share one"),
        set("extra_tags", Kind::Map, "", "labels to add to all metrics").reference("EXTRA_TAGS"),
    ]},
];
