use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::values;
use crate::client::Target;
use crate::plan::{Distribution, Pattern, Weights};
use crate::wire::Descriptor;

/// Load for a rate-limit service (envoy.service.ratelimit.v3), and an audit of what it granted.
///
/// With --rate requests leave on a schedule (open loop) and latencies count from the intended moment; without it a fixed
/// number is in flight (closed loop).
#[derive(Debug, Clone, Parser)]
#[command(name = "rk-load", version, max_term_width = 110)]
pub struct Args {
    /// Server to ask, HOST:PORT without TLS; several: connections take turns
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081", value_parser = Target::parse)]
    pub target: Vec<Target>,
    /// Threads, each with a runtime and connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: u16,
    /// Connections over all threads and targets [default: 4, at least one a thread and a target]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: Option<u16>,
    /// Requests in flight on each connection: kept in closed loop, at most in open loop [default: 32 and 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: Option<u32>,
    /// Requests per second over all threads: open loop
    #[arg(long, value_name = "R", value_parser = values::rate)]
    pub rate: Option<f64>,
    /// How arrivals are spaced in open loop
    #[arg(long, value_enum, default_value_t = Pattern::Poisson)]
    pub arrivals: Pattern,
    /// Poll between requests instead of sleeping: pauses end when they should, at the cost of a whole core for each thread
    #[arg(long, requires = "rate")]
    pub busy_poll: bool,
    /// How long requests are sent and measured, e.g. 500ms, 10s, 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub duration: Duration,
    /// How long requests are sent before that, without being measured (they are audited)
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = values::duration)]
    pub warmup: Duration,

    /// Take the requests, and how they are driven, from a scenario of this TOML file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domain", "descriptor", "keys", "distribution", "weights", "audit"])]
    pub scenario: Option<PathBuf>,
    /// Which scenario of that file; needed if it holds several
    #[arg(long, value_name = "NAME", requires = "scenario")]
    pub scenario_name: Option<String>,

    /// The requests' domain
    #[arg(long, default_value = "load")]
    pub domain: String,
    /// A descriptor, its entries separated by commas; {key} is the key's number, {key:8} the same with zeros in front
    #[arg(long, value_name = "KEY=VALUE,…", default_value = "id=user-{key:8}", value_parser = values::descriptor)]
    pub descriptor: Vec<Descriptor>,
    /// Keys are numbers from 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub keys: u32,
    /// How requests spread over the keys: uniform, one (always 0), sequence, zipf or zipf:EXPONENT
    #[arg(long, default_value = "uniform")]
    pub distribution: Distribution,
    /// The requests' hits_addend: HITS or MIN-MAX [default: left out, which means 1]
    #[arg(long, value_name = "HITS")]
    pub weights: Option<Weights>,
    /// The deadline that requests carry, e.g. 20ms
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub grpc_timeout: Option<Duration>,
    /// After this time a request counts as unanswered [default: the gRPC timeout, else 1s]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub give_up_after: Option<Duration>,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Check that no key was granted more than its limit in any rolling window (exit code 1 if one was)
    #[arg(long)]
    pub audit: bool,
    /// The limit of every key in hits, for --audit
    #[arg(long, value_name = "L", requires = "window", requires = "audit")]
    pub limit: Option<u64>,
    /// The window of every key in seconds, for --audit
    #[arg(long, value_name = "SECONDS", requires = "limit")]
    pub window: Option<f64>,
    /// Limits of single keys, for --audit: {"KEY": {"limit": L, "window": SECONDS}, …}
    #[arg(long, value_name = "FILE", requires = "audit")]
    pub audit_limits: Option<PathBuf>,
    /// Exit code 1 if any request got an error or no answer
    #[arg(long)]
    pub fail_on_error: bool,

    /// A server's process, to report its CPU time and memory; repeatable
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// Write everything as JSON to this file, or to the standard output (then the summary goes to the standard error)
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}
