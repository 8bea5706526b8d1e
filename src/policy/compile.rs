//! From files as written to a domain in force.

use std::hash::Hasher as _;
use std::sync::{Arc, OnceLock};

use siphasher::sip::SipHasher13;

use super::diagnostic::{Place, Quoted};
use super::domain::DomainPolicy;
use super::rule::{Rule, RuleLimit};
use super::schema::{Algorithm, ChargeRule, DescriptorNode, OnStoreError, PolicyFile, RateLimitNode, Scope};
use crate::limiter::{self, Limit};

/// What limits get that do not say.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// How hits are counted.
    pub algorithm: Algorithm,
    /// Which hits are charged.
    pub charge: ChargeRule,
    /// What a limit does while the store is away; domains can say it as well.
    pub on_store_error: OnStoreError,
}

/// What can be seen only over several files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: Arc<str>,
    /// The place in it.
    pub place: Place,
    /// What is wrong.
    pub text: String,
}

/// Compiles the files of one domain, in the order given. The faults are keys and values that stand twice on the first level,
/// in two files; what is wrong with one file alone was said when it was parsed.
#[must_use]
pub fn compile(domain: &str, files: &[Arc<PolicyFile>], defaults: Defaults) -> (DomainPolicy, Vec<Fault>) {
    let mut compiled = DomainPolicy::new(domain);
    let mut faults = Vec::new();
    for file in files {
        let mut level = Level {
            file,
            defaults,
            domain: &mut compiled,
            faults: &mut faults,
        };
        level.add_all(DomainPolicy::root(), "", &file.descriptors);
    }
    compiled.set_shard_by(shard_by(files, &mut faults));
    (compiled, faults)
}

/// The entry that decides where a domain's counters are: that of the first file that says it, for the rules of all.
fn shard_by<'f>(files: &'f [Arc<PolicyFile>], faults: &mut Vec<Fault>) -> Option<&'f str> {
    let mut saying = files
        .iter()
        .filter_map(|file| Some((file, file.shard_by.as_ref()?)));
    let (first_file, first) = saying.next()?;
    for (file, other) in saying.filter(|(_, other)| other.key != first.key) {
        let (key, earlier) = (Quoted(&other.key), Quoted(&first.key));
        let path = &first_file.path;
        faults.push(Fault {
            path: Arc::clone(&file.path),
            place: other.place,
            text: format!("'shard_by' is {key} here and {earlier} in {path}, but a domain has one"),
        });
    }
    Some(&first.key)
}

/// The numbers of an algorithm name over a window.
#[must_use]
pub fn limit_of(
    algorithm: Algorithm,
    requests: u32,
    window_s: u64,
    burst: Option<u32>,
    local: bool,
) -> Limit {
    let algorithm = match algorithm {
        _ if local => limiter::Algorithm::LocalBucket,
        Algorithm::SlidingWindow => limiter::Algorithm::SlidingWindow,
        Algorithm::FixedWindow => limiter::Algorithm::FixedWindow,
        Algorithm::TokenBucket => limiter::Algorithm::TokenBucket,
    };
    Limit::new(algorithm, requests, window_s * 1_000_000, burst)
}

/// A number for a domain and a path in it (`""` for its overrides).
#[must_use]
pub fn rule_id(domain: &str, path: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(domain.as_bytes());
    hasher.write_u8(0);
    hasher.write(path.as_bytes());
    hasher.finish()
}

struct Level<'a> {
    file: &'a PolicyFile,
    defaults: Defaults,
    domain: &'a mut DomainPolicy,
    faults: &'a mut Vec<Fault>,
}

impl Level<'_> {
    /// Depth is bounded where the file is read.
    fn add_all(&mut self, parent: u32, path: &str, descriptors: &[DescriptorNode]) {
        for node in descriptors {
            let composite = match &node.value {
                Some(value) => format!("{}_{value}", node.key),
                None => node.key.clone(),
            };
            let path = if path.is_empty() {
                composite
            } else {
                format!("{path}.{composite}")
            };
            let rule = node
                .rate_limit
                .as_ref()
                .and_then(|limit| self.rule(node, limit, &path));
            match self.domain.add(parent, &node.key, node.value.as_deref(), rule) {
                Some(id) => {
                    self.domain
                        .set_flags(id, node.share_threshold, node.value_to_metric);
                    self.add_all(id, &path, &node.descriptors);
                }
                None => self.faults.push(Fault {
                    path: Arc::clone(&self.file.path),
                    place: node.place,
                    text: format!(
                        "duplicate descriptor composite key '{}.{path}'",
                        self.domain.name()
                    ),
                }),
            }
        }
    }

    fn rule(&self, node: &DescriptorNode, limit: &RateLimitNode, path: &str) -> Option<Rule> {
        let limit_in_force = if limit.unlimited {
            None
        } else {
            Some(self.limit(limit)?)
        };
        Some(Rule {
            limit: limit_in_force,
            name: limit.name.as_str().into(),
            replaces: limit
                .replaces
                .iter()
                .map(|name| Arc::from(name.as_str()))
                .collect(),
            shadow: node.shadow_mode,
            quota: node.quota_mode,
            detailed_metric: node.detailed_metric,
            metadata: node.metadata.clone().map(Arc::new),
            path: path.into(),
            id: rule_id(self.domain.name(), path),
            file: Arc::clone(&self.file.path),
            line: node.place.line,
            series: OnceLock::new(),
        })
    }

    /// `None` can't happen for a file without errors: its unit is known and its window in bounds.
    fn limit(&self, limit: &RateLimitNode) -> Option<RuleLimit> {
        let unit = limit.unit?;
        let window_s = unit.window_s(limit.unit_multiplier.unwrap_or(1))?;
        let local = limit.scope == Scope::Local;
        let algorithm = limit.algorithm.unwrap_or(self.defaults.algorithm);
        Some(RuleLimit {
            limit: limit_of(algorithm, limit.requests_per_unit, window_s, limit.burst, local),
            requests_per_unit: limit.requests_per_unit,
            unit,
            unit_multiplier: limit.unit_multiplier,
            charge: limit.charge.unwrap_or(self.defaults.charge),
            local,
            on_store_error: self.on_store_error(limit),
        })
    }

    /// What the limit says itself goes before what the file says of either kind.
    fn on_store_error(&self, limit: &RateLimitNode) -> OnStoreError {
        let own = limit.on_store_error;
        let of_file = self.file.strict && own.is_none();
        if limit.strict.unwrap_or(of_file) {
            OnStoreError::Strict
        } else {
            own.or(self.file.on_store_error)
                .unwrap_or(self.defaults.on_store_error)
        }
    }
}
