//! The reference server's environment, and others that the process may be given.

use std::{collections::BTreeSet, path::Path};

use ratekeeper::settings::{RedisKind, Secret, reference, table};

use super::{error_of, file_error, load, settings_of};

/// Every variable of the reference server's settings.
const REFERENCE: &str = "
    HOST PORT DEBUG_HOST DEBUG_PORT GRPC_UDS GRPC_HOST GRPC_PORT GRPC_MAX_CONNECTION_AGE
    GRPC_MAX_CONNECTION_AGE_GRACE GRPC_SERVER_USE_TLS GRPC_SERVER_TLS_CERT GRPC_SERVER_TLS_KEY
    GRPC_CLIENT_TLS_CACERT GRPC_CLIENT_TLS_SAN LOG_LEVEL LOG_FORMAT CONFIG_TYPE
    FORCE_START_WITHOUT_INITIAL_CONFIG CONFIG_GRPC_XDS_NODE_ID CONFIG_GRPC_XDS_NODE_METADATA
    CONFIG_GRPC_XDS_SERVER_URL CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL
    CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS CONFIG_GRPC_XDS_SERVER_USE_TLS
    CONFIG_GRPC_XDS_CLIENT_TLS_CERT CONFIG_GRPC_XDS_CLIENT_TLS_KEY CONFIG_GRPC_XDS_SERVER_TLS_CACERT
    CONFIG_GRPC_XDS_SERVER_TLS_SAN XDS_CLIENT_BACKOFF_INITIAL_INTERVAL XDS_CLIENT_BACKOFF_MAX_INTERVAL
    XDS_CLIENT_BACKOFF_RANDOM_FACTOR XDS_CLIENT_BACKOFF_JITTER XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES
    USE_DOG_STATSD USE_DOG_STATSD_MOGRIFIERS USE_STATSD STATSD_HOST STATSD_PORT EXTRA_TAGS
    STATS_FLUSH_INTERVAL DISABLE_STATS USE_PROMETHEUS PROMETHEUS_ADDR PROMETHEUS_PATH
    PROMETHEUS_MAPPER_YAML PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS RUNTIME_ROOT RUNTIME_SUBDIRECTORY
    RUNTIME_APPDIRECTORY RUNTIME_IGNOREDOTFILES RUNTIME_WATCH_ROOT EXPIRATION_JITTER_MAX_SECONDS
    LOCAL_CACHE_SIZE_IN_BYTES NEAR_LIMIT_RATIO CACHE_KEY_PREFIX BACKEND_TYPE
    STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT LIMIT_RESPONSE_HEADERS_ENABLED LIMIT_LIMIT_HEADER
    LIMIT_REMAINING_HEADER LIMIT_RESET_HEADER HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED REDIS_SOCKET_TYPE
    REDIS_TYPE REDIS_URL REDIS_POOL_SIZE REDIS_AUTH REDIS_TLS REDIS_TLS_CLIENT_CERT REDIS_TLS_CLIENT_KEY
    REDIS_TLS_CACERT REDIS_TLS_SKIP_HOSTNAME_VERIFICATION REDIS_PIPELINE_WINDOW REDIS_PIPELINE_LIMIT
    REDIS_CLUSTER_PIPELINE_PARALLELISM REDIS_PERSECOND REDIS_PERSECOND_SOCKET_TYPE REDIS_PERSECOND_TYPE
    REDIS_PERSECOND_URL REDIS_PERSECOND_POOL_SIZE REDIS_PERSECOND_AUTH REDIS_PERSECOND_TLS
    REDIS_SENTINEL_AUTH REDIS_PERSECOND_SENTINEL_AUTH REDIS_PERSECOND_PIPELINE_WINDOW
    REDIS_PERSECOND_PIPELINE_LIMIT REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM
    REDIS_HEALTH_CHECK_ACTIVE_CONNECTION REDIS_TIMEOUT REDIS_PERSECOND_TIMEOUT
    REDIS_POOL_ON_EMPTY_BEHAVIOR REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR REDIS_STARTUP_INITIAL_INTERVAL
    REDIS_STARTUP_MAX_INTERVAL REDIS_STARTUP_MAX_ELAPSED_TIME MEMCACHE_HOST_PORT MEMCACHE_MAX_IDLE_CONNS
    MEMCACHE_SRV MEMCACHE_SRV_REFRESH MEMCACHE_TLS MEMCACHE_TLS_CLIENT_CERT MEMCACHE_TLS_CLIENT_KEY
    MEMCACHE_TLS_CACERT MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION SHADOW_MODE QUOTA_MODE
    RESPONSE_DYNAMIC_METADATA MERGE_DOMAIN_CONFIG TRACING_ENABLED TRACING_SERVICE_NAME
    TRACING_SERVICE_NAMESPACE TRACING_SERVICE_INSTANCE_ID TRACING_EXPORTER_PROTOCOL
    TRACING_SAMPLING_RATE
