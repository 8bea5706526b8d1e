//! `rk-load`: parse, run, report.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use rk_load::options::{Args, Plan};
use rk_load::report::{Report, summary};
use rk_load::run::run;

/// A window was broken, or requests failed with `--fail-on-error`.
const FAILED: u8 = 1;
/// There is no result: wrong options, no server.
const NO_RESULT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let report = Plan::new(&args).and_then(|plan| {
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        run(&args, plan, command.collect()).map_err(|error| error.to_string())
    });
    let written = report.and_then(|report| {
        write(&report, args.json.as_deref()).map_err(|error| format!("--json: {error}"))?;
        Ok(report)
    });
    match written {
        Ok(report) if report.failures.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("rk-load: {error}");
            ExitCode::from(NO_RESULT)
        }
    }
}

/// The summary to the standard output, unless the JSON goes there.
fn write(report: &Report, json: Option<&Path>) -> io::Result<()> {
    let text = summary(report);
    let Some(path) = json else {
        return io::stdout().write_all(text.as_bytes());
    };
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    if path == Path::new("-") {
        io::stderr().write_all(text.as_bytes())?;
        io::stdout().write_all(&bytes)
    } else {
        io::stdout().write_all(text.as_bytes())?;
        fs::write(path, bytes)
    }
}
