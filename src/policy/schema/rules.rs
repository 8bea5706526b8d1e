//! What must hold between the values of a policy file: the reference server's rules in its words, and those of our keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::names::{DidYouMean, Named};
use super::raw::{Field, RawDescriptor, RawRateLimit, RawReplaces, RawRoot};
use super::wildcard::{Level, Pattern};
use super::{Algorithm, ChargeRule, DescriptorNode, OnStoreError, PolicyFile, RateLimitNode, Scope, Unit};
use super::{shard_by, strict};
use crate::policy::diagnostic::{Place, Quoted, Report};

/// Makes the file of its values; it is only good if the report has no errors.
pub(super) fn check(path: Arc<str>, root: RawRoot, report: &mut Report<'_>) -> PolicyFile {
    let domain_place = root.domain.place_or(root.place);
    let domain = root.domain.text().to_owned();
    if domain.is_empty() && !root.domain.wrong {
        report.error(domain_place, "config file cannot have empty domain");
    }
    let mut checker = Checker {
        report,
        parent: domain.clone(),
    };
    let on_store_error = checker.word::<OnStoreError>("on_store_error", &root.on_store_error);
    let descriptors = checker.level(root.descriptors);
    strict::check_file(&root.strict, on_store_error, report);
    let shard_by = shard_by::check(&root.shard_by, &descriptors, report);
    PolicyFile {
        path,
        domain,
        domain_place,
        on_store_error,
        strict: root.strict.is_true(),
        shard_by,
        descriptors,
    }
}

struct Checker<'r, 's> {
    report: &'r mut Report<'s>,
    /// The domain and the composite keys down to the level that is checked, joined by dots.
    parent: String,
}

impl Checker<'_, '_> {
    /// Recursion is bounded by the most descriptors within each other.
    fn level(&mut self, raw: Vec<RawDescriptor>) -> Vec<DescriptorNode> {
        let mut seen: HashMap<String, u32> = HashMap::with_capacity(raw.len());
        let mut wildcards = Level::default();
        let mut nodes = Vec::with_capacity(raw.len());
        for descriptor in raw {
            let composite = composite_key(&descriptor);
            if !descriptor.key.wrong && !descriptor.value.wrong && !descriptor.key.text().is_empty() {
                self.unique(&descriptor, &composite, &mut seen);
                wildcards.add(Pattern {
                    composite: composite.clone(),
                    key_only: descriptor.value.text().is_empty(),
                    place: descriptor.key.place_or(descriptor.place),
                });
            }
            nodes.push(self.descriptor(descriptor, &composite));
        }
        wildcards.report_unreachable(self.report);
        nodes
    }

    fn unique(&mut self, descriptor: &RawDescriptor, composite: &str, seen: &mut HashMap<String, u32>) {
        let place = descriptor.key.place_or(descriptor.place);
        match seen.get(composite) {
            None => _ = seen.insert(composite.to_owned(), place.line),
            Some(line) => {
                let full = format!("{}.{composite}", self.parent);
                let full = Quoted(&full);
                self.report.error(
                    place,
                    format_args!("duplicate descriptor composite key {full}: first on line {line}"),
                );
            }
        }
    }

    fn descriptor(&mut self, raw: RawDescriptor, composite: &str) -> DescriptorNode {
        self.key_and_value(&raw, composite);
        if raw.rate_limit.value.is_none() && !raw.rate_limit.wrong {
            self.no_effect_without_limit("shadow_mode", &raw.shadow_mode);
            self.no_effect_without_limit("quota_mode", &raw.quota_mode);
            self.no_effect_without_limit("detailed_metric", &raw.detailed_metric);
        }
        let rate_limit_place = raw.rate_limit.place_or(raw.place);
        let rate_limit = raw
            .rate_limit
            .value
            .map(|limit| self.rate_limit(*limit, rate_limit_place));

        let parent_len = self.parent.len();
        self.parent.push('.');
        self.parent.push_str(composite);
        let descriptors = self.level(raw.descriptors);
        self.parent.truncate(parent_len);

        DescriptorNode {
            place: raw.place,
            rate_limit,
            descriptors,
            shadow_mode: raw.shadow_mode.is_true(),
            quota_mode: raw.quota_mode.is_true(),
            detailed_metric: raw.detailed_metric.is_true(),
            value_to_metric: raw.value_to_metric.is_true(),
            share_threshold: raw.share_threshold.is_true(),
            key: raw.key.value.unwrap_or_default(),
            value: raw.value.value.filter(|value| !value.is_empty()),
            metadata: Some(raw.metadata).filter(|metadata| !metadata.is_empty()),
        }
    }