";

/// What Envoy Gateway sets for the rate limit service that it deploys.
const ENVOY_GATEWAY: &str = "
    RUNTIME_ROOT RUNTIME_SUBDIRECTORY RUNTIME_IGNOREDOTFILES RUNTIME_WATCH_ROOT LOG_LEVEL USE_STATSD CONFIG_TYPE
    CONFIG_GRPC_XDS_SERVER_URL CONFIG_GRPC_XDS_NODE_ID GRPC_SERVER_USE_TLS GRPC_SERVER_TLS_CERT GRPC_SERVER_TLS_KEY
    GRPC_SERVER_TLS_CA_CERT CONFIG_GRPC_XDS_SERVER_USE_TLS CONFIG_GRPC_XDS_CLIENT_TLS_CERT
    CONFIG_GRPC_XDS_CLIENT_TLS_KEY CONFIG_GRPC_XDS_SERVER_TLS_CACERT FORCE_START_WITHOUT_INITIAL_CONFIG
    REDIS_SOCKET_TYPE REDIS_URL REDIS_TLS REDIS_TLS_CLIENT_CERT REDIS_TLS_CLIENT_KEY USE_PROMETHEUS PROMETHEUS_ADDR
    PROMETHEUS_MAPPER_YAML TRACING_ENABLED TRACING_SERVICE_NAME TRACING_SERVICE_NAMESPACE
    TRACING_SERVICE_INSTANCE_ID TRACING_SAMPLING_RATE OTEL_EXPORTER_OTLP_ENDPOINT
";

