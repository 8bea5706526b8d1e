//! The keys of a policy file.
//!
//! The reference server knows one flat set of keys for all levels, and ignores those at a level where they mean
//! nothing. It looks at keys before values, and only at the last one of several equal keys.

use std::collections::HashMap;

use super::names::DidYouMean;
use crate::policy::diagnostic::{Place, Quoted, Report};
use crate::policy::yaml::{Document, Entry, Kind, Node, NodeId, Value, bad_merges, entries, resolve};

/// The kinds of maps in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    Descriptor,
    RateLimit,
    /// An entry of `replaces`.
    Replaces,
    /// Below a key that means nothing where it is.
    Ignored,
}

/// A key, and where it means something.
struct Key {
    name: &'static str,
    levels: &'static [Level],
    /// The levels in words.
    home: &'static str,
    /// Whether the reference server does not know it.
    ours: bool,
}

const fn key(name: &'static str, levels: &'static [Level], home: &'static str) -> Key {
    Key {
        name,
        levels,
        home,
        ours: false,
    }
}

const fn our_key(name: &'static str) -> Key {
    Key {
        name,
        levels: &[Level::RateLimit],
        home: IN_RATE_LIMIT,
        ours: true,
    }
}

/// A key that says for one limit, or for all of the file, what they do.
const fn our_key_of_file_or_limit(name: &'static str) -> Key {
    Key {
        name,
        levels: &[Level::Root, Level::RateLimit],
        home: "at the top of the file or in 'rate_limit'",
        ours: true,
    }
}

const IN_DESCRIPTOR: &str = "in a descriptor";
const IN_RATE_LIMIT: &str = "in 'rate_limit'";

const KEYS: &[Key] = &[
    key("domain", &[Level::Root], "at the top of the file"),
    key(
        "descriptors",
        &[Level::Root, Level::Descriptor],
        "at the top of the file or in a descriptor",
    ),
    key("key", &[Level::Descriptor], IN_DESCRIPTOR),
    key("value", &[Level::Descriptor], IN_DESCRIPTOR),
    key("rate_limit", &[Level::Descriptor], IN_DESCRIPTOR),
    key("shadow_mode", &[Level::Descriptor], IN_DESCRIPTOR),
    key("quota_mode", &[Level::Descriptor], IN_DESCRIPTOR),
    key("detailed_metric", &[Level::Descriptor], IN_DESCRIPTOR),
    key("value_to_metric", &[Level::Descriptor], IN_DESCRIPTOR),
    key("share_threshold", &[Level::Descriptor], IN_DESCRIPTOR),
    key("metadata", &[Level::Descriptor], IN_DESCRIPTOR),
    key("unit", &[Level::RateLimit], IN_RATE_LIMIT),
    key("requests_per_unit", &[Level::RateLimit], IN_RATE_LIMIT),
    key("unlimited", &[Level::RateLimit], IN_RATE_LIMIT),
    key(
        "name",
        &[Level::RateLimit, Level::Replaces],
        "in 'rate_limit' or in an entry of 'replaces'",
    ),
    key("replaces", &[Level::RateLimit], IN_RATE_LIMIT),
    our_key("algorithm"),
    our_key("unit_multiplier"),
    our_key("burst"),
    our_key("scope"),
    our_key("charge"),
    our_key_of_file_or_limit("on_store_error"),
    our_key_of_file_or_limit("strict"),
    Key {
        name: "shard_by",
        levels: &[Level::Root],
        home: "at the top of the file",
        ours: true,
    },
];

impl Level {
    /// The level of the maps in the value of `key`.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root | Self::Descriptor, "descriptors") => Self::Descriptor,
            (Self::Descriptor, "rate_limit") => Self::RateLimit,
            (Self::RateLimit, "replaces") => Self::Replaces,
            _ => Self::Ignored,
        }
    }
}

/// Reports every wrong, misplaced or repeated key, and values of kinds that no key may have.
pub(super) fn check(document: &Document<'_>, report: &mut Report<'_>) {
    check_nodes(document, report);
    let Some(root) = document.root else { return };
    if matches!(document.node(root).kind, Kind::Map(_)) {
        Checker { document, report }.map(root, Level::Root);
    }
}

/// What is wrong with a node wherever it is.
fn check_nodes(document: &Document<'_>, report: &mut Report<'_>) {
    for node in document.nodes() {
        for place in bad_merges(document, node) {
            report.error(place, "map merge requires map or sequence of maps as the value");
        }
        match &node.kind {
            Kind::Scalar(scalar) => {
                if let Err(error) = resolve(scalar) {
                    let value = Quoted(&scalar.text);
                    report.error(
                        node.place,
                        format_args!("{value} cannot be read as {}", error.tag),
                    );
                }
            }
            Kind::Map(pairs) => {
                for key in pairs.iter().map(|&(key, _)| document.node(key)) {
                    if !matches!(key.kind, Kind::Scalar(_)) {
                        report.error(key.place, "a list or map cannot be a key");
                    }
                }
            }
            Kind::Seq(_) => {}
        }
    }
}

