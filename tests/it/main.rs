//! All integration tests, in one binary: it links once.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod allocations;
mod asking;
mod breaker_histories;
mod deciding;
mod decisions;
mod doctor;
mod envoy_configs;
mod envoy_headers;
mod envoy_hits;
mod envoy_limits;
mod envoy_reload;
mod envoy_shutdown;
mod faults;
mod hostile_bytes;
mod interop;
mod known_bugs_limiter;
mod layers;
mod layers_model;
mod limiter_give_back;
mod limiter_histories;
mod limiter_oracle;
mod limiter_request;
mod limiter_waits;
mod lua_equals_rust;
mod lua_redis;
mod memory_store;
mod policy_files;
mod redis_deployments;
mod redis_errors;
mod redis_failover;
mod redis_instances;
mod redis_layers;
mod redis_lost_replies;
mod redis_memory;
mod redis_parts;
mod redis_store;
mod redis_strict;
mod redis_tls;
mod reference_counting;
mod reference_matching;
mod reference_oracle;
mod reference_random;
mod reload;
mod script_store;
mod servers;
mod settings;
mod shard_by;
mod support;
mod tls;
mod wire;
mod wire_bytes;
