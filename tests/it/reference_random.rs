//! Random policies, as trees and as files, and random requests that meet their rules or nearly so.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::limiter_oracle::Random;
use crate::reference_oracle::{Limit, Node, UNITS};

/// What a random policy is made of.
pub struct Words {
    pub keys: &'static [&'static str],
    pub values: &'static [&'static str],
    pub depth: u64,
    pub width: u64,
    /// What rules may allow.
    pub requests: &'static [u32],
    /// One rule in so many has a name, and one may replace others.
    pub replaces_one_in: u64,
    /// One rule in so many is in shadow mode, and one in quota mode.
    pub modes_one_in: u64,
}

const NAMES: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", "n5"];

impl Words {
    /// A level of a tree; `taken` are composites that stand there already.
    pub fn level(&self, random: &mut Random, depth: u64, taken: &mut BTreeSet<String>) -> Vec<Node> {
        let mut nodes = vec![];
        for _ in 0..=random.below(self.width) {
            let (key, value) = (
                random.pick(self.keys).to_owned(),
                random.pick(self.values).to_owned(),
            );
            let mut node = Node {
                key,
                value,
                ..Node::default()
            };
            if !taken.insert(node.composite()) {
                continue;
            }
            if depth < self.depth && random.one_in(2) {
                node.children = self.level(random, depth + 1, &mut BTreeSet::new());
            }
            if !random.one_in(5) {
                node.limit = Some(self.limit(random));
                node.shadow = random.one_in(self.modes_one_in);
                node.quota = random.one_in(self.modes_one_in);
                node.detailed = random.one_in(6);
            }
            node.share = node.composite().contains('*') && random.one_in(2);
            node.value_to_metric = random.one_in(6);
            nodes.push(node);
        }
        nodes
    }

    fn limit(&self, random: &mut Random) -> Limit {
        let mut limit = Limit {
            unlimited: random.one_in(8),
            requests: random.pick(self.requests),
            unit: random.below(7) as usize,
            ..Limit::default()
        };
        if random.one_in(self.replaces_one_in) {
            limit.name = random.pick(&NAMES).to_owned();
        }
        if random.one_in(self.replaces_one_in) {
            let replaced = (0..=random.below(2)).map(|_| random.pick(&NAMES).to_owned());
            limit.replaces = replaced.filter(|name| *name != limit.name).collect();
        }
        limit
    }
}

/// A policy file.
pub fn file(random: &mut Random, domain: &str, nodes: &[Node]) -> String {
    let mut text = format!("domain: {}\n", quoted(domain));
    write_level(random, &mut text, nodes, 0);
    text
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn write_level(random: &mut Random, text: &mut String, nodes: &[Node], indent: usize) {
    if nodes.is_empty() {
        return;
    }
    writeln!(text, "{:indent$}descriptors:", "").unwrap();
    for node in nodes {
        writeln!(text, "{:indent$}- key: {}", "", quoted(&node.key)).unwrap();
        let indent = indent + 2;
        if !node.value.is_empty() || random.one_in(8) {
            writeln!(text, "{:indent$}value: {}", "", quoted(&node.value)).unwrap();
        }
        let flags = [
            ("shadow_mode", node.shadow),
            ("quota_mode", node.quota),
            ("share_threshold", node.share),
            ("value_to_metric", node.value_to_metric),
            ("detailed_metric", node.detailed),
        ];
        for (name, _) in flags.iter().filter(|(_, on)| *on) {
            writeln!(text, "{:indent$}{name}: true", "").unwrap();
        }
        if let Some(limit) = &node.limit {
            writeln!(text, "{:indent$}rate_limit: {}", "", rate_limit(random, limit)).unwrap();
        }
        write_level(random, text, &node.children, indent);
    }
}

fn rate_limit(random: &mut Random, limit: &Limit) -> String {
    let mut parts = vec![];
    if limit.unlimited {
        parts.push("unlimited: true".to_owned());
    } else {
        let unit = UNITS[limit.unit].0;
        let unit = if random.one_in(2) {
            unit.to_lowercase()
        } else {
            unit.to_owned()
        };
        parts.push(format!("unit: {unit}, requests_per_unit: {}", limit.requests));
    }
    if !limit.name.is_empty() {
        parts.push(format!("name: {}", limit.name));
    }
    if !limit.replaces.is_empty() {
        let names: Vec<_> = limit
            .replaces
            .iter()
            .map(|name| format!("{{name: {name}}}"))
            .collect();
        parts.push(format!("replaces: [{}]", names.join(", ")));
    }
    format!("{{{}}}", parts.join(", "))
}

/// Entries that walk down the tree, with the values of `values` where a rule leaves them open, and now and then astray.
pub fn entries(
    random: &mut Random,
    nodes: &[Node],
    keys: &[&str],
    values: &[&str],
    resplit: bool,
) -> Vec<(String, String)> {
    let mut entries = vec![];
    let mut level = nodes;
    while !level.is_empty() && (entries.is_empty() || !random.one_in(3)) {
        let node = &level[random.below(level.len() as u64) as usize];
        entries.push(entry(random, node, values, resplit));
        level = &node.children;
    }
    let stray = |random: &mut Random| (random.pick(keys).to_owned(), random.pick(values).to_owned());
    if entries.is_empty() || random.one_in(12) {
        entries.push(stray(random));
    }
    if random.one_in(12) {
        let at = random.below(entries.len() as u64) as usize;
        entries[at] = stray(random);
    }
    entries
}

/// An entry that the node matches.
fn entry(random: &mut Random, node: &Node, values: &[&str], resplit: bool) -> (String, String) {
    let mut fill = |text: &str| {
        let parts: Vec<&str> = text.split('*').collect();
        let mut filled = parts[0].to_owned();
        for part in &parts[1..] {
            filled += random.pick(values);
            filled += part;
        }
        filled
    };
    let key = fill(&node.key);
    let value = if node.value.is_empty() {
        random.pick(values).to_owned()
    } else {
        fill(&node.value)
    };
    // The same text, cut at another underscore into a key and a value.
    let text = format!("{key}_{value}");
    let cuts: Vec<_> = text
        .match_indices('_')
        .map(|(at, _)| at)
        .filter(|&at| at > 0)
        .collect();
    if resplit && random.one_in(3) && !cuts.is_empty() {
        let at = random.pick(&cuts);
        return (text[..at].to_owned(), text[at + 1..].to_owned());
    }
    match key.is_empty() {
        true => ("k".to_owned(), value),
        false => (key, value),
    }
}
