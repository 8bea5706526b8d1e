//! Ratekeeper answers one question, for Envoy, Istio and any gRPC client: *may this request go on?*
//!
//! The way of a request, and the modules in that order:
//!
//! ```text
//! RateLimitRequest ──wire──> descriptor ──policy──> charges ──store──> verdicts ──decision──> RateLimitResponse
//!                             (validated,   (which     (key, limit,  (memory;          (overall code, headers,
//!                              bounded)      limits)    hits, mode)   all or nothing)    metadata, shadow, quota)
//! ```
//!
//! | module | step |
//! |---|---|
//! | [`wire`] | 1: bytes ↔ domain types; the only one that knows HTTP/2, protobuf, tonic and TLS |
//! | [`descriptor`] | 2: what a request is counted by, validated and bounded; keys of counters |
//! | [`policy`] | 3: files → compiled snapshot → matching rule; reload that keeps the last good version |
//! | [`limiter`] | 4: the algorithms, pure functions of (state, now, hits, limit) |
//! | [`store`] | 5: where counters live |
//! | [`decision`] | 6: verdicts → one answer |
//!
//! Beside the way stand [`settings`], [`telemetry`], [`admin`] (HTTP), [`clock`], [`cli`] and [`app`], which puts all
//! of it together. Dependencies point one way: `wire`, `admin` and `cli` may use everything below them; `limiter` and
//! `descriptor` use nothing of the project. A test holds this.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod decision;
pub mod descriptor;
pub mod limiter;
pub mod policy;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod wire;
