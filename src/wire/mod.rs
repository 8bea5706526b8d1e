//! Step 1 of a request: bytes ↔ domain types. The only folder that knows HTTP/2, protobuf, tonic and TLS.
//!
//! ```text
//! listener ──connection──> worker (one thread a core) ──grpc──message──> service ──> decision::Decider
//! ```

pub mod codec;
pub mod connection;
pub mod convert;
pub mod deadline;
pub mod grpc;
mod headroom;
pub mod json;
pub mod listener;
pub mod read;
pub mod service;
pub mod tls;
pub mod worker;
pub mod write;

/// The generated messages, in modules named as their packages.
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated from proto/, which documents it"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/envoy.rs"));
}

/// The descriptors of everything in `proto/`, for reflection and the JSON mapping.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The rate-limit service's name in health checks, as the reference server's.
pub const HEALTH_SERVICE: &str = "ratelimit";
