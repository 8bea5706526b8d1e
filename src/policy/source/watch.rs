//! Says when policy files may have changed.
//!
//! Directories are watched, not files: a watched file is lost with the first rename over it, which is how editors write and
//! how Kubernetes swaps `..data`. Links on the way to the directory are watched where they stand. A slow poll by the
//! caller covers what the system does not report (network file systems, an overflown queue).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Reports that come within this time of each other are one.
const SETTLE: Duration = Duration::from_millis(100);
/// Reports are held back for this many settle times at most.
const SETTLES_MAX: usize = 8;

/// Why [`Watch::wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something may have changed.
    Changed,
    /// Nothing was reported for the whole time.
    Quiet,
}

/// Pokes a [`Watch`] from outside.
#[derive(Clone, Debug)]
pub struct Poke(SyncSender<()>);

impl Poke {
    /// Makes the watch wake as if a file had changed.
    pub fn poke(&self) {
        // A full channel already holds a wake-up; a closed one belongs to a watch that ended.
        let _ = self.0.try_send(());
    }
}

/// Watches a policy path.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    reports: Receiver<()>,
    poke: Poke,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches `path`, a file or a directory, there or not there yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let (sender, reports) = sync_channel(1);
        let mut watch = Self {
            path: path.to_owned(),
            reports,
            poke: Poke(sender),
            watcher: None,
            watched: BTreeSet::new(),
        };
        watch.renew();
        watch
    }

    /// Something to poke it with.
    #[must_use]
    pub fn poke(&self) -> Poke {
        self.poke.clone()
    }

    /// Waits until something may have changed and then for the changes to settle, at most for `poll`.
    pub fn wait(&mut self, poll: Duration) -> Wake {
        match self.reports.recv_timeout(poll) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Wake::Quiet,
        }
        for _ in 0..SETTLES_MAX {
            if self.reports.recv_timeout(SETTLE).is_err() {
                break;
            }
        }
        Wake::Changed
    }

    /// Watches what the path leads to now; to be called after each change, since a link may point elsewhere. Whether that is anything
    /// else than before.
    pub fn renew(&mut self) -> bool {
        let wanted = places(&self.path);
        if self.watcher.is_some() && wanted == self.watched {
            return false;
        }
        let poke = self.poke.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, and writing is none before the file is closed: half a file may be a valid one.
            let closed = AccessKind::Close(AccessMode::Write);
            let passed_over = |kind: &EventKind| match kind {
                EventKind::Access(access) => *access != closed,
                EventKind::Modify(ModifyKind::Data(_)) => true,
                _ => false,
            };
            if !event.is_ok_and(|event| passed_over(&event.kind)) {
                poke.poke();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "policy files can't be watched, they are only polled");
                return false;
            }
        };
        for place in &wanted {
            if let Err(error) = watcher.watch(place, RecursiveMode::NonRecursive) {
                tracing::warn!(path = %place.display(), %error, "path can't be watched, it is only polled");
            }
        }
        self.watcher = Some(watcher);
        self.watched = wanted;
        true
    }
}

/// The directories in which a change can change what is at `path`.
fn places(path: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // Links on the way, and the nearest directory that exists if the path itself does not.
    for part in path.ancestors().filter(|part| !part.as_os_str().is_empty()) {
        if part.is_symlink() || (!part.exists() && parent(part).exists()) {
            places.insert(parent(part));
        }
    }
    let Ok(real) = path.canonicalize() else {
        return places;
    };
    if real.is_dir() {
        below(&real, 0, &mut places);
    } else {
        places.insert(parent(&real));
        places.insert(parent(path));
    }
    places
}

fn below(dir: &Path, depth: usize, places: &mut BTreeSet<PathBuf>) {
    places.insert(dir.to_owned());
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if !hidden && depth < 16 && path.is_dir() && places.len() < 1_000 {
            below(&path, depth + 1, places);
        }
    }
}
