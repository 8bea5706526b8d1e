//! `ratekeeper`: parse, build, run, drain.

use std::process::ExitCode;

/// Measured against the system's: ADR 18.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ratekeeper::cli::main(std::env::args_os(), ratekeeper::settings::process_environment())
}
