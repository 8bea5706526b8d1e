//! What the end-to-end tests share: the `ratekeeper` binary and a real Envoy as child processes, a small HTTP client and a
//! check of admissions against a limit. Everything listens on the loopback interface only.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

pub mod audit;
pub mod authority;
pub mod built;
pub mod cluster;
pub mod envoy;
pub mod http;
pub mod load;
pub mod on_redis;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod rk_load;
pub mod sentinel;
pub mod service;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// A directory with these policy files, removed when dropped.
pub fn policies(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("no temporary directory");
    for (name, text) in files {
        write(&dir.path().join(name), text);
    }
    dir
}

/// Writes a file in place, as `>` in a shell does.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Writes a file beside the old one and renames it, as editors do.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_file_name(".new");
    write(&new, text);
    std::fs::rename(&new, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Asks until the answer is yes and gives the time that took; panics after `within`.
pub fn eventually(what: &str, within: Duration, mut answer: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let elapsed = start.elapsed();
        if answer() {
            return elapsed;
        }
        assert!(elapsed < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sleeps until the wall clock is at this millisecond of a second.
pub fn sleep_until_millisecond(millisecond: u32) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is before 1970")
        .subsec_millis();
    std::thread::sleep(Duration::from_millis(u64::from(
        (1_000 + millisecond - now) % 1_000,
    )));
}
