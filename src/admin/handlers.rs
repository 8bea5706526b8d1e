//! What each path answers.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use super::health::Health;
use super::rlconfig;
use crate::policy::Snapshot;
use crate::store::Store;
use crate::telemetry::{Telemetry, Transport};
use crate::wire::json::JsonCodec;
use crate::wire::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::wire::service::{Error, Service};

/// Brings metrics that are not counted as things happen up to date.
#[derive(Clone)]
pub struct Refresh(pub Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresh")
    }
}

/// What the handlers answer from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The state of the process.
    pub health: Arc<Health>,
    /// All metrics.
    pub telemetry: Arc<Telemetry>,
    /// Called before metrics are shown.
    pub refresh: Refresh,
    /// The service behind `/json`.
    pub service: Service,
    /// Its JSON form.
    pub json: JsonCodec,
    /// Where counters live.
    pub store: Arc<dyn Store>,
    /// The policies in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Bytes of a `/json` request.
    pub message_bytes_max: usize,
}

impl Admin {
    /// The main listener's paths.
    pub fn main_router(self) -> Router {
        Router::new()
            .route("/healthcheck", any(healthcheck))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/json", any(json))
            .route("/metrics", get(metrics))
            .layer(DefaultBodyLimit::max(self.message_bytes_max))
            .with_state(self)
    }

    /// The debug listener's paths.
    pub fn debug_router(self) -> Router {
        Router::new()
            .route(
                "/",
                get(async || "/rlconfig: the rules in force\n/metrics: all metrics\n"),
            )
            .route("/rlconfig", get(rules))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// A listener for metrics alone.
    pub fn metrics_router(self, path: &str) -> Router {
        Router::new().route(path, get(metrics)).with_state(self)
    }
}

async fn healthcheck(State(admin): State<Admin>) -> Response {
    if admin.health.is_healthy() {
        "OK".into_response()
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "").into_response()
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

/// 200 or 503; with `?verbose` the reasons.
async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let health = &admin.health;
    let policies = health.policies();
    let (status, word) = match (health.is_ready(), health.is_draining(), policies.is_degraded()) {
        (true, _, false) => (StatusCode::OK, "ok"),
        (true, _, true) => (StatusCode::OK, "degraded"),
        (false, true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "policies not loaded"),
    };
    let mut page = format!("{word}\n");
    let verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|part| part.split('=').next() == Some("verbose"))
    });
    if verbose || policies.is_degraded() {
        // Writing into a String can't fail.
        let _ = writeln!(
            page,
            "policies: version {}, {} domains, {} rules, {} warnings, {} files in error",
            policies.version,
            policies.domains,
            policies.rules,
            policies.warnings,
            policies.files_in_error.len()
        );
        for error in &policies.errors {
            let _ = writeln!(page, "{error}");
        }
        let _ = writeln!(page, "store: {}", admin.store.describe());
        if let Some(examined) = health.examined() {
            let _ = writeln!(page, "doctor: {examined}");
        }
    }
    (status, page).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    (admin.refresh.0)();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    // Many series take a while, and this thread also accepts connections.
    match tokio::task::spawn_blocking(move || admin.telemetry.render()).await {
        Ok(page) => ([(header::CONTENT_TYPE, kind)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn rules(State(admin): State<Admin>) -> String {
    rlconfig::render(&admin.snapshot.load())
}

/// The service's JSON form: 200 and 429 are decisions, 400 is a request that can't be decided, 503 policies that are not there.
async fn json(
    State(admin): State<Admin>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let invalid = |text: String| (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response();
    let request = match admin.json.decode(&body) {
        Ok(request) => request,
        Err(error) => {
            admin.telemetry.requests.invalid(Transport::Json);
            return invalid(error.to_string());
        }
    };
    let response = match admin.service.answer(&request, Transport::Json, None).await {
        Ok(response) => response,
        Err(error @ Error::Invalid(_)) => return invalid(error.to_string()),
        Err(error @ Error::NotReady(_)) => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
        }
    };
    let status = if response.overall_code() == Code::OverLimit {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::OK
    };
    match admin.json.encode(&response) {
        Ok(text) => (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            Body::from(text),
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