struct Checker<'a, 'd, 'r, 's> {
    document: &'d Document<'a>,
    report: &'r mut Report<'s>,
}

impl<'d> Checker<'_, 'd, '_, '_> {
    /// Recursion is bounded by the depth of the document.
    fn map(&mut self, id: NodeId, level: Level) {
        let entries = entries(self.document, id);
        for (entry, key) in self.last_of_each(&entries) {
            self.known(self.document.node(entry.key).place, key, level);
            if key != "metadata" {
                self.value(entry.value, level.below(key));
            }
        }
    }

    /// The entries that hold, by their keys; reports the others.
    fn last_of_each(&mut self, entries: &[Entry]) -> Vec<(Entry, &'d str)> {
        let mut last: Vec<(Entry, &'d str)> = Vec::with_capacity(entries.len());
        let mut index: HashMap<&'d str, usize> = HashMap::new();
        for &entry in entries {
            let Some(key) = self.text_key(entry) else { continue };
            match index.get(key) {
                None => {
                    index.insert(key, last.len());
                    last.push((entry, key));
                }
                Some(&at) => {
                    self.repeated(key, last[at].0, entry);
                    last[at].0 = entry;
                }
            }
        }
        last
    }

    fn text_key(&mut self, entry: Entry) -> Option<&'d str> {
        let node = self.document.node(entry.key);
        let Kind::Scalar(scalar) = &node.kind else {
            return None;
        };
        if resolve(scalar) == Ok(Value::Text) {
            return Some(scalar.text.as_ref());
        }
        let text = Quoted(&scalar.text);
        self.report.error(
            node.place,
            format_args!("config error, key is not of type string: {text}"),
        );
        None
    }

    fn repeated(&mut self, key: &str, earlier: Entry, later: Entry) {
        let line = self.document.node(earlier.key).place.line;
        let place = self.document.node(later.key).place;
        let key = Quoted(key);
        match (earlier.merged, later.merged) {
            // To override what was merged is what merging is for.
            (true, _) => {}
            (false, true) => {
                let place = self.document.node(earlier.key).place;
                self.report.warning(
                    place,
                    format_args!("{key} is overridden by the '<<' after it: put the '<<' first"),
                );
            }
            (false, false) => {
                let effect = if matches!(key.0, "rate_limit" | "metadata") {
                    "is merged into"
                } else {
                    "overrides"
                };
                self.report.warning(
                    place,
                    format_args!("duplicate key {key}: it {effect} the one on line {line}"),
                );
            }
        }
    }

    fn known(&mut self, place: Place, written: &str, level: Level) {
        let Some(key) = KEYS.iter().find(|key| key.name == written) else {
            let names = KEYS.iter().map(|key| key.name);
            let hint = DidYouMean(written, names);
            self.report.error(
                place,
                format_args!("config error, unknown key {}{hint}", Quoted(written)),
            );
            return;
        };
        if key.levels.contains(&level) {
            return;
        }
        let Key { name, home, .. } = key;
        if key.ours {
            self.report
                .error(place, format_args!("'{name}' is not allowed here, only {home}"));
        } else if level != Level::Ignored {
            self.report.warning(
                place,
                format_args!("'{name}' has no effect here: it belongs {home}"),
            );
        }
    }

    fn value(&mut self, id: NodeId, below: Level) {
        let node = self.document.node(id);
        match &node.kind {
            Kind::Map(_) => self.map(id, below),
            Kind::Seq(items) => {
                for &item in items {
                    self.item(item, below);
                }
            }
            Kind::Scalar(scalar) => {
                if let Ok(Value::Float(_) | Value::Large(_)) = resolve(scalar) {
                    let number = Quoted(&scalar.text);
                    self.report.error(
                        node.place,
                        format_args!("error checking config: {number} is a number that no key takes, quote it if it is text"),
                    );
                }
            }
        }
    }

    fn item(&mut self, id: NodeId, below: Level) {
        let node = self.document.node(id);
        if matches!(node.kind, Kind::Map(_)) {
            self.map(id, below);
        } else {
            report_item(node, self.report);
        }
    }
}

/// Reports an item of a list that is no map.
pub(super) fn report_item(node: &Node<'_>, report: &mut Report<'_>) {
    let item: &str = if let Kind::Scalar(scalar) = &node.kind {
        &scalar.text
    } else {
        "a list"
    };
    let item = Quoted(item);
    report.error(
        node.place,
        format_args!("config error, yaml file contains list of type other than map: {item}"),
    );
}
