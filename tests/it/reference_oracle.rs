//! The reference server's matching and counting, from its description: plain walks over plain trees, slow and obvious, sharing
//! no code with what it is held against. Strings are joined as it joins them, so who asks it avoids ambiguous ones.

use std::collections::{BTreeMap, HashMap};

/// Units by name and length in seconds; a [`Unit`] is a place in this list.
pub const UNITS: [(&str, u64); 7] = [
    ("SECOND", 1),
    ("MINUTE", 60),
    ("HOUR", 3_600),
    ("DAY", 86_400),
    ("WEEK", 604_800),
    ("MONTH", 2_592_000),
    ("YEAR", 31_536_000),
];
pub const WEEK: Unit = 4;

pub type Unit = usize;

/// One descriptor of a policy file.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub key: String,
    /// As written: empty is the same as absent.
    pub value: String,
    pub limit: Option<Limit>,
    pub shadow: bool,
    pub quota: bool,
    pub share: bool,
    pub value_to_metric: bool,
    pub detailed: bool,
    pub children: Vec<Node>,
}

/// Its `rate_limit`.
#[derive(Clone, Debug, Default)]
pub struct Limit {
    pub unlimited: bool,
    pub requests: u32,
    pub unit: Unit,
    pub name: String,
    pub replaces: Vec<String>,
}

impl Node {
    pub fn composite(&self) -> String {
        match self.value.as_str() {
            "" => self.key.clone(),
            value => format!("{}_{value}", self.key),
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Question {
    pub domain: String,
    pub hits: u32,
    pub asked: Vec<Asked>,
}

/// One descriptor of a request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub entries: Vec<(String, String)>,
    pub hits: Option<u64>,
    pub negative: bool,
    pub limit: Option<(u32, Unit)>,
}

/// An answer, by whomever.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub over: bool,
    pub statuses: Vec<Status>,
    /// Limit, remaining and reset.
    pub headers: Option<[u64; 3]>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub over: bool,
    /// Requests, unit and name.
    pub limit: Option<(u32, &'static str, String)>,
    pub remaining: u32,
    pub reset_s: Option<u64>,
}

/// Hits of a limit: all, over, near, within, in shadow mode.
pub type Stats = [u64; 5];

/// What a descriptor is subject to.
#[derive(Clone, Debug, Default)]
struct Subject {
    requests: u32,
    unit: Unit,
    unlimited: bool,
    name: String,
    replaces: Vec<String>,
    shadow: bool,
    quota: bool,
    /// Of each entry: the pattern that stands in the counter's key instead of the value.
    patterns: Vec<Option<String>>,
    stat: String,
}

/// A running reference server.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    domains: BTreeMap<String, Vec<Node>>,
    pub shadow_mode: bool,
    pub quota_mode: bool,
    pub stats: BTreeMap<(String, String), Stats>,
    /// Denials that the global shadow mode let through.
    pub global_shadow: u64,
    counters: HashMap<String, u64>,
    /// The unit that a key was first used with: here no other unit may follow.
    units: HashMap<String, Unit>,
}

/// `*` is any text; tries everything.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
    }
}

/// The child that an entry leads to: exactly, else by the first wildcard, else by the key alone.
fn child<'n>(level: &'n [Node], key: &str, value: &str) -> Option<&'n Node> {
    let text = format!("{key}_{value}");
    let exact = level.iter().find(|node| node.composite() == text);
    let wild = || {
        level.iter().find(|node| {
            let composite = node.composite();
            composite.contains('*') && matches(composite.as_bytes(), text.as_bytes())
        })
    };
    exact
        .or_else(wild)
        .or_else(|| level.iter().find(|node| node.composite() == key))
}

/// The part of a metric's name for one level.
fn stat_part(node: &Node, leaf: &Node, key: &str, value: &str) -> String {
    let has_own_value = !node.value.is_empty() && !node.composite().contains('*');
    let with_value = leaf.detailed || (node.value_to_metric && !has_own_value);
    match value {
        _ if node.share || !with_value => node.composite(),
        "" => key.to_owned(),
        _ => format!("{key}_{value}"),
    }
}

impl Reference {
    pub fn new(domain: &str, nodes: &[Node]) -> Self {
        Self {
            domains: [(domain.to_owned(), nodes.to_vec())].into(),
            ..Self::default()
        }
    }

