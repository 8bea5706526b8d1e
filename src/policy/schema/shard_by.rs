//! `shard_by`: the key of the entry that decides in which slot of a cluster counters are.

use super::raw::Field;
use super::{DescriptorNode, ShardBy};
use crate::descriptor::KEY_BYTES_MAX;
use crate::policy::diagnostic::{Quoted, Report};

/// The key, if it is one; `descriptors` are the file's rules.
pub(super) fn check(
    field: &Field<String>,
    descriptors: &[DescriptorNode],
    report: &mut Report<'_>,
) -> Option<ShardBy> {
    let place = field.place.filter(|_| !field.wrong)?;
    let key = field.text();
    match key.len() {
        0 => {
            report.error(place, "'shard_by' must name the key of an entry");
            return None;
        }
        bytes if bytes > KEY_BYTES_MAX => {
            let text =
                format_args!("'shard_by' has {bytes} bytes, the key of an entry at most {KEY_BYTES_MAX}");
            report.error(place, text);
            return None;
        }
        _ => {}
    }
    // What rules in error were meant to be for cannot be known.
    if !report.has_errors() && !any_meets(descriptors, &format!("{key}_")) {
        let key = Quoted(key);
        report.warning(
            place,
            format_args!("'shard_by' has no effect: no rule of this file is for an entry {key}"),
        );
    }
    Some(ShardBy {
        key: key.to_owned(),
        place,
    })
}

/// Whether an entry can meet one of the rules, on any level. `entry` is the entry's key and a `_`, with which all begins that
/// rules are looked up by for it. Recursion is bounded by the most descriptors within each other.
fn any_meets(descriptors: &[DescriptorNode], entry: &str) -> bool {
    descriptors
        .iter()
        .any(|node| meets(node, entry) || any_meets(&node.descriptors, entry))
}

fn meets(node: &DescriptorNode, entry: &str) -> bool {
    let composite = match &node.value {
        Some(value) => format!("{}_{value}", node.key),
        None => node.key.clone(),
    };
    match composite.split_once('*') {
        // Whatever the rest of the pattern asks for, the entry's value can be that.
        Some((before, _)) => before.starts_with(entry) || entry.starts_with(before),
        None => {
            composite.starts_with(entry)
                || (node.value.is_none() && entry.strip_suffix('_') == Some(&composite))
        }
    }
}
