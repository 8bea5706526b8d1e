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
use std::sync::{Mutex, PoisonError};

use fault::{Fault, Site};
use row::Row;

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
        .map(once_more_if_held_up)
        .collect();
    assert!(!rows.is_empty(), "RATEKEEPER_FAULTS={wanted} names no fault");
    let table = row::table(topology, &rows);
    println!("\n{table}");
    keep(&table);
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    assert!(broken.is_empty(), "{table}\n{}", broken.join("\n"));
}

/// Has a fault run, and a second time if only the client's own times were broken, on a machine that held it up.
fn once_more_if_held_up<S: Site>(fault: &Fault<S>) -> Row {
    let row = run::run(fault);
    let felt = row.felt_by_the_client();
    if felt.is_empty() || !row.was_held_up() || !row.broken_by_the_service().is_empty() {
        return row;
    }
    println!("once more, since the machine was busy: {}", felt.join("; "));
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