    /// The limit that the entries meet, at exactly their depth.
    fn get_limit(&self, domain: &str, asked: &Asked) -> Option<Subject> {
        let mut level = self.domains.get(domain)?.as_slice();
        if let Some((requests, unit)) = asked.limit {
            let stat = "override".to_owned();
            return Some(Subject {
                requests,
                unit,
                stat,
                ..Subject::default()
            });
        }
        let mut path: Vec<&Node> = vec![];
        for (key, value) in &asked.entries {
            let node = child(level, key, value)?;
            path.push(node);
            level = &node.children;
        }
        let leaf = *path.last()?;
        let limit = leaf.limit.clone()?;
        let mut patterns = vec![];
        let mut stat = vec![];
        for (node, (key, value)) in path.iter().zip(&asked.entries) {
            let pattern = node.composite();
            let own = pattern
                .strip_prefix(&format!("{key}_"))
                .unwrap_or(&pattern)
                .to_owned();
            patterns.push(node.share.then_some(own));
            stat.push(stat_part(node, leaf, key, value));
        }
        Some(Subject {
            requests: limit.requests,
            unit: limit.unit,
            unlimited: limit.unlimited,
            name: limit.name,
            replaces: limit.replaces,
            shadow: leaf.shadow,
            quota: leaf.quota,
            patterns,
            stat: stat.join("."),
        })
    }

    /// The unit of the rule that the entries meet, if it counts.
    pub fn unit_of(&self, domain: &str, entries: &[(String, String)]) -> Option<Unit> {
        let asked = Asked {
            entries: entries.to_vec(),
            ..Asked::default()
        };
        self.get_limit(domain, &asked)
            .filter(|it| !it.unlimited)
            .map(|it| it.unit)
    }

    /// The limits of a request after `replaces`; a limit that is replaced is as none.
    fn limits(&self, it: &Question) -> Vec<Option<Subject>> {
        let mut limits: Vec<_> = it
            .asked
            .iter()
            .map(|asked| self.get_limit(&it.domain, asked))
            .collect();
        let replaced: Vec<String> = limits
            .iter()
            .flatten()
            .flat_map(|limit| limit.replaces.clone())
            .collect();
        for limit in &mut limits {
            // Unlimited ones were set aside before: they stay.
            if limit
                .as_ref()
                .is_some_and(|limit| !limit.unlimited && replaced.contains(&limit.name))
            {
                *limit = None;
            }
        }
        limits
    }

    /// What each descriptor of a request meets: whether that is unlimited, its number of requests and its name.
    pub fn met(&self, it: &Question) -> Vec<Option<(bool, u32, String)>> {
        let met = |limit: Subject| (limit.unlimited, limit.requests, limit.name);
        self.limits(it).into_iter().map(|limit| limit.map(met)).collect()
    }

    fn key(domain: &str, asked: &Asked, subject: &Subject, now_s: u64) -> String {
        let mut key = format!("{domain}_");
        for (at, (name, value)) in asked.entries.iter().enumerate() {
            let pattern = subject.patterns.get(at).and_then(Option::as_ref);
            key += &format!("{name}_{}_", pattern.unwrap_or(value));
        }
        let unit_s = UNITS[subject.unit].1;
        key + &(now_s / unit_s * unit_s).to_string()
    }

    /// The counters' keys that a request would use.
    pub fn keys(&self, it: &Question, now_us: u64) -> Vec<Option<String>> {
        let key = |(asked, limit): (&Asked, Option<Subject>)| {
            let limit = limit.filter(|limit| !limit.unlimited)?;
            Some(Self::key(&it.domain, asked, &limit, now_us / 1_000_000))
        };
        it.asked.iter().zip(self.limits(it)).map(key).collect()
    }

