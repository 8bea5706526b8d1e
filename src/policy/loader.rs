//! From texts to a snapshot, domain by domain, keeping what was good.
//!
//! A domain is replaced only when all of its files are good. If one of them is in error, the domain stays as it was, whole; other
//! domains are untouched. Which domain a broken file belongs to is what the file still says, or what it said when it was good.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use super::compile::{self, Defaults, Fault};
use super::diagnostic::{Diagnostic, Report, Severity};
use super::domain::DomainPolicy;
use super::schema::{self, Bounds, PolicyFile};
use super::snapshot::Snapshot;

/// One file as it was read; the text, or why there is none.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The path as people know it.
    pub path: Arc<str>,
    /// The content.
    pub content: Result<String, String>,
}

/// How files are read and compiled.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// What limits get that do not say.
    pub defaults: Defaults,
    /// Several files may have the same domain.
    pub merge_domains: bool,
    /// Bounds of a file.
    pub bounds: Bounds,
}

/// What came of a load.
#[derive(Debug)]
pub struct Loaded {
    /// What is in force now.
    pub snapshot: Snapshot,
    /// Everything that was found wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// Files whose domains keep an earlier version, or have none.
    pub files_in_error: BTreeSet<Arc<str>>,
    /// Whether anything differs from the load before.
    pub changed: bool,
}

/// Remembers the last good version of every domain.
#[derive(Debug)]
pub struct Loader {
    options: LoaderOptions,
    files: BTreeMap<Arc<str>, Known>,
    domains: BTreeMap<Arc<str>, InForce>,
    version: u64,
}

/// A file as it was last seen.
#[derive(Debug)]
struct Known {
    hash: u64,
    file: Option<Arc<PolicyFile>>,
    /// Its domain; of a file in error the one that it still names, and those that it had when it was good.
    domains: BTreeSet<Arc<str>>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Debug)]
struct InForce {
    policy: Arc<DomainPolicy>,
    files: Vec<Arc<PolicyFile>>,
}

impl Loader {
    /// A loader that knows nothing yet.
    #[must_use]
    pub fn new(options: LoaderOptions) -> Self {
        Self {
            options,
            files: BTreeMap::new(),
            domains: BTreeMap::new(),
            version: 0,
        }
    }

    /// Loads all files anew. Files that are not listed any more are gone, and so are domains that no file names.
    pub fn load(&mut self, sources: &[SourceFile]) -> Loaded {
        let mut changed = self.version == 0;
        let mut files = BTreeMap::new();
        for source in sources {
            let known = self.read(source, &mut changed);
            files.insert(Arc::clone(&source.path), known);
        }
        // What was not read again is gone.
        changed |= !self.files.is_empty();
        self.files = files;

        let mut in_error: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut broken: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut by_domain: BTreeMap<Arc<str>, Vec<Arc<PolicyFile>>> = BTreeMap::new();
        for (path, known) in &self.files {
            match &known.file {
                Some(file) => {
                    by_domain
                        .entry(file.domain.as_str().into())
                        .or_default()
                        .push(Arc::clone(file));
                }
                None => {
                    in_error.insert(Arc::clone(path));
                    broken.extend(known.domains.iter().cloned());
                }
            }
        }
        let mut diagnostics: Vec<_> = self
            .files
            .values()
            .flat_map(|known| known.diagnostics.clone())
            .collect();
        for (domain, files) in &by_domain {
            let faults = if broken.contains(domain) {
                Vec::new()
            } else {
                self.put_in_force(domain, files)
            };
            if !faults.is_empty() {
                broken.insert(Arc::clone(domain));
                in_error.extend(faults.iter().map(|fault| Arc::clone(&fault.path)));
                diagnostics.extend(described(faults, sources));
            }
        }
        self.domains
            .retain(|domain, _| by_domain.contains_key(domain) || broken.contains(domain));
        broken.retain(|domain| !self.domains.contains_key(domain));
        self.version += 1;
        let policies = self.domains.values().map(|domain| Arc::clone(&domain.policy));
        let nameless = |known: &Known| known.file.is_none() && known.domains.is_empty();
        let snapshot = Snapshot::new(self.version, policies, broken)
            .with_unknown_in_error(self.files.values().any(nameless));
        Loaded {
            snapshot,
            diagnostics,
            files_in_error: in_error,
            changed,
        }
    }

    fn read(&mut self, source: &SourceFile, changed: &mut bool) -> Known {
        let mut hasher = DefaultHasher::new();
        source.content.hash(&mut hasher);
        let hash = hasher.finish();
        let before = self.files.remove(&source.path);
        if let Some(known) = before {
            if known.hash == hash {
                return known;
            }
            *changed = true;
            return self.parse(source, hash, known.domains);
        }
        *changed = true;
        self.parse(source, hash, BTreeSet::new())
    }

    fn parse(&self, source: &SourceFile, hash: u64, mut domains: BTreeSet<Arc<str>>) -> Known {
        let parsed = match &source.content {
            Ok(text) => schema::parse(&source.path, text, &self.options.bounds),
            Err(reason) => {
                let mut report = Report::new(Arc::clone(&source.path), "");
                report.error(schema::Place::START, reason);
                schema::Parsed {
                    file: None,
                    domain_hint: None,
                    diagnostics: report.finish(),
                }
            }
        };
        if let Some(file) = &parsed.file {
            domains.clear();
            domains.insert(file.domain.as_str().into());
        } else {
            domains.extend(parsed.domain_hint.map(Arc::from));
        }
        Known {
            hash,
            file: parsed.file.map(Arc::new),
            domains,
            diagnostics: parsed.diagnostics,
        }
    }

    /// Compiles a domain and puts it in force, unless its files are those in force already or there are faults.
    fn put_in_force(&mut self, domain: &Arc<str>, files: &[Arc<PolicyFile>]) -> Vec<Fault> {
        let same = |before: &InForce| {
            before.files.len() == files.len()
                && before.files.iter().zip(files).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if self.domains.get(domain).is_some_and(same) {
            return Vec::new();
        }
        if files.len() > 1 && !self.options.merge_domains {
            let text = format!(
                "duplicate domain '{domain}' in config file, first in {}",
                files[0].path
            );
            let fault = |file: &Arc<PolicyFile>| Fault {
                path: Arc::clone(&file.path),
                place: file.domain_place,
                text: text.clone(),
            };
            return files[1..].iter().map(fault).collect();
        }
        let (policy, faults) = compile::compile(domain, files, self.options.defaults);
        if faults.is_empty() {
            let in_force = InForce {
                policy: Arc::new(policy),
                files: files.to_vec(),
            };
            self.domains.insert(Arc::clone(domain), in_force);
        }
        faults
    }
}

/// Faults as diagnostics, with the lines of their files.
fn described(faults: Vec<Fault>, sources: &[SourceFile]) -> Vec<Diagnostic> {
    let mut by_path: BTreeMap<Arc<str>, Vec<Fault>> = BTreeMap::new();
    for fault in faults {
        by_path.entry(Arc::clone(&fault.path)).or_default().push(fault);
    }
    let mut diagnostics = Vec::new();
    for (path, faults) in by_path {
        let text = sources
            .iter()
            .find(|source| source.path == path)
            .and_then(|source| source.content.as_ref().ok());
        let mut report = Report::new(path, text.map_or("", String::as_str));
        for fault in faults {
            report.error(fault.place, fault.text);
        }
        diagnostics.extend(report.finish());
    }
    diagnostics
}

impl Loaded {
    /// How many diagnostics have that severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }
}
