//! Keeps the snapshot in force up to date with the files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::background;
use super::diagnostic::{Diagnostic, Severity};
use super::loader::{Loaded, Loader};
use super::snapshot::Snapshot;
use super::source::file::{self, FileBounds, Found, SourceError};
use super::source::watch::{Poke, Watch};

/// Diagnostics logged at one load; the rest is counted.
const LOGGED_MAX: usize = 20;

/// How often, and how long apart, requests are asked to let go of a snapshot: longer than a store lets them wait.
const RETIRED_LOOKS: u32 = 20;
const RETIRED_PAUSE: Duration = Duration::from_millis(5);

/// From this size on loading takes long enough that other threads are let go first.
const LARGE_BYTES: u64 = 1 << 20;

/// How the policies stand after a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The snapshot's version: how often it was loaded.
    pub version: u64,
    /// There was a load without any file in error.
    pub clean_once: bool,
    /// Files in error now; their domains keep the last good version.
    pub files_in_error: Vec<String>,
    /// The first error of each of those files, or why nothing could be read.
    pub errors: Vec<String>,
    /// Things that are loaded, but hardly meant.
    pub warnings: usize,
    /// Domains in force.
    pub domains: usize,
    /// Rules in force.
    pub rules: usize,
}

impl PolicyStatus {
    /// Whether what is in force is not what the files say.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.errors.is_empty()
    }
}

/// Loads at the start and whenever files change.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    bounds: FileBounds,
    loader: Loader,
    watch: Watch,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// How long the files of the load before were together.
    bytes: u64,
    /// Snapshots that requests may still hold.
    retired: Vec<Arc<Snapshot>>,
    status: PolicyStatus,
    started: bool,
}

/// Stops a [`Reloader`] and wakes it for other reasons.
#[derive(Clone, Debug)]
pub struct ReloadHandle {
    poke: Poke,
    stop: Arc<AtomicBool>,
}

impl ReloadHandle {
    /// Makes it load now.
    pub fn reload(&self) {
        self.poke.poke();
    }

    /// Makes it end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.poke.poke();
    }
}

impl Reloader {
    /// A reloader of what is at `path` into `snapshot`.
    #[must_use]
    pub fn new(path: PathBuf, bounds: FileBounds, loader: Loader, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        let watch = Watch::new(&path);
        Self {
            path,
            bounds,
            loader,
            watch,
            snapshot,
            bytes: 0,
            retired: Vec::new(),
            status: PolicyStatus::default(),
            started: false,
        }
    }

    /// Runs until it is stopped; `report` is told the status after each load. Blocks: it wants a thread of its own.
    pub fn run(mut self, poll: Duration, stop: &AtomicBool, mut report: impl FnMut(&PolicyStatus, bool)) {
        loop {
            // Before what it leads to is read, so that no change falls between the two.
            self.watch.renew();
            let ok = self.load();
            report(&self.status, ok);
            // A directory that came meanwhile was read, or was not, and was not watched.
            let is_settled = !self.watch.renew();
            if is_settled {
                self.watch.wait(poll);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// What stops and wakes it.
    #[must_use]
    pub fn handle(&self, stop: Arc<AtomicBool>) -> ReloadHandle {
        ReloadHandle {
            poke: self.watch.poke(),
            stop,
        }
    }

    /// Drops snapshots that no request holds any more. Here, because a million rules take longer to drop than a request may
    /// take, and the last one to let go of them would be a request. Those that are held are looked at again after the next load.
    fn drop_retired(&mut self) {
        for _ in 0..RETIRED_LOOKS {
            // Nobody can take hold of them anew.
            self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
            if self.retired.is_empty() {
                return;
            }
            std::thread::sleep(RETIRED_PAUSE);
        }
    }

    /// Loads once. Returns whether all files were good.
    fn load(&mut self) -> bool {
        let found = match file::find(&self.path, self.bounds) {
            Ok(found) => found,
            // At the start there may be no policies yet; later a directory that is gone is more likely being replaced.
            Err(SourceError::Missing(path)) if !self.started => {
                tracing::warn!(path = %path.display(), "policy directory is missing, it is read as an empty one");
                Found::default()
            }
            Err(error) => {
                let errors = vec![error.to_string()];
                if self.status.errors != errors {
                    tracing::error!(%error, "policies can't be read, the last good ones stay in force");
                }
                self.status.errors = errors;
                return false;
            }
        };
        // What was large takes long to drop.
        let bytes = found.bytes.max(std::mem::replace(&mut self.bytes, found.bytes));
        if self.started && bytes >= LARGE_BYTES {
            background::run(|| self.load_found(&found))
        } else {
            self.load_found(&found)
        }
    }

    fn load_found(&mut self, found: &Found) -> bool {
        let files = found.read(self.bounds);
        self.started = !files.is_empty() || self.path.exists();
        let loaded = self.loader.load(&files);
        if loaded.changed {
            log(&loaded);
        }
        let errors: Vec<String> = loaded
            .files_in_error
            .iter()
            .map(|path| {
                let of_file = |it: &&Diagnostic| it.path == *path && it.severity == Severity::Error;
                let first = loaded.diagnostics.iter().find(of_file);
                first.map_or_else(
                    || path.to_string(),
                    |it| it.to_string().lines().next().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        let domains = loaded.snapshot.domains();
        self.status = PolicyStatus {
            version: loaded.snapshot.version(),
            clean_once: self.status.clean_once || errors.is_empty(),
            files_in_error: loaded.files_in_error.iter().map(ToString::to_string).collect(),
            errors,
            warnings: loaded.count(Severity::Warning),
            domains: domains.len(),
            rules: domains.iter().map(|domain| domain.rules_len()).sum(),
        };
        let old = self.snapshot.swap(Arc::new(loaded.snapshot));
        self.retired.push(old);
        self.drop_retired();
        !self.status.is_degraded()
    }
}

fn log(loaded: &Loaded) {
    for diagnostic in loaded.diagnostics.iter().take(LOGGED_MAX) {
        match diagnostic.severity {
            Severity::Error => tracing::error!("{diagnostic}"),
            Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
    if loaded.diagnostics.len() > LOGGED_MAX {
        tracing::warn!(
            "{} more problems; `ratekeeper check` shows all",
            loaded.diagnostics.len() - LOGGED_MAX
        );
    }
    let (version, domains) = (loaded.snapshot.version(), loaded.snapshot.domains().len());
    if loaded.files_in_error.is_empty() {
        tracing::info!(version, domains, "policies loaded");
    } else {
        let files = loaded
            .files_in_error
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        tracing::error!(
            version,
            domains,
            files,
            "policy files in error, their domains keep the last good version"
        );
    }
}
