//! The command line: one file a subcommand.
//!
//! Exit codes: 0 all well; 1 what was asked for failed; 2 wrong usage or settings.

mod check;
mod doctor;
mod serve;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::settings::{self, Loaded};

const USAGE: u8 = 2;

/// Runs the program.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    // Envoy Gateway starts `/bin/ratelimit` without arguments.
    let called_as = args
        .first()
        .map(|name| Path::new(name).file_stem().unwrap_or_default().to_owned());
    if args.len() == 1 && called_as.is_some_and(|name| name == "ratelimit") {
        args.push("serve".into());
    }
    match command().try_get_matches_from(args) {
        Ok(matches) => match matches.subcommand() {
            Some(("serve", matches)) => serve::run(matches, env.into_iter().collect()),
            Some(("check", matches)) => check::run(matches),
            Some(("doctor", matches)) => doctor::run(matches, env.into_iter().collect()),
            _ => ExitCode::from(USAGE),
        },
        Err(error) => {
            // Help and version are errors to clap, but not to the caller.
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A closed pipe is no reason to complain.
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}

/// The settings of a command that takes them; what is wrong with them is printed.
fn settings(matches: &ArgMatches, env: Vec<(String, String)>) -> Result<Loaded, ExitCode> {
    settings::load(matches, env).map_err(|error| {
        eprintln!("ratekeeper: {error}");
        ExitCode::from(USAGE)
    })
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    Command::new("ratekeeper")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A strict, fast rate-limit service for Envoy, Istio and any gRPC client")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(check::command())
        .subcommand(doctor::command())
}