    pub fn ask(&mut self, it: &Question, now_us: u64) -> Said {
        let limits = self.limits(it);
        let mut said = Said::default();
        for (asked, limit) in it.asked.iter().zip(&limits) {
            let hits = asked.hits.unwrap_or(u64::from(it.hits.max(1)));
            let status = match limit {
                None => Status::default(),
                Some(limit) if limit.unlimited => Status {
                    remaining: u32::MAX,
                    ..Status::default()
                },
                Some(limit) => self.count(&it.domain, asked, limit, hits, now_us / 1_000_000),
            };
            said.statuses.push(status);
        }
        let limited = || {
            said.statuses
                .iter()
                .zip(&limits)
                .filter_map(|(s, l)| Some((s, l.as_ref()?)))
        };
        // Unlike the reference, descriptors without a limit are no quota limits in the global quota mode.
        let quota = |limit: &Subject| !limit.unlimited && (self.quota_mode || limit.quota);
        let hard_over = || limited().filter(|(status, limit)| status.over && !quota(limit));
        let quotas = limited().filter(|(_, limit)| quota(limit)).count();
        let quotas_over = limited()
            .filter(|(status, limit)| status.over && quota(limit))
            .count();
        said.over = hard_over().count() > 0 || (quotas > 0 && quotas == quotas_over);

        let shown = || limited().filter(|(status, _)| status.limit.is_some());
        let nearest = hard_over()
            .next_back()
            .or_else(|| shown().min_by_key(|(status, _)| status.remaining));
        said.headers = nearest.map(|(status, limit)| {
            [
                limit.requests.into(),
                status.remaining.into(),
                status.reset_s.unwrap(),
            ]
        });
        if said.over && self.shadow_mode {
            said.over = false;
            self.global_shadow += 1;
        }
        said
    }

    /// Adds the hits first, and looks then.
    fn count(&mut self, domain: &str, asked: &Asked, limit: &Subject, hits: u64, now_s: u64) -> Status {
        let key = Self::key(domain, asked, limit, now_s);
        assert_eq!(
            *self.units.entry(key.clone()).or_insert(limit.unit),
            limit.unit,
            "{key} in two units"
        );
        let (unit, unit_s) = UNITS[limit.unit];
        let most = u64::from(limit.requests);
        let mut status = Status {
            over: false,
            limit: Some((limit.requests, unit, limit.name.clone())),
            remaining: 0,
            reset_s: Some(unit_s - now_s % unit_s),
        };
        if asked.negative {
            let count = self.counters.get_mut(&key);
            let left = count.map_or(0, |count| {
                *count = count.saturating_sub(hits);
                *count
            });
            status.remaining = u32::try_from(most.saturating_sub(left)).unwrap();
            return status;
        }
        let count = self.counters.entry(key).or_default();
        let before = *count;
        *count += hits;
        let after = *count;
        status.remaining = u32::try_from(most.saturating_sub(after)).unwrap();
        status.over = after > most && !limit.shadow;

        let near = (most as f32 * 0.8_f32).floor() as u64;
        let stats = self
            .stats
            .entry((domain.to_owned(), limit.stat.clone()))
            .or_default();
        stats[0] += hits;
        if after > most {
            let above = if before >= most { hits } else { after - most };
            stats[1] += above;
            stats[2] += if before >= most {
                0
            } else {
                most - near.max(before)
            };
            stats[4] += if limit.shadow { above } else { 0 };
        } else {
            if after > near {
                stats[2] += if before >= near { hits } else { after - near };
            }
            stats[3] += hits;
        }
        status
    }
}

#[test]
fn the_oracle_follows_the_documented_examples() {
    let (key, value) = ("key2".to_owned(), "value2".to_owned());
    let limit = Limit {
        requests: 2,
        unit: 1,
        ..Limit::default()
    };
    let sub = Node {
        key: "subkey".to_owned(),
        limit: Some(limit),
        ..Node::default()
    };
    let node = Node {
        key: key.clone(),
        value: value.clone(),
        children: vec![sub],
        ..Node::default()
    };
    let mut reference = Reference::new("domain", &[node]);
    let entries = vec![(key, value), ("subkey".to_owned(), "subvalue".to_owned())];
    let asked = vec![Asked {
        entries,
        ..Asked::default()
    }];
    let question = Question {
        domain: "domain".to_owned(),
        hits: 0,
        asked,
    };
    let keys = reference.keys(&question, 1_234_000_000);
    assert_eq!(keys, [Some("domain_key2_value2_subkey_subvalue_1200".to_owned())]);
    let mut rows = vec![];
    for _ in 0..3 {
        let said = reference.ask(&question, 1_234_000_000);
        rows.push((said.over, said.statuses[0].remaining, said.statuses[0].reset_s));
    }
    assert_eq!(
        rows,
        [(false, 1, Some(26)), (false, 0, Some(26)), (true, 0, Some(26))]
    );
    let stats = reference.stats[&("domain".to_owned(), "key2_value2.subkey".to_owned())];
    assert_eq!(stats, [3, 1, 1, 2, 0], "all, over, near, within, shadow");
}
