//! Merge keys (`<<`), as yaml.v2 takes them.
//!
//! It puts the merged entries where the `<<` stands: they override the keys before it and are overridden by those
//! after it. In a list of maps the earlier map wins.

use super::{Document, Kind, Node, NodeId, Tag};
use crate::policy::diagnostic::Place;

/// A key and its value, in the order in which they are assigned: the last one of a key holds.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The key's node.
    pub key: NodeId,
    /// The value's node.
    pub value: NodeId,
    /// Whether it came by a `<<`.
    pub merged: bool,
}

/// The entries of the map `id`, with those of its merge keys in their place. A node that is no map has none, and a
/// merge of what is no map adds none: [`bad_merges`] finds those.
pub fn entries(document: &Document<'_>, id: NodeId) -> Vec<Entry> {
    let mut entries = Vec::new();
    flatten(document, id, false, &mut entries);
    entries
}

/// The values of merge keys in `node` that are neither a map nor a list of maps.
pub fn bad_merges(document: &Document<'_>, node: &Node<'_>) -> Vec<Place> {
    let Kind::Map(pairs) = &node.kind else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for &(_, value) in pairs.iter().filter(|&&(key, _)| is_merge(document.node(key))) {
        let value = document.node(value);
        match &value.kind {
            Kind::Map(_) => {}
            Kind::Scalar(_) => places.push(value.place),
            Kind::Seq(items) => {
                let items = items.iter().map(|&item| document.node(item));
                places.extend(
                    items
                        .filter(|item| !matches!(item.kind, Kind::Map(_)))
                        .map(|item| item.place),
                );
            }
        }
    }
    places
}

/// Recursion is bounded: every level is a map within a map, so at most `depth_max`.
fn flatten(document: &Document<'_>, id: NodeId, merged: bool, out: &mut Vec<Entry>) {
    let Kind::Map(pairs) = &document.node(id).kind else {
        return;
    };
    for &(key, value) in pairs {
        if !is_merge(document.node(key)) {
            out.push(Entry { key, value, merged });
            continue;
        }
        match &document.node(value).kind {
            Kind::Map(_) => flatten(document, value, true, out),
            Kind::Seq(maps) => maps
                .iter()
                .rev()
                .for_each(|&map| flatten(document, map, true, out)),
            Kind::Scalar(_) => {}
        }
    }
}

fn is_merge(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => {
            scalar.text == "<<" && (scalar.tag == Some(Tag::Merge) || (scalar.plain && scalar.tag.is_none()))
        }
        Kind::Map(_) | Kind::Seq(_) => false,
    }
}
