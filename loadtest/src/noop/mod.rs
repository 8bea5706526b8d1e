//! `rk-noop`: a tonic server that answers OK and decides nothing.
//!
//! It is the measure for all others: same API, same messages decoded, same HTTP/2 settings and the same threads as the
//! service (one acceptor, one current-thread runtime a thread), and no decision. What a limiter does per second is worth
//! as much as its share of what this one does in the same run.

mod serve;

use std::net::SocketAddr;

use clap::Parser;

pub use serve::serve;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/envoy.rs"));
}

/// The options of `rk-noop`.
#[derive(Debug, Clone, Parser)]
#[command(name = "rk-noop", version, max_term_width = 110)]
pub struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// Threads that serve, each with a runtime of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: u16,
}