    fn key_and_value(&mut self, raw: &RawDescriptor, composite: &str) {
        if raw.key.text().is_empty() && !raw.key.wrong {
            self.report
                .error(raw.key.place_or(raw.place), "descriptor has empty key");
        }
        if let (Some(place), "", false) = (raw.value.place, raw.value.text(), raw.value.wrong) {
            self.report.warning(
                place,
                "an empty value is read as none: the descriptor is for every value of its key",
            );
        }
        if raw.share_threshold.is_true() && !composite.contains('*') && !raw.key.wrong && !raw.value.wrong {
            let key = Quoted(composite);
            self.report.error(
                raw.share_threshold.place_or(raw.place),
                format_args!(
                    "share_threshold can only be used with wildcard values (containing '*'), but found key {key}"
                ),
            );
        }
    }

    fn no_effect_without_limit(&mut self, name: &str, field: &Field<bool>) {
        if let (true, Some(place)) = (field.is_true(), field.place) {
            self.report.warning(
                place,
                format_args!("'{name}' has no effect: the descriptor has no 'rate_limit'"),
            );
        }
    }

    fn rate_limit(&mut self, raw: RawRateLimit, place: Place) -> RateLimitNode {
        let unlimited = raw.unlimited.is_true();
        let unit = self.unit(&raw, unlimited, place);
        let missing = raw.requests_per_unit.value.is_none() && !raw.requests_per_unit.wrong;
        if missing && !unlimited && !raw.unlimited.wrong {
            self.report.warning(
                raw.requests_per_unit.place_or(place),
                "'requests_per_unit' is missing and read as 0: the limit denies everything",
            );
        }
        for replaced in &raw.replaces {
            self.replaces(replaced, &raw.name);
        }
        let algorithm = self.word::<Algorithm>("algorithm", &raw.algorithm);
        let scope = self.word::<Scope>("scope", &raw.scope);
        let charge = self.word::<ChargeRule>("charge", &raw.charge);
        let on_store_error = self.word::<OnStoreError>("on_store_error", &raw.on_store_error);
        strict::check_limit(&raw, scope, on_store_error, self.report);
        self.algorithm_fits_scope(&raw, algorithm, scope, place);
        self.at_least_one("burst", &raw.burst);
        self.at_least_one("unit_multiplier", &raw.unit_multiplier);
        self.window(&raw, unit);
        RateLimitNode {
            place,
            unit,
            requests_per_unit: raw.requests_per_unit.value.unwrap_or_default(),
            unlimited,
            name: raw.name.value.unwrap_or_default(),
            replaces: raw
                .replaces
                .into_iter()
                .filter_map(|replaced| replaced.name.value)
                .collect(),
            algorithm,
            unit_multiplier: raw.unit_multiplier.value,
            burst: raw.burst.value,
            scope: scope.unwrap_or_default(),
            charge,
            on_store_error,
            strict: raw.strict.value,
        }
    }

