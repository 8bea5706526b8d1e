//! The generator against servers of its own: one binary for all integration tests.

#[path = "../support/stub.rs"]
mod stub;

mod binary;
mod comparing;
mod encoding;
mod failing_servers;
mod limiter;
mod runs;
mod scenarios;
mod support;
