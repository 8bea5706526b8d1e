//! What single values cannot show: settings that do not go together, and those that this version cannot honour.

use std::collections::BTreeMap;

use super::{
    error::{Origin, Problem},
    typed::{RedisKind, Settings},
};

/// What a Redis that is asked for lacks, with the key that asks for it. Going on in memory would count limits by instance that are
/// meant for all instances together.
fn missing_redis(settings: &Settings) -> Option<(&'static str, &'static str)> {
    let redis = &settings.redis;
    match &redis.per_second {
        Some(second) if second.url.is_none() => Some((
            "redis.per_second.enabled",
            "a Redis for limits of one second needs an address in redis.per_second.url",
        )),
        Some(_) if redis.url.is_none() => Some((
            "redis.per_second.enabled",
            "a Redis for limits of one second needs one for all other limits in redis.url",
        )),
        _ if redis.url.is_none() && redis.kind != RedisKind::Single => {
            Some(("redis.type", "sentinels and clusters need addresses in redis.url"))
        }
        _ => None,
    }
}

/// All such problems, each at the place where the value in force stands.
pub(super) fn check(settings: &Settings, origins: &BTreeMap<&'static str, Origin>) -> Vec<Problem> {
    let refuse = |key: &str, reason: &str| Problem::Refused {
        origin: origins.get(key).cloned().unwrap_or(Origin::Default),
        reason: reason.to_owned(),
    };
    let mut problems = Vec::new();
    if settings
        .redis
        .key_prefix
        .as_deref()
        .is_some_and(|prefix| prefix.contains(['{', '}']))
    {
        problems.push(refuse(
            "redis.key_prefix",
            "a prefix with braces would move Redis Cluster's slot tag",
        ));
    }
    problems.extend(missing_redis(settings).map(|(key, reason)| refuse(key, reason)));
    let tls = &settings.redis.tls;
    if tls.client_cert.is_some() != tls.client_key.is_some() {
        let (set, reason) = if tls.client_cert.is_some() {
            (
                "redis.tls.client_cert",
                "a client certificate needs its key in redis.tls.client_key",
            )
        } else {
            (
                "redis.tls.client_key",
                "a client's key needs its certificate in redis.tls.client_cert",
            )
        };
        problems.push(refuse(set, reason));
    }
    let tls = &settings.grpc.tls;
    if tls.enabled {
        if tls.cert.is_none() {
            problems.push(refuse(
                "grpc.tls.enabled",
                "TLS needs a certificate in grpc.tls.cert",
            ));
        }
        if tls.key.is_none() {
            problems.push(refuse(
                "grpc.tls.enabled",
                "TLS needs a private key in grpc.tls.key",
            ));
        }
        if tls.client_san.is_some() && tls.client_ca.is_none() {
            // The reference server takes this and then checks nobody.
            let reason = "a name for client certificates needs their authority in grpc.tls.client_ca";
            problems.push(refuse("grpc.tls.client_san", reason));
        }
    }
    problems
}
