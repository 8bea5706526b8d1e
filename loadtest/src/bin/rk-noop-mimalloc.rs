//! `rk-noop-mimalloc`: the same with mimalloc as its allocator: which one it is decides some 10 % of the path.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use rk_load::noop::{Options, serve};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rk-noop: {error}");
            ExitCode::FAILURE
        }
    }
}
