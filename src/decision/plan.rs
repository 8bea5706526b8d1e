//! Which charges a request asks for.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use smallvec::SmallVec;

use super::buffers::Parts;
use super::{Numbers, Options, numbers_of};
use crate::descriptor::{Descriptor, Entry, Hits, KeyEncoder, KeyPart, KeySuffix, Request, Unit};
use crate::limiter::{Algorithm, Charge, Micros, Mode, Prior};
use crate::policy::schema::ChargeRule;
use crate::policy::{DomainPolicy, Path, Rule};
use crate::telemetry::{LimitSeries, Telemetry};

/// What one descriptor is subject to.
pub(super) enum Subject<'p> {
    /// No limit.
    Free {
        /// The rule, if one matched that a `replaces` put out of force, or that is unlimited.
        rule: Option<&'p Rule>,
        unlimited: bool,
    },
    /// A limit, and where its charge is.
    Limited {
        rule: Option<&'p Rule>,
        shown: Shown,
        /// Which of the two batches holds the charge.
        local: bool,
        charge: usize,
        series: Series<'p>,
    },
}

/// What an answer says of a limit.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub requests_per_unit: u32,
    pub unit: Unit,
    pub unit_multiplier: Option<u32>,
}

/// The metrics of a limit.
pub(super) enum Series<'p> {
    /// Held by the rule or the domain.
    Held(&'p LimitSeries),
    /// Looked up, because their name has values of the request.
    Found(Arc<LimitSeries>),
}

impl Series<'_> {
    pub fn get(&self) -> &LimitSeries {
        match self {
            Self::Held(series) => series,
            Self::Found(series) => series,
        }
    }
}

/// What the descriptors are subject to, in the request's order.
pub(super) type Subjects<'p> = SmallVec<[Subject<'p>; 4]>;

/// Makes plans.
pub(super) struct Planner<'a, 'r, 'p> {
    pub domain: &'p DomainPolicy,
    pub request: &'a Request<'r>,
    pub keys: &'a KeyEncoder,
    pub options: &'a Options,
    pub telemetry: &'a Telemetry,
    pub now: Micros,
}

