//! Which servers the settings name.

use crate::settings::{self, Settings};
use crate::store::redis::address::Address;
use crate::store::redis::deployment::{Kind, Listed};
use crate::store::redis::server::TlsFiles;

/// The Redis for all limits, or for all but those of one second; `None` keeps counters in memory.
pub(super) fn main(settings: &Settings) -> Option<Listed> {
    let redis = &settings.redis;
    Some(Listed {
        kind: kind(redis.kind),
        address: Address {
            url: redis.url.as_ref()?.expose().to_owned(),
            socket_type: redis.socket_type.clone(),
            auth: text(redis.auth.as_ref()),
            tls: redis.tls.enabled,
            ..Address::default()
        },
        auth_file: redis.auth_file.clone(),
        sentinel_auth: text(redis.sentinel_auth.as_ref()),
        tls: tls_files(&redis.tls),
    })
}

/// The Redis for limits of one second, if they have one of their own.
pub(super) fn per_second(settings: &Settings) -> Option<Listed> {
    let redis = settings.redis.per_second.as_ref()?;
    Some(Listed {
        kind: kind(redis.kind),
        address: Address {
            url: redis.url.as_ref()?.expose().to_owned(),
            socket_type: redis.socket_type.clone(),
            auth: text(redis.auth.as_ref()),
            tls: redis.tls,
            ..Address::default()
        },
        auth_file: redis.auth_file.clone(),
        sentinel_auth: text(redis.sentinel_auth.as_ref()),
        tls: tls_files(&settings.redis.tls),
    })
}

fn kind(kind: settings::RedisKind) -> Kind {
    match kind {
        settings::RedisKind::Single => Kind::Single,
        settings::RedisKind::Sentinel => Kind::Sentinel,
        settings::RedisKind::Cluster => Kind::Cluster,
    }
}

fn text(secret: Option<&settings::Secret>) -> String {
    secret
        .map(settings::Secret::expose)
        .unwrap_or_default()
        .to_owned()
}

fn tls_files(tls: &settings::RedisTls) -> TlsFiles {
    TlsFiles {
        ca: tls.cacert.clone(),
        client: tls.client_cert.clone().zip(tls.client_key.clone()),
        skip_hostname: tls.skip_hostname_verification,
    }
}
