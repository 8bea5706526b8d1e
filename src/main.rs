//! `ratekeeper`: parse, build, run, drain.

use std::process::ExitCode;

fn main() -> ExitCode {
    ratekeeper::cli::main(std::env::args_os(), ratekeeper::settings::process_environment())
}
