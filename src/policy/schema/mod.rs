//! The policy file: envoyproxy/ratelimit's format, with our own optional keys in `rate_limit`.
//!
//! A [`PolicyFile`] says what a file says, with places; it is compiled into the snapshot that requests see and is
//! never used at run time. [`parse`] reads a file as the reference server would read it and reports all that is wrong
//! or hardly meant. Our own keys may not be where the reference would have refused the file.

mod decode;
mod keys;
mod metadata;
mod names;
mod raw;
mod rules;
mod shard_by;
mod strict;
mod wildcard;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::names::{Algorithm, ChargeRule, OnStoreError, Scope, Unit};
pub use super::diagnostic::Place;
use super::diagnostic::{Diagnostic, Report};
use super::yaml;
pub use super::yaml::Bounds;

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFile {
    /// The file, as it was named.
    pub path: Arc<str>,
    /// The domain its rules are for, never empty.
    pub domain: String,
    /// Where the domain is named.
    pub domain_place: Place,
    /// What its limits do while the store is away, if they do not say.
    pub on_store_error: Option<OnStoreError>,
    /// Its limits are strict, if they say nothing of what they do while the store is away.
    pub strict: bool,
    /// Which entry decides where in a cluster the counters are, if the file says.
    pub shard_by: Option<ShardBy>,
    /// The rules of the first level, in the order of the file.
    pub descriptors: Vec<DescriptorNode>,
}

/// The entry whose values have one slot of a cluster each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardBy {
    /// The entry's key: 1 to [`KEY_BYTES_MAX`](crate::descriptor::KEY_BYTES_MAX) bytes.
    pub key: String,
    /// Where it stands.
    pub place: Place,
}

/// A rule for one entry of a descriptor, and those below it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescriptorNode {
    /// Where it begins.
    pub place: Place,
    /// The entry's key, never empty; may hold `*`.
    pub key: String,
    /// The entry's value; may hold `*`. None (absent or empty) is any value.
    pub value: Option<String>,
    /// Its limit. None together with no `descriptors` is a rule that matches and limits nothing.
    pub rate_limit: Option<RateLimitNode>,
    /// The rules for the next entry, in the order of the file.
    pub descriptors: Vec<DescriptorNode>,
    /// The limit is counted and reported, but denies nothing.
    pub shadow_mode: bool,
    /// The limit denies only together with all other quota limits of the request.
    pub quota_mode: bool,
    /// Metrics of the limit carry all keys and values of the request.
    pub detailed_metric: bool,
    /// Metrics of the limit carry the request's value of this entry.
    pub value_to_metric: bool,
    /// All values that match the wildcard share one counter.
    pub share_threshold: bool,
    /// Returned to the caller with the limit, never empty. An infinite number or none at all is its name as text.
    pub metadata: Option<Map<String, Value>>,
}

/// A limit.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitNode {
    /// Where it begins.
    pub place: Place,
    /// The unit of its window; none exactly if it is unlimited.
    pub unit: Option<Unit>,
    /// Requests in a window; 0 denies all that have hits.
    pub requests_per_unit: u32,
    /// It allows all and counts nothing.
    pub unlimited: bool,
    /// What `replaces` of others and the answer call it; may be empty.
    pub name: String,
    /// The names of limits that do not hold in a request that meets this one, never empty ones.
    pub replaces: Vec<String>,
    /// How it is counted, if the file says.
    pub algorithm: Option<Algorithm>,
    /// How many units its window has, if the file says; at least 1, the window at most [`Unit::WINDOW_S_MAX`].
    pub unit_multiplier: Option<u32>,
    /// The size of the token bucket, if the file says; at least 1.
    pub burst: Option<u32>,
    /// Whether all instances count it together.
    pub scope: Scope,
    /// Which hits are charged, if the file says.
    pub charge: Option<ChargeRule>,
    /// What it does while the store is away, if the file says; never [`OnStoreError::Strict`].
    pub on_store_error: Option<OnStoreError>,
    /// Whether it is strict, if the file says; never true beside anything but `on_store_error: deny`, unlimited or local.
    pub strict: Option<bool>,
}

/// What [`parse`] makes of a file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file; some exactly if no diagnostic is an error.
    pub file: Option<PolicyFile>,
    /// The file's domain, if it could be read, also of a file that is refused: that domain keeps its last good rules.
    pub domain_hint: Option<String>,
    /// All that was found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the policy file `path`, whose text is `text`.
pub fn parse(path: &str, text: &str, bounds: &Bounds) -> Parsed {
    let path: Arc<str> = path.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(path.clone(), text);
    let document = yaml::read(text, bounds);
    if let Some(failure) = &document.failure {
        report.error(failure.place, &failure.text);
        let domain_hint = decode::domain_of(&document);
        return Parsed {
            file: None,
            domain_hint,
            diagnostics: report.finish(),
        };
    }
    if let Some(place) = document.rest {
        report.warning(
            place,
            "only the first document of a file is read, and this comes after it",
        );
    }
    keys::check(&document, &mut report);
    let root = decode::root(&document, bounds, &mut report);
    // Of a million rules it is most of a gigabyte.
    drop(document);
    let domain_hint = root.domain.value.clone().filter(|domain| !domain.is_empty());
    let checked = rules::check(path, root, &mut report);
    let file = if report.has_errors() { None } else { Some(checked) };
    Parsed {
        file,
        domain_hint,
        diagnostics: report.finish(),
    }
}
