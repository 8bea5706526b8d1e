//! Settings as the parts of the process want them.

use anyhow::Context as _;

use crate::decision::{HeaderNames, Options};
use crate::descriptor::Bounds;
use crate::policy::Defaults;
use crate::policy::schema::{Algorithm, ChargeRule, OnStoreError};
use crate::settings::{self, Settings};
use crate::wire::tls::{Tls, TlsFiles};

pub(super) fn tls(settings: &settings::Tls) -> anyhow::Result<Option<Tls>> {
    if !settings.enabled {
        return Ok(None);
    }
    let cert = settings
        .cert
        .clone()
        .context("tls is on, but no certificate is set")?;
    let key = settings.key.clone().context("tls is on, but no key is set")?;
    let (client_ca, client_san) = (settings.client_ca.clone(), settings.client_san.clone());
    Ok(Some(Tls::new(TlsFiles {
        cert,
        key,
        client_ca,
        client_san,
    })?))
}

/// How many threads serve gRPC.
pub(super) fn threads(settings: &Settings) -> usize {
    match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

pub(super) fn request_bounds(settings: &Settings) -> Bounds {
    let limits = settings.limits;
    Bounds {
        descriptors_max: limits.max_descriptors,
        entries_max: limits.max_entries,
        key_bytes_max: limits.max_key_bytes,
        value_bytes_max: limits.max_value_bytes,
    }
}

pub(super) fn defaults(settings: settings::Defaults) -> Defaults {
    Defaults {
        on_store_error: match settings.on_store_error {
            settings::DefaultOnStoreError::Local => OnStoreError::Local,
            settings::DefaultOnStoreError::Allow => OnStoreError::Allow,
            settings::DefaultOnStoreError::Deny => OnStoreError::Deny,
        },
        algorithm: match settings.algorithm {
            settings::DefaultAlgorithm::SlidingWindow => Algorithm::SlidingWindow,
            settings::DefaultAlgorithm::FixedWindow => Algorithm::FixedWindow,
            settings::DefaultAlgorithm::TokenBucket => Algorithm::TokenBucket,
        },
        charge: match settings.charge {
            settings::DefaultCharge::Auto => ChargeRule::Auto,
            settings::DefaultCharge::Admitted => ChargeRule::Admitted,
            settings::DefaultCharge::Always => ChargeRule::Always,
        },
    }
}

pub(super) fn decision_options(settings: &Settings) -> Options {
    let response = &settings.response;
    let denied_body = response.denied_body.clone().unwrap_or_default();
    Options {
        defaults: defaults(settings.default),
        shadow_mode: settings.shadow_mode,
        quota_mode: settings.quota_mode,
        limit_headers: response.headers_enabled.then(|| HeaderNames {
            limit: response.limit_header.as_str().into(),
            remaining: response.remaining_header.as_str().into(),
            reset: response.reset_header.as_str().into(),
        }),
        retry_after: response.retry_after,
        denied_body_is_json: serde_json::from_str::<serde::de::IgnoredAny>(&denied_body).is_ok(),
        denied_body,
        dynamic_metadata: response.dynamic_metadata,
    }
}