#[test]
fn the_address_of_redis_is_taken_and_its_password_never_shown() {
    let secret = "hunter2";
    let url = format!("REDIS_URL=redis://:{secret}@db:6379");
    let settings = settings_of(
        &[],
        &[
            &url,
            "REDIS_AUTH=app:hunter2",
            "REDIS_SOCKET_TYPE=tcp",
            "REDIS_POOL_SIZE=4",
        ],
    );
    assert!(settings.redis.url.is_some() && settings.redis.auth.is_some());
    assert_eq!(
        (settings.redis.socket_type.as_str(), settings.redis.pool_size),
        ("tcp", 4)
    );
    assert!(!format!("{settings:?}").contains(secret));
    assert_eq!(settings_of(&["--redis-url="], &[&url]).redis.url, None);
    assert_eq!(settings_of(&[], &["REDIS_URL="]).redis.url, None);
    let prefix = error_of(&[], &["CACHE_KEY_PREFIX=a{b}"]);
    assert!(prefix.contains("slot tag"), "{prefix}");
    for text in [
        format!("redis.url = ['{secret}']"),
        format!("redis.url = 'redis://{secret}"),
        format!("redis = 'redis://{secret}'"),
        format!("redis.url.{{{secret} = 1"),
    ] {
        let error = file_error(&text);
        assert!(!error.contains(secret), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{text:?}: {error}");
    }
    let error = file_error("redis.url = 8675309");
    assert_eq!(
        error,
        "file rk.toml: redis.url: want text, got a value that is not shown"
    );
    let debug = format!("{:?}", load(&[], &[&url]));
    assert!(!debug.contains(secret), "{debug}");
}

#[test]
fn the_kind_of_redis_is_read_in_any_case() {
    let kind = |value: &str| {
        let redis = settings_of(&[], &["REDIS_URL=a,b:1", &format!("REDIS_TYPE={value}")]).redis;
        redis.kind
    };
    for (value, expected) in [
        ("SINGLE", RedisKind::Single),
        ("", RedisKind::Single),
        ("Sentinel", RedisKind::Sentinel),
        ("cluster", RedisKind::Cluster),
    ] {
        assert_eq!(kind(value), expected, "{value}");
    }
    assert_eq!(
        error_of(&[], &["REDIS_TYPE=RING"]),
        "variable REDIS_TYPE: want one of single, sentinel, cluster, got \"RING\""
    );
    assert_eq!(
        error_of(&[], &["REDIS_TYPE=SENTINEL"]),
        "variable REDIS_TYPE: sentinels and clusters need addresses in redis.url"
    );
}

#[test]
fn a_redis_for_limits_of_one_second_has_settings_of_its_own() {
    let env = [
        "REDIS_URL=db:6379",
        "REDIS_PERSECOND=true",
        "REDIS_PERSECOND_URL=p,s:26379",
        "REDIS_PERSECOND_TYPE=SENTINEL",
        "REDIS_PERSECOND_SOCKET_TYPE=tcp",
        "REDIS_PERSECOND_POOL_SIZE=3",
        "REDIS_PERSECOND_AUTH=app:hunter2",
        "REDIS_PERSECOND_TLS=1",
        "REDIS_SENTINEL_AUTH=hunter3",
        "REDIS_PERSECOND_SENTINEL_AUTH=hunter4",
        "REDIS_PERSECOND_TIMEOUT=2s",
        "REDIS_PERSECOND_OP_TIMEOUT=20ms",
        "RATEKEEPER_REDIS_PER_SECOND_AUTH_FILE=/run/secrets/second",
    ];
    let loaded = load(&[], &env).expect("settings");
    assert!(
        loaded.unsupported.is_empty() && loaded.unknown.is_empty(),
        "{loaded:?}"
    );
    assert!(!format!("{loaded:?}").contains("hunter"), "{loaded:?}");
    let redis = loaded.settings.redis;
    let text = |secret: &Option<Secret>| secret.as_ref().map(|it| it.expose().to_owned());
    assert_eq!(text(&redis.sentinel_auth).as_deref(), Some("hunter3"));
    let second = redis.per_second.expect("a second Redis");
    assert_eq!(text(&second.url).as_deref(), Some("p,s:26379"));
    assert_eq!(text(&second.auth).as_deref(), Some("app:hunter2"));
    assert_eq!(text(&second.sentinel_auth).as_deref(), Some("hunter4"));
    assert_eq!(second.kind, RedisKind::Sentinel);
    assert_eq!((second.socket_type.as_str(), second.pool_size), ("tcp", 3));
    assert!(second.tls && !redis.tls.enabled);
    assert_eq!((second.timeout.as_secs(), second.op_timeout.as_millis()), (2, 20));
    assert_eq!(
        second.auth_file.as_deref(),
        Some(Path::new("/run/secrets/second"))
    );
    // As in the reference server, the others ask for nothing by themselves.
    assert_eq!(
        settings_of(&[], &["REDIS_PERSECOND_URL=db:1"]).redis.per_second,
        None
    );
}

#[test]
fn a_second_redis_needs_an_address_and_a_first_one() {
    assert_eq!(
        error_of(&[], &["REDIS_PERSECOND=true", "REDIS_URL=db:6379"]),
        "variable REDIS_PERSECOND: a Redis for limits of one second needs an address in redis.per_second.url"
    );
    assert_eq!(
        error_of(&[], &["REDIS_PERSECOND=true", "REDIS_PERSECOND_URL=hunter2:1"]),
        "variable REDIS_PERSECOND: a Redis for limits of one second needs one for all other limits in redis.url"
    );
}

#[test]
fn tls_needs_what_it_promises() {
    let on = "GRPC_SERVER_USE_TLS=true";
    let files = ["GRPC_SERVER_TLS_CERT=c.pem", "GRPC_SERVER_TLS_KEY=k.pem"];
    let expected = "variable GRPC_SERVER_USE_TLS: TLS needs a certificate in grpc.tls.cert\n\
                    variable GRPC_SERVER_USE_TLS: TLS needs a private key in grpc.tls.key";
    assert_eq!(error_of(&[], &[on]), expected);
    let san = "GRPC_CLIENT_TLS_SAN=envoy";
    let expected = "variable GRPC_CLIENT_TLS_SAN: a name for client certificates needs their authority in \
                    grpc.tls.client_ca";
    assert_eq!(error_of(&[], &[on, files[0], files[1], san]), expected);
    let tls = settings_of(
        &[],
        &[on, files[0], files[1], san, "GRPC_CLIENT_TLS_CACERT=ca.pem"],
    )
    .grpc
    .tls;
    assert!(tls.enabled && tls.cert.is_some() && tls.key.is_some());
    assert_eq!(
        (tls.client_ca.as_deref(), tls.client_san.as_deref()),
        (Some(Path::new("ca.pem")), Some("envoy"))
    );
}

#[test]
fn tls_to_redis_is_taken_and_half_a_client_certificate_is_not() {
    let tls = settings_of(
        &["--redis-tls-client-key=k.pem"],
        &[
            "REDIS_TLS=1",
            "REDIS_TLS_CACERT=ca.pem",
            "REDIS_TLS_CLIENT_CERT=c.pem",
            "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION=true",
            "REDIS_AUTH_FILE=/run/secrets/redis",
        ],
    )
    .redis;
    assert_eq!(tls.auth_file.as_deref(), Some(Path::new("/run/secrets/redis")));
    let tls = tls.tls;
    assert!(tls.enabled && tls.skip_hostname_verification);
    let files = [&tls.cacert, &tls.client_cert, &tls.client_key];
    assert_eq!(
        files.map(Option::as_deref),
        ["ca.pem", "c.pem", "k.pem"].map(|name| Some(Path::new(name)))
    );
    for (name, other) in [("CERT", "client_key"), ("KEY", "client_cert")] {
        let error = error_of(&[], &[&format!("REDIS_TLS_CLIENT_{name}=x.pem")]);
        assert!(error.contains(&format!("REDIS_TLS_CLIENT_{name}")), "{error}");
        assert!(error.contains(&format!("redis.tls.{other}")), "{error}");
    }
}

/// Every name is a setting, pinned to what happens anyway, not needed, or named in the warning.
#[test]
fn every_variable_of_the_reference_server_is_known() {
    let settings: BTreeSet<_> = table::all().filter_map(|setting| setting.reference).collect();
    assert_eq!(REFERENCE.split_whitespace().count(), 114);
    for name in REFERENCE
        .split_whitespace()
        .chain(ENVOY_GATEWAY.split_whitespace())
    {
        let elsewhere = reference::PINNED.iter().any(|pinned| pinned.name == name)
            || reference::NOT_NEEDED
                .iter()
                .any(|(not_needed, _)| *not_needed == name);
        let warned = reference::UNSUPPORTED
            .iter()
            .any(|(unsupported, _)| *unsupported == name);
        let homes = usize::from(settings.contains(name)) + usize::from(elsewhere) + usize::from(warned);
        assert_eq!(homes, 1, "{name}");
        if warned {
            let variable = format!("{name}=hunter2");
            let loaded = load(&[], &[&variable]).expect(name);
            assert_eq!(loaded.unsupported, [name]);
            assert!(!format!("{loaded:?}").contains("hunter2"));
        }
    }
    let ours = settings
        .iter()
        // Newer than the list.
        .filter(|name| {
            ![
                "REDIS_OP_TIMEOUT",
                "REDIS_PERSECOND_OP_TIMEOUT",
                "REDIS_AUTH_FILE",
            ]
            .contains(name)
        })
        .find(|name| !REFERENCE.split_whitespace().any(|known| known == **name));
    assert_eq!(
        ours, None,
        "a reference name that the reference server does not have"
    );
}

#[test]
fn a_variable_that_asks_for_nothing_is_not_warned_about() {
    let quiet = [
        "USE_STATSD=false",
        "USE_DOG_STATSD=0",
        "TRACING_ENABLED=F",
        "REDIS_TLS=False",
        "USE_PROMETHEUS=true",
        "LOCAL_CACHE_SIZE_IN_BYTES=0",
        "REDIS_PERSECOND=false",
        "REDIS_PERSECOND_URL=db:6379",
        "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR=true",
        "REDIS_CLUSTER_PIPELINE_PARALLELISM=0",
        "CONFIG_TYPE=FILE",
        "BACKEND_TYPE=redis",
        "RUNTIME_IGNOREDOTFILES=true",
    ];
    let loaded = load(&[], &quiet).expect("settings");
    assert!(
        loaded.unsupported.is_empty() && loaded.unknown.is_empty(),
        "{loaded:?}"
    );
    let loud = [
        "USE_STATSD=true",
        "DOG_STATSD_MOGRIFIER_A_NAME=x",
        "REDIS_STARTUP_MAX_ELAPSED_TIME=1m",
    ];
    let loaded = load(&[], &loud).expect("settings");
    assert_eq!(
        loaded.unsupported,
        [
            "DOG_STATSD_MOGRIFIER_A_NAME",
            "REDIS_STARTUP_MAX_ELAPSED_TIME",
            "USE_STATSD"
        ]
    );
}

#[test]
fn a_slip_in_one_of_our_own_variables_is_reported() {
    let env = [
        "RATEKEEPER_GRPC_PROT=1",
        "RATEKEEPER_GRPC_PORT=1",
        "RATEKEEPER_CONFIG=",
        "GRPC_PROT=1",
        "PATH=/bin",
    ];
    assert_eq!(
        load(&[], &env).expect("settings").unknown,
        ["RATEKEEPER_GRPC_PROT"]
    );
}

/// A service `grpc` or `ratekeeper-http` in the namespace must not stop the start, nor fill the log.
#[test]
fn variables_of_kubernetes_services_are_left_alone() {
    let env = [
        "GRPC_SERVICE_HOST=10.0.0.7",
        "GRPC_SERVICE_PORT=8081",
        "GRPC_SERVICE_PORT_API=8081",
        "GRPC_PORT=tcp://10.0.0.7:8081",
        "GRPC_PORT_8081_TCP=tcp://10.0.0.7:8081",
        "GRPC_PORT_8081_TCP_PORT=8081",
        "RATEKEEPER_HTTP_SERVICE_HOST=10.0.0.8",
        "RATEKEEPER_HTTP_PORT=tcp://10.0.0.8:80",
        "RATEKEEPER_SERVICE_HOST=10.0.0.9",
        "RATEKEEPER_PORT=udp://10.0.0.9:80",
        "RATEKEEPER_PORT_80_UDP_ADDR=10.0.0.9",
    ];
    let loaded = load(&[], &env).expect("settings");
    assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    assert_eq!(
        (loaded.settings.grpc.port, loaded.settings.http.port),
        (8081, 8080)
    );
    // A plain number beside a service is the user's, and without a service the text is a mistake.
    assert_eq!(
        settings_of(&[], &["GRPC_SERVICE_HOST=10.0.0.7", "GRPC_PORT=9"])
            .grpc
            .port,
        9
    );
    assert!(load(&[], &["GRPC_PORT=tcp://10.0.0.7:8081"]).is_err());
}
