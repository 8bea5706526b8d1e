//! `rk-load`: a load generator for Envoy's rate-limit API (`envoy.service.ratelimit.v3`) that audits what it was granted.
//!
//! ```text
//! options ──> plan ──> client (one thread per core) ──> measure ──> report
//!                        │      h2, wire                   │
//!                        └── admissions ──────> audit ─────┘
//! ```
//!
//! One current-thread runtime a thread; a thread owns its connections, its random numbers and its histograms, so the hot
//! path shares nothing. Messages are written and read by hand: what is measured should be the server.

/// Were more hits admitted in any rolling window than the limit allows?
pub mod audit;
/// Connections, requests in flight, the two ways to drive them.
pub mod client;
pub mod clock;
/// Several servers beside each other, and what a request costs.
pub mod compare;
/// The machine and the processes: what a figure is worth depends on them.
pub mod machine;
/// Counting: outcomes, latencies, the series by second.
pub mod measure;
/// The server that decides nothing.
pub mod noop;
mod num;
/// The command line, and what it means once checked.
pub mod options;
/// What is sent, and when: keys, weights, arrival times, the request template.
pub mod plan;
/// What the run says in the end, to people and to programs.
pub mod report;
pub mod run;
/// Files that describe requests and how they are driven.
pub mod scenario;
/// Bytes of requests and answers: protobuf and gRPC framing of the few fields that matter here.
pub mod wire;
