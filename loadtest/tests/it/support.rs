//! What the tests share.

use clap::Parser;
use rk_load::options::{Args, Plan};
use rk_load::report::Report;
use rk_load::run::run;

use crate::stub::Stub;

/// The arguments of a run against these servers; `line` is split at blanks.
pub fn words(servers: &[&Stub], line: &str) -> Vec<String> {
    let targets = servers
        .iter()
        .flat_map(|stub| ["--target".to_owned(), stub.address.to_string()]);
    targets
        .chain(line.split_whitespace().map(str::to_owned))
        .collect()
}

/// Runs inside this process.
pub fn load(servers: &[&Stub], line: &str) -> Report {
    let words = [vec!["rk-load".to_owned()], words(servers, line)].concat();
    let args = Args::try_parse_from(&words).expect("valid options");
    let plan = Plan::new(&args).expect("a valid plan");
    run(&args, plan, words).expect("a report")
}