    fn unit(&mut self, raw: &RawRateLimit, unlimited: bool, owner: Place) -> Option<Unit> {
        let written = raw.unit.text();
        let place = raw.unit.place_or(owner);
        match (Unit::from_name(written), unlimited) {
            (Some(_), true) => {
                self.report
                    .error(place, "should not specify rate limit unit when unlimited");
                None
            }
            (Some(unit), false) => Some(unit),
            (None, true) => {
                if !written.is_empty() {
                    let unit = Quoted(written);
                    self.report.warning(
                        place,
                        format_args!("invalid rate limit unit {unit}, ignored when unlimited"),
                    );
                }
                None
            }
            (None, false) => {
                // What it would be if `unit` or `unlimited` had the right type cannot be known.
                if !raw.unit.wrong && !raw.unlimited.wrong {
                    let hint = DidYouMean(written, Unit::ALL.iter().map(|unit| unit.name()));
                    let unit = Quoted(written);
                    self.report
                        .error(place, format_args!("invalid rate limit unit {unit}{hint}"));
                }
                None
            }
        }
    }

    fn replaces(&mut self, replaced: &RawReplaces, own_name: &Field<String>) {
        let place = replaced.name.place_or(replaced.place);
        let name = replaced.name.text();
        if name.is_empty() {
            if !replaced.name.wrong {
                self.report
                    .error(place, "should not have an empty replaces entry");
            }
        } else if name == own_name.text() {
            self.report
                .error(place, "replaces should not contain name of same descriptor");
        }
    }

    fn word<T: Named>(&mut self, key: &str, field: &Field<String>) -> Option<T> {
        let written = field.value.as_deref()?;
        let word = T::from_word(written);
        if word.is_none() {
            let names = T::WORDS.iter().map(|&(name, _)| name);
            let hint = DidYouMean(written, names.clone());
            let written = Quoted(written);
            self.report.error(
                field.place_or(Place::START),
                format_args!("unknown {key} {written}, must be one of {}{hint}", Listed(names)),
            );
        }
        word
    }

    fn algorithm_fits_scope(
        &mut self,
        raw: &RawRateLimit,
        algorithm: Option<Algorithm>,
        scope: Option<Scope>,
        owner: Place,
    ) {
        let local = scope == Some(Scope::Local);
        if let (true, Some(Algorithm::SlidingWindow | Algorithm::FixedWindow)) = (local, algorithm) {
            let algorithm = Quoted(raw.algorithm.text());
            self.report.error(
                raw.algorithm.place_or(owner),
                format_args!("algorithm {algorithm} beside 'scope: local', which is always a token_bucket"),
            );
        }
        // A wrong word was reported; what it should have been cannot be known.
        let unknown = (raw.algorithm.place.is_some() && algorithm.is_none())
            || (raw.scope.place.is_some() && scope.is_none());
        let bucket = local || algorithm == Some(Algorithm::TokenBucket);
        if raw.burst.value.is_some() && !bucket && !unknown {
            self.report.error(
                raw.burst.place_or(owner),
                "'burst' needs 'algorithm: token_bucket' or 'scope: local' beside it",
            );
        }
    }

    fn at_least_one(&mut self, key: &str, field: &Field<u32>) {
        if let (Some(0), Some(place)) = (field.value, field.place) {
            self.report
                .error(place, format_args!("'{key}' must be at least 1, not 0"));
        }
    }

    fn window(&mut self, raw: &RawRateLimit, unit: Option<Unit>) {
        if let (Some(unit), Some(multiplier), Some(place)) =
            (unit, raw.unit_multiplier.value, raw.unit_multiplier.place)
            && multiplier > 0
            && unit.window_s(multiplier).is_none()
        {
            let unit = unit.name();
            self.report.error(
                place,
                format_args!("the window of {multiplier} × {unit} is longer than 100 years of 365 days"),
            );
        }
    }
}

/// The reference server's name of a descriptor on its level: `key` or `key_value`.
fn composite_key(raw: &RawDescriptor) -> String {
    match raw.value.text() {
        "" => raw.key.text().to_owned(),
        value => format!("{}_{value}", raw.key.text()),
    }
}

/// Displays names as `a, b, c`.
struct Listed<I>(I);

impl<I: Iterator<Item = &'static str> + Clone> fmt::Display for Listed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.clone().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
