//! `ratekeeper doctor`: whether the Redis that `serve` would use suits, and what to do where it does not.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::USAGE;
use crate::app::doctor::{self, Level};
use crate::settings;

const JSON: &str = "json";

pub(super) fn command() -> Command {
    let about = "Examine the Redis that serve would use; ends with 1 if there is a problem";
    let more = "Takes the settings of serve, from the same places, and connects as it does: to a server, to the sentinels and \
                the primary that they name, or to a cluster's nodes. Each check is ok, a warning or a problem, with what was \
                found and what to do. Writes nothing but a few keys under redis.key_prefix, which it deletes at once. Ends \
                within 10 s. Exit codes: 0 no problem (warnings are none), 1 problems, 2 wrong usage or settings.";
    let output = "Print JSON: {\"result\": LEVEL, \"checks\": [{\"check\", \"level\", \"found\", \"advice\"}]}, each with a \
                  \"block\" if there is redis.per_second";
    let json = Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).help(output);
    settings::add_flags(Command::new("doctor").about(about).after_help(more)).arg(json)
}

pub(super) fn run(matches: &ArgMatches, env: Vec<(String, String)>) -> ExitCode {
    let loaded = match super::settings(matches, env) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for (names, why) in [
        (&loaded.unsupported, "not supported yet, no effect"),
        (&loaded.unknown, "unknown settings, no effect"),
    ] {
        if !names.is_empty() {
            eprintln!("ratekeeper: {why}: {}", names.join(", "));
        }
    }
    let report = match doctor::examine(&loaded.settings) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("ratekeeper: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    let text = if matches.get_flag(JSON) {
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    } else {
        report.to_string()
    };
    // A closed pipe is no reason to complain.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if report.result == Level::Problem {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
