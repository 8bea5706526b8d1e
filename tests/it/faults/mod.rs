//! Every way in which Redis fails, under load, with the release binary: what came of it as a table, and the promises held.
//!
//! Each fault lasts 3 s in the middle of a run; with `RATEKEEPER_SOAK` set, which `make soak` does, 30 s.
//! `RATEKEEPER_FAULTS=killed,frozen` runs only those whose names contain one of these words. The tables are printed (to be seen
//! with `--nocapture`) and written to `target/faults.md`.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

mod cluster;
mod fault;
mod row;
mod run;
mod samples;
mod sentinel;
mod single;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fault::{Fault, Site};
use row::Row;

/// How long others may go on before a fault runs again.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];
/// So many faults run again at most: a machine that is never free is not waited for.
const AGAIN_MAX: usize = 12;
static AGAIN: AtomicUsize = AtomicUsize::new(0);

/// One Redis.
#[test]
fn single() {
    every_fault("single", &single::faults());
}

/// A primary with two replicas and three sentinels.
#[test]
fn sentinels() {
    every_fault("sentinels", &sentinel::faults());
}

/// Three primaries with a replica each.
#[test]
fn cluster() {
    every_fault("cluster", &cluster::faults());
}

/// Has all of them run, one after the other, prints the table, and only then panics if anything was broken.
fn every_fault<S: Site>(topology: &str, faults: &[Fault<S>]) {
    let wanted = std::env::var("RATEKEEPER_FAULTS").unwrap_or_default();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.split(',').any(|word| name.contains(word));
    let rows: Vec<Row> = faults
        .iter()
        .filter(|fault| is_wanted(fault.name))
        .map(again_if_held_up)
        .collect();
    assert!(!rows.is_empty(), "RATEKEEPER_FAULTS={wanted} names no fault");
    let table = row::table(topology, &rows);
    println!("\n{table}");
    keep(&table);
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    assert!(broken.is_empty(), "{table}\n{}", broken.join("\n"));
}

/// Has a fault run, and again, after a pause, if only times were broken and the machine held up the client or the service.
fn again_if_held_up<S: Site>(fault: &Fault<S>) -> Row {
    for pause in PAUSES {
        let row = run::run(fault);
        let times = row.broken_times();
        let by_others = row.was_held_up() && row.broken_whatever_else_ran().is_empty();
        if times.is_empty() || !by_others || AGAIN.fetch_add(1, Ordering::Relaxed) >= AGAIN_MAX {
            return row;
        }
        println!("again, since the machine was busy: {}", times.join("; "));
        std::thread::sleep(pause);
    }
    run::run(fault)
}

/// Adds a table to those that this process has written.
fn keep(table: &str) {
    static TABLES: Mutex<String> = Mutex::new(String::new());
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    tables.push_str(table);
    tables.push('\n');
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("faults.md"), tables.as_str()).unwrap();
}
