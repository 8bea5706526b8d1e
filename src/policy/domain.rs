//! A domain's rules as an immutable tree, and the walk down that tree.
//!
//! All nodes stand in one list; one hash index finds a child by (parent, `key_value` or `key`), and patterns stand by what they
//! begin and end with. A look-up costs by the depth and length of the descriptor, not by the number of rules, and allocates
//! nothing.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::compile::rule_id;
use super::pattern::Pattern;
use super::rule::Rule;
use super::wildcards::Wildcards;
use crate::descriptor::{Entry, KeyPart};
use crate::telemetry::LimitSeries;

/// The nodes that a descriptor passed, one for each of its entries.
pub type Path<'p> = SmallVec<[&'p Node; 8]>;

const ROOT: u32 = 0;

/// One `key` or `key` with `value` of a policy's tree.
#[derive(Debug)]
pub struct Node {
    parent: u32,
    has_children: bool,
    /// The rule's key and, behind a `_`, its value.
    composite: Box<str>,
    key_bytes: u32,
    /// The counter is shared by all values that match the pattern.
    pub share_threshold: bool,
    /// Metrics carry the request's value on this level.
    pub value_to_metric: bool,
    wildcards: Option<Box<Wildcards>>,
    rule: Option<Box<Rule>>,
}

impl Node {
    /// `key` or `key_value`, as configured.
    #[must_use]
    pub fn composite(&self) -> &str {
        &self.composite
    }

    /// Whether the rule has a value of its own, without a pattern.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.composite.len() > self.key_bytes as usize && !self.composite.contains('*')
    }

    /// What this level adds to the key of the counter.
    #[must_use]
    pub fn key_part<'k>(&'k self, entry: &Entry<'k>) -> KeyPart<'k> {
        if self.share_threshold {
            // Behind the key stands `_` and the value; a rule without a value has its pattern in the key.
            let pattern = self
                .composite
                .get(self.key_bytes as usize + 1..)
                .unwrap_or(&self.composite);
            KeyPart::Shared {
                key: entry.key,
                pattern,
            }
        } else {
            KeyPart::Own {
                key: entry.key,
                value: entry.value,
            }
        }
    }
}

/// All rules of one domain.
#[derive(Debug)]
pub struct DomainPolicy {
    name: Arc<str>,
    nodes: Vec<Node>,
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    rules: usize,
    has_replaces: bool,
    shard_by: Option<Box<str>>,
    /// Stands for the overrides of the domain where rules have their own number.
    override_id: u64,
    /// The metrics of all overrides, looked up when they are first used.
    pub override_series: OnceLock<Arc<LimitSeries>>,
}

impl DomainPolicy {
    pub(super) fn new(name: &str) -> Self {
        let root = Node {
            parent: ROOT,
            has_children: false,
            composite: Box::default(),
            key_bytes: 0,
            share_threshold: false,
            value_to_metric: false,
            wildcards: None,
            rule: None,
        };
        Self {
            name: name.into(),
            nodes: vec![root],
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            rules: 0,
            has_replaces: false,
            shard_by: None,
            override_id: rule_id(name, ""),
            override_series: OnceLock::new(),
        }
    }

    /// The domain's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules_len(&self) -> usize {
        self.rules
    }

    /// Whether a rule puts others out of force.
    #[must_use]
    pub fn has_replaces(&self) -> bool {
        self.has_replaces
    }

    /// The key of the entry whose values have one slot of a cluster each, if a file says it.
    #[must_use]
    pub fn shard_by(&self) -> Option<&str> {
        self.shard_by.as_deref()
    }

    /// The number of the domain's overrides, as [`Rule::id`] is that of a rule.
    #[must_use]
    pub fn override_id(&self) -> u64 {
        self.override_id
    }

    /// All rules in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.nodes.iter().filter_map(|node| node.rule.as_deref())
    }

    pub(super) const fn root() -> u32 {
        ROOT
    }

    /// Adds a child; `None` if the level has that key and value already.
    pub(super) fn add(
        &mut self,
        parent: u32,
        key: &str,
        value: Option<&str>,
        rule: Option<Rule>,
    ) -> Option<u32> {
        let composite: Box<str> = match value {
            Some(value) => format!("{key}_{value}").into(),
            None => key.into(),
        };
        if self.child(parent, &composite).is_some() {
            return None;
        }
        let id = u32::try_from(self.nodes.len()).ok()?;
        if let Some(pattern) = Pattern::new(&composite) {
            let wildcards = &mut self.nodes[parent as usize].wildcards;
            wildcards.get_or_insert_default().push(pattern, id);
        }
        self.nodes[parent as usize].has_children = true;
        self.rules += usize::from(rule.is_some());
        self.has_replaces |= rule.as_ref().is_some_and(|rule| !rule.replaces.is_empty());
        self.nodes.push(Node {
            parent,
            has_children: false,
            composite,
            key_bytes: u32::try_from(key.len()).unwrap_or(u32::MAX),
            share_threshold: false,
            value_to_metric: false,
            wildcards: None,
            rule: rule.map(Box::new),
        });
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let hash = |id: &u32| {
            let node = &nodes[*id as usize];
            hash_of(hasher, node.parent, &node.composite)
        };
        self.index.insert_unique(hash(&id), id, hash);
        Some(id)
    }

    pub(super) fn set_shard_by(&mut self, key: Option<&str>) {
        self.shard_by = key.map(Box::from);
    }

    pub(super) fn set_flags(&mut self, id: u32, share_threshold: bool, value_to_metric: bool) {
        let node = &mut self.nodes[id as usize];
        node.share_threshold = share_threshold;
        node.value_to_metric = value_to_metric;
    }

    fn child(&self, parent: u32, composite: &str) -> Option<u32> {
        self.index
            .find(hash_of(&self.hasher, parent, composite), |id| {
                let node = &self.nodes[*id as usize];
                node.parent == parent && *node.composite == *composite
            })
            .copied()
    }

    /// Walks down the tree: on each level exactly `key_value`, else the first pattern in the files' order, else `key` alone,
    /// and never back up. The rule counts only if it stands at the depth of the last entry.
    ///
    /// `composite` is scratch space; `path` receives the nodes passed.
    pub fn find<'p>(
        &'p self,
        entries: &[Entry<'_>],
        composite: &mut String,
        path: &mut Path<'p>,
    ) -> Option<&'p Rule> {
        path.clear();
        let mut level = ROOT;
        for (depth, entry) in entries.iter().enumerate() {
            composite.clear();
            composite.push_str(entry.key);
            composite.push('_');
            composite.push_str(entry.value);
            let found = self
                .child(level, composite)
                .or_else(|| self.nodes[level as usize].wildcards.as_ref()?.find(composite))
                .or_else(|| self.child(level, entry.key));
            let id = found?;
            let node = &self.nodes[id as usize];
            path.push(node);
            if depth + 1 == entries.len() {
                return node.rule.as_deref();
            }
            if !node.has_children {
                return None;
            }
            level = id;
        }
        None
    }
}

fn hash_of(hasher: &foldhash::fast::RandomState, parent: u32, composite: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(parent);
    state.write(composite.as_bytes());
    state.finish()
}
