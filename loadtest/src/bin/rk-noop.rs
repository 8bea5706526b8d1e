//! `rk-noop`: see the library's `noop`.

use std::process::ExitCode;

use clap::Parser;
use rk_load::noop::{Options, serve};

fn main() -> ExitCode {
    match serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rk-noop: {error}");
            ExitCode::FAILURE
        }
    }
}
