//! `ratekeeper serve`: the service itself.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tracing_subscriber::filter::LevelFilter;

use super::USAGE;
use crate::app::App;
use crate::settings::{self, LogLevel};
use crate::telemetry;

pub(super) fn command() -> Command {
    let about = "Answer rate-limit requests over gRPC and JSON";
    let more = "Every setting can be a flag, an environment variable or a key of the TOML file given by --config; \
                flags win over variables, variables over the file. docs/settings.md lists them all.";
    settings::add_flags(Command::new("serve").about(about).after_help(more))
}

pub(super) fn run(matches: &ArgMatches, env: Vec<(String, String)>) -> ExitCode {
    let loaded = match super::settings(matches, env) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = loaded.settings.log;
    let level = match log.level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let format = match log.format {
        settings::LogFormat::Text => telemetry::LogFormat::Text,
        settings::LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init_logs(level, format);
    if !loaded.unsupported.is_empty() {
        let names = loaded.unsupported.join(", ");
        tracing::warn!(
            names,
            "settings of the reference server that are not supported yet have no effect"
        );
    }
    if !loaded.unknown.is_empty() {
        tracing::warn!(
            names = loaded.unknown.join(", "),
            "unknown settings have no effect"
        );
    }
    let app = match App::build(loaded.settings) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::from(USAGE);
        }
    };
    match app.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
