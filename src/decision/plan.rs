//! Which charges a request asks for.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Numbers, Options};
use crate::descriptor::{Descriptor, Entry, Hits, KeyEncoder, KeyPart, Request};
use crate::limiter::{Algorithm, Charge, Micros, Mode, Prior};
use crate::policy::compile::rule_id;
use crate::policy::schema::ChargeRule;
use crate::policy::{DomainPolicy, Path, Rule};
use crate::store::Batch;
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
        numbers: Numbers,
        charge: usize,
        series: Arc<LimitSeries>,
    },
}

/// The charges of a request: of the shared store and of this instance alone.
pub(super) struct Plan<'p> {
    pub subjects: SmallVec<[Subject<'p>; 8]>,
    pub global: Batch,
    pub local: Batch,
}

/// Makes plans.
pub(super) struct Planner<'a, 'p> {
    pub domain: &'p DomainPolicy,
    pub request: &'a Request<'a>,
    pub keys: &'a KeyEncoder,
    pub options: &'a Options,
    pub telemetry: &'a Telemetry,
    pub now: Micros,
}

impl<'p> Planner<'_, 'p> {
    /// Plans the request. Names that a matched rule `replaces` are known only when all descriptors are matched, so in a domain
    /// that has such rules all of them are matched once before.
    pub fn plan(&self) -> Plan<'p> {
        let mut replaced: HashSet<&str> = HashSet::new();
        if self.domain.has_replaces() {
            let mut seen: HashSet<u64> = HashSet::new();
            let mut composite = String::new();
            let mut path = Path::new();
            for descriptor in self.request.descriptors() {
                // An override takes the place of the rule, with all that the rule says.
                if descriptor.limit.is_none_or(|limit| limit.window_s().is_none()) {
                    let entries = self.request.entries(descriptor);
                    let rule = self.domain.find(entries, &mut composite, &mut path);
                    if let Some(rule) = rule.filter(|rule| !rule.replaces.is_empty() && seen.insert(rule.id))
                    {
                        replaced.extend(rule.replaces.iter().map(|name| &**name));
                    }
                }
            }
        }
        self.plan_without(&replaced)
    }

    fn plan_without(&self, replaced: &HashSet<&str>) -> Plan<'p> {
        let count = self.request.descriptors().len();
        let batch = || Batch {
            now: self.now,
            prior: Prior {
                never_deny: self.options.shadow_mode,
                ..Prior::default()
            },
            ..Batch::default()
        };
        let mut plan = Plan {
            subjects: SmallVec::with_capacity(count),
            global: batch(),
            local: batch(),
        };
        // An unlimited rule has nothing to take away.
        let is_replaced =
            |rule: &Rule| rule.limit.is_some() && !rule.name.is_empty() && replaced.contains(&*rule.name);
        let mut composite = String::new();
        let mut path = Path::new();
        for descriptor in self.request.descriptors() {
            let entries = self.request.entries(descriptor);
            let subject = match self.numbers_of_override(descriptor) {
                Some(numbers) => self.limited(&mut plan, descriptor, None, numbers, &Path::new()),
                None => match self.domain.find(entries, &mut composite, &mut path) {
                    None => Subject::Free {
                        rule: None,
                        unlimited: false,
                    },
                    Some(rule) if is_replaced(rule) => Subject::Free {
                        rule: None,
                        unlimited: false,
                    },
                    Some(rule) => match &rule.limit {
                        None => Subject::Free {
                            rule: Some(rule),
                            unlimited: true,
                        },
                        Some(limit) => {
                            let numbers = Numbers {
                                limit: limit.limit,
                                requests_per_unit: limit.requests_per_unit,
                                unit: limit.unit,
                                unit_multiplier: limit.unit_multiplier,
                                charge: limit.charge,
                                local: limit.local,
                                on_store_error: limit.on_store_error,
                            };
                            self.limited(&mut plan, descriptor, Some(rule), numbers, &path)
                        }
                    },
                },
            };
            plan.subjects.push(subject);
        }
        plan
    }

    /// An override that can't be used is counted, and the configured limit holds.
    fn numbers_of_override(&self, descriptor: &Descriptor) -> Option<Numbers> {
        let limit = descriptor.limit.as_ref()?;
        let numbers = Numbers::of_override(limit, self.options.defaults);
        if numbers.is_none() {
            self.telemetry.requests.overrides_ignored.increment(1);
        }
        numbers
    }

    fn limited(
        &self,
        plan: &mut Plan<'p>,
        descriptor: &Descriptor,
        rule: Option<&'p Rule>,
        numbers: Numbers,
        path: &Path<'p>,
    ) -> Subject<'p> {
        let entries = self.request.entries(descriptor);
        let batch = if numbers.local {
            &mut plan.local
        } else {
            &mut plan.global
        };
        let rule_id = rule.map_or_else(|| rule_id(self.domain.name(), ""), |rule| rule.id);
        // Overrides of a domain differ in their windows; counters that stand in for many must not mix them.
        let id = rule_id.wrapping_mul(31).wrapping_add(numbers.limit.window_us());
        let counter = batch.keys.add(id, |out| {
            self.write_key(out, entries, rule.is_none(), &numbers, path)
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
        let series = self.series(rule, path, entries);
        Subject::Limited {
            rule,
            numbers,
            charge: batch.charges.len() - 1,
            series,
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
        let window_s = it.limit.window_us() / 1_000_000;
        let algorithm = match it.limit.algorithm() {
            Algorithm::SlidingWindow => "sw1",
            Algorithm::FixedWindow => "fw1",
            Algorithm::TokenBucket => "tb1",
            Algorithm::LocalBucket => "lb1",
        };
        if overridden && it.limit.algorithm() == Algorithm::TokenBucket {
            // A bucket holds a fraction of its numbers, so two overrides with different numbers can't share one.
            let requests = it.requests_per_unit;
            self.keys.encode(
                out,
                self.domain.name(),
                self.domain.shard_by(),
                parts,
                format_args!("{algorithm}:{window_s}:{requests}"),
            );
        } else {
            self.keys.encode(
                out,
                self.domain.name(),
                self.domain.shard_by(),
                parts,
                format_args!("{algorithm}:{window_s}"),
            );
        }
    }

    /// The metrics of a limit, by the reference server's naming rules.
    fn series(&self, rule: Option<&Rule>, path: &Path<'_>, entries: &[Entry<'_>]) -> Arc<LimitSeries> {
        let Some(rule) = rule else {
            return self.telemetry.limit(self.domain.name(), "override");
        };
        if !rule.detailed_metric && !path.iter().any(|node| node.value_to_metric) {
            let look_up = || self.telemetry.limit(self.domain.name(), &rule.path);
            return Arc::clone(rule.series.get_or_init(look_up));
        }
        let mut name = String::new();
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
        self.telemetry.limit(self.domain.name(), &name)
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