impl<'p> Planner<'_, '_, 'p> {
    /// Plans the request: puts its charges into the batches of `parts`. Names that a matched rule `replaces` are known only when
    /// all descriptors are matched, so in a domain that has such rules all of them are matched once before.
    pub fn plan(&self, parts: &mut Parts) -> Subjects<'p> {
        let prior = Prior {
            never_deny: self.options.shadow_mode,
            ..Prior::default()
        };
        parts.global.begin(self.now, prior);
        parts.local.begin(self.now, prior);
        // Neither allocates until there is something to put in.
        let mut replaced: HashSet<&str> = HashSet::new();
        if self.domain.has_replaces() {
            let mut seen: HashSet<u64> = HashSet::new();
            let mut path = Path::new();
            for descriptor in self.request.descriptors() {
                // An override takes the place of the rule, with all that the rule says.
                if descriptor.limit.is_none_or(|limit| limit.window_s().is_none()) {
                    let entries = self.request.entries(descriptor);
                    let rule = self.domain.find(entries, &mut parts.text, &mut path);
                    if let Some(rule) = rule.filter(|rule| !rule.replaces.is_empty() && seen.insert(rule.id))
                    {
                        replaced.extend(rule.replaces.iter().map(|name| &**name));
                    }
                }
            }
        }
        self.plan_without(&replaced, parts)
    }

    fn plan_without(&self, replaced: &HashSet<&str>, parts: &mut Parts) -> Subjects<'p> {
        let mut subjects = Subjects::with_capacity(self.request.descriptors().len());
        // An unlimited rule has nothing to take away.
        let is_replaced = |rule: &Rule| {
            !replaced.is_empty()
                && rule.limit.is_some()
                && !rule.name.is_empty()
                && replaced.contains(&*rule.name)
        };
        let mut path = Path::new();
        for descriptor in self.request.descriptors() {
            let free = |rule, unlimited| Subject::Free { rule, unlimited };
            if let Some(numbers) = self.numbers_of_override(descriptor) {
                path.clear();
                subjects.push(self.limited(parts, descriptor, None, &numbers, &path));
                continue;
            }
            let entries = self.request.entries(descriptor);
            let found = self.domain.find(entries, &mut parts.text, &mut path);
            subjects.push(match found {
                None => free(None, false),
                Some(rule) if is_replaced(rule) => free(None, false),
                Some(rule) => match &rule.limit {
                    None => free(Some(rule), true),
                    Some(numbers) => self.limited(parts, descriptor, Some(rule), numbers, &path),
                },
            });
        }
        subjects
    }

    /// An override that can't be used is counted, and the configured limit holds.
    fn numbers_of_override(&self, descriptor: &Descriptor) -> Option<Numbers> {
        let limit = descriptor.limit.as_ref()?;
        let numbers = numbers_of(limit, self.options.defaults);
        if numbers.is_none() {
            self.telemetry.requests.overrides_ignored.increment(1);
        }
        numbers
    }

    fn limited(
        &self,
        parts: &mut Parts,
        descriptor: &Descriptor,
        rule: Option<&'p Rule>,
        numbers: &Numbers,
        path: &Path<'p>,
    ) -> Subject<'p> {
        let entries = self.request.entries(descriptor);
        let batch = if numbers.local {
            &mut parts.local
        } else {
            &mut parts.global
        };
        let rule_id = rule.map_or_else(|| self.domain.override_id(), |rule| rule.id);
        // Overrides of a domain differ in their windows; counters that stand in for many must not mix them.
        let id = rule_id.wrapping_mul(31).wrapping_add(numbers.limit.window_us());
        let counter = batch.keys.add(id, |out| {
            self.write_key(out, entries, rule.is_none(), numbers, path)
        });
        batch.charges.push(Charge {
            counter,
            limit: numbers.limit,
            hits: descriptor.hits.count,
            mode: mode(descriptor.hits, numbers.charge),
            shadow: rule.is_some_and(|rule| rule.shadow),
            quota: self.options.quota_mode || rule.is_some_and(|rule| rule.quota),
        });
        batch.on_store_error.push(numbers.on_store_error);
        Subject::Limited {
            rule,
            shown: Shown {
                requests_per_unit: numbers.requests_per_unit,
                unit: numbers.unit,
                unit_multiplier: numbers.unit_multiplier,
            },
            local: numbers.local,
            charge: batch.charges.len() - 1,
            series: self.series(rule, path, entries, &mut parts.text),
        }
    }

    fn write_key(
        &self,
        out: &mut String,
        entries: &[Entry<'_>],
        overridden: bool,
        it: &Numbers,
        path: &Path<'_>,
    ) {
        let parts = entries
            .iter()
            .enumerate()
            .map(|(depth, entry)| match path.get(depth) {
                Some(node) => node.key_part(entry),
                None => KeyPart::Own {
                    key: entry.key,
                    value: entry.value,
                },
            });
        let algorithm = it.limit.algorithm();
        // A bucket holds a fraction of its numbers, so two overrides with different numbers can't share one.
        let number = overridden && algorithm == Algorithm::TokenBucket;
        let suffix = KeySuffix {
            algorithm: match algorithm {
                Algorithm::SlidingWindow => "sw1",
                Algorithm::FixedWindow => "fw1",
                Algorithm::TokenBucket => "tb1",
                Algorithm::LocalBucket => "lb1",
            },
            window_s: it.limit.window_us() / 1_000_000,
            number: number.then_some(it.requests_per_unit),
        };
        let (domain, shard_by) = (self.domain.name(), self.domain.shard_by());
        self.keys.encode(out, domain, shard_by, parts, suffix);
    }

    /// The metrics of a limit, by the reference server's naming rules. `name` is space to write in.
    fn series(
        &self,
        rule: Option<&'p Rule>,
        path: &Path<'_>,
        entries: &[Entry<'_>],
        name: &mut String,
    ) -> Series<'p> {
        let domain = self.domain;
        let Some(rule) = rule else {
            let look_up = || self.telemetry.limit(domain.name(), "override");
            return Series::Held(domain.override_series.get_or_init(look_up));
        };
        if !rule.detailed_metric && !path.iter().any(|node| node.value_to_metric) {
            let look_up = || self.telemetry.limit(domain.name(), &rule.path);
            return Series::Held(rule.series.get_or_init(look_up));
        }
        name.clear();
        for (node, entry) in path.iter().zip(entries) {
            if !name.is_empty() {
                name.push('.');
            }
            let with_value = rule.detailed_metric || (node.value_to_metric && !node.is_exact());
            if node.share_threshold || !with_value {
                name.push_str(node.composite());
            } else if entry.value.is_empty() {
                name.push_str(entry.key);
            } else {
                // Writing into a String can't fail.
                let _ = write!(name, "{}_{}", entry.key, entry.value);
            }
        }
        Series::Found(self.telemetry.limit(domain.name(), name))
    }
}

/// What a descriptor's hits do to its counter.
fn mode(hits: Hits, charge: ChargeRule) -> Mode {
    match (hits, charge) {
        (Hits { refund: true, .. }, _) => Mode::Refund,
        (Hits { count: 0, .. }, _) => Mode::Peek,
        (_, ChargeRule::Always) | (Hits { explicit: true, .. }, ChargeRule::Auto) => Mode::Record,
        (_, ChargeRule::Auto | ChargeRule::Admitted) => Mode::Consume,
    }
}
