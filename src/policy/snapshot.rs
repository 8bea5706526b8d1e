//! All domains in force at one moment.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::domain::DomainPolicy;

/// An immutable set of domains, swapped as a whole. A domain whose files did not change is the same object in the next one.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Names that are looked for come from outside, those that are held do not: a fast hash will do.
    domains: HashMap<Arc<str>, Arc<DomainPolicy>, foldhash::fast::RandomState>,
    in_error: BTreeSet<Arc<str>>,
    /// A file in error tells no domain, so that any unknown one may be its.
    unknown_in_error: bool,
    version: u64,
}

/// What is known of a domain.
#[derive(Debug)]
pub enum Lookup<'s> {
    /// Its policy.
    Found(&'s DomainPolicy),
    /// No file names it.
    Unknown,
    /// A file names it, but that file is in error and was never good.
    InError,
    /// Nothing was loaded yet.
    NotLoaded,
}

impl Snapshot {
    /// A snapshot of these domains, from the `version`th load, at least 1. `in_error` names the domains that are known only
    /// from files in error.
    #[must_use]
    pub fn new(
        version: u64,
        domains: impl IntoIterator<Item = Arc<DomainPolicy>>,
        in_error: BTreeSet<Arc<str>>,
    ) -> Self {
        let domains = domains
            .into_iter()
            .map(|domain| (Arc::clone(domain.name()), domain))
            .collect();
        Self {
            domains,
            in_error,
            unknown_in_error: false,
            version,
        }
    }

    /// The domain of that name.
    #[must_use]
    pub fn look_up(&self, name: &str) -> Lookup<'_> {
        match self.domains.get(name) {
            Some(domain) => Lookup::Found(domain),
            None if self.version == 0 => Lookup::NotLoaded,
            None if self.unknown_in_error || self.in_error.contains(name) => Lookup::InError,
            None => Lookup::Unknown,
        }
    }

    /// Notes that a file in error tells no domain and never did: what is unknown may be in there.
    #[must_use]
    pub fn with_unknown_in_error(mut self, unknown_in_error: bool) -> Self {
        self.unknown_in_error = unknown_in_error;
        self
    }

    /// All domains, sorted by name.
    #[must_use]
    pub fn domains(&self) -> Vec<&Arc<DomainPolicy>> {
        let mut all: Vec<_> = self.domains.values().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Counts the loads: 0 before the first one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}
