//! The command line of `rk-compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::Server;
use crate::options::duration;

/// Rate-limit services beside each other, and what a request costs.
#[derive(Debug, Clone, Parser)]
#[command(name = "rk-compare", version, max_term_width = 110)]
pub struct Options {
    /// What to measure
    #[command(subcommand)]
    pub command: Command,
}

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// The same scenarios against several servers in turn; ratios to one of them
    Servers(ServersArgs),
    /// Ratekeeper's cost of a request along one parameter after the other
    Curves(CurvesArgs),
}

/// What both commands take.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Ratekeeper's program
    #[arg(long, value_name = "FILE", default_value = "../target/release/ratekeeper")]
    pub ratekeeper: PathBuf,
    /// Folder for results; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub out: PathBuf,
    /// The short form: fewer scenarios or points, shorter laps
    #[arg(long)]
    pub quick: bool,
    /// Time that is measured in each lap [default: 2500ms, 1s in the short form]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Time of load before that [default: 500ms, 200ms in the short form]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub warmup: Option<Duration>,
    /// Core of the servers, where they are pinned
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub server_core: u16,
    /// Core of load and Redis
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub load_core: u16,
    /// Pin nothing
    #[arg(long)]
    pub no_pin: bool,
    /// Measure only these scenarios or curves, by name; repeatable
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// A remark for the report, e.g. what else ran on the machine
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `rk-compare servers`
#[derive(Debug, Clone, Args)]
pub struct ServersArgs {
    #[expect(missing_docs, reason = "clap would show it as a heading")]
    #[command(flatten)]
    pub common: Common,
    /// Servers to compare
    #[arg(long, value_name = "FILE", default_value = "compare/servers.toml")]
    pub servers: PathBuf,
    /// One more server, e.g. 'mine=VARIABLE=1 /usr/bin/mine --port {port}'; repeatable. {port}, {http}, {debug} become
    /// free ports, {redis} the port of a Redis of its own, {threads} a number
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Server::parse)]
    pub server: Vec<Server>,
    /// Leave a server of the file out; repeatable
    #[arg(long, value_name = "NAME")]
    pub without: Vec<String>,
    /// Scenarios to run
    #[arg(long, value_name = "FILE", default_value = "compare/scenarios.toml")]
    pub scenarios: PathBuf,
    /// The server that ratios are to [default: the first]
    #[arg(long, value_name = "NAME")]
    pub base: Option<String>,
    /// How often each server runs each scenario [default: 5, 3 in the short form]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
}

/// `rk-compare curves`
#[derive(Debug, Clone, Args)]
pub struct CurvesArgs {
    #[expect(missing_docs, reason = "clap would show it as a heading")]
    #[command(flatten)]
    pub common: Common,
    /// List the curves and their points, and measure nothing
    #[arg(long)]
    pub list: bool,
}
