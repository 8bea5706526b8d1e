//! `ratekeeper check`: everything wrong with policy files, before they are rolled out.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::USAGE;
use crate::policy::compile::Defaults;
use crate::policy::loader::{Loader, LoaderOptions};
use crate::policy::schema::{Algorithm, Bounds, ChargeRule, OnStoreError};
use crate::policy::source::file::{self, FileBounds};

pub(super) fn command() -> Command {
    Command::new("check")
        .about("Check policy files; ends with 1 if anything is wrong with them")
        .after_help(
            "Prints PATH:LINE:COLUMN: TEXT with the line for each problem. What `serve` would load with a warning is a \
             problem here, too. Exit codes: 0 clean, 1 problems, 2 wrong usage or unreadable paths.",
        )
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Policy files, or directories of them; all are checked together"),
        )
        .arg(
            Arg::new("merge-domain-config")
                .long("merge-domain-config")
                .action(ArgAction::SetTrue)
                .help("Several files may have the same domain"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let bounds = FileBounds {
        bytes_max: 64 << 20,
        files_max: 10_000,
    };
    let mut files = Vec::new();
    for path in matches.get_many::<PathBuf>("path").into_iter().flatten() {
        match file::read(path, bounds) {
            Ok(read) => files.extend(read),
            Err(error) => {
                // A closed standard error is no reason to complain.
                let _ = writeln!(std::io::stderr(), "ratekeeper: {error}");
                return ExitCode::from(USAGE);
            }
        }
    }
    let mut loader = Loader::new(LoaderOptions {
        // No diagnostic depends on the defaults.
        defaults: Defaults {
            algorithm: Algorithm::SlidingWindow,
            charge: ChargeRule::Auto,
            on_store_error: OnStoreError::Local,
        },
        merge_domains: matches.get_flag("merge-domain-config"),
        bounds: Bounds::default(),
    });
    let loaded = loader.load(&files);
    let mut out = std::io::stdout().lock();
    for diagnostic in &loaded.diagnostics {
        // A closed pipe is no reason to complain.
        let _ = writeln!(out, "{diagnostic}");
    }
    let rules: usize = loaded
        .snapshot
        .domains()
        .iter()
        .map(|domain| domain.rules_len())
        .sum();
    let summary = (
        files.len(),
        loaded.snapshot.domains().len(),
        rules,
        loaded.diagnostics.len(),
    );
    let (files, domains, rules, problems) = summary;
    let _ = writeln!(
        out,
        "{files} files, {domains} domains, {rules} rules, {problems} problems"
    );
    if problems == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
