//! The answer's dynamic metadata, in the reference server's shape.

use serde_json::{Map, Value, json};

use super::answer::Status;
use crate::descriptor::Request;
use crate::policy::{Metadata, Rule};

/// `{domain, descriptors: [{entries, limit?, hitsAddend?}], hitsAddend?, metadata?}`, where `metadata` merges what the rules of
/// all passed descriptors carry: maps key by key, of anything else the first one stays.
pub(super) fn dynamic_metadata<'r>(
    request: &Request<'_>,
    outcomes: impl Iterator<Item = (Option<&'r Rule>, &'r Status)>,
) -> Metadata {
    let mut all = Map::new();
    all.insert("domain".to_owned(), request.domain().into());
    let descriptors = request.descriptors().iter().map(|descriptor| {
        let mut shown = Map::new();
        let entries = request.entries(descriptor).iter();
        let entries: Vec<Value> = entries
            .map(|entry| format!("{}={}", entry.key, entry.value).into())
            .collect();
        shown.insert("entries".to_owned(), entries.into());
        if let Some(limit) = &descriptor.limit {
            let unit = limit.unit.map_or("UNKNOWN", |unit| unit.wire_name());
            let text = format!("requests_per_unit:{} unit:{unit}", limit.requests_per_unit);
            shown.insert("limit".to_owned(), text.into());
        }
        if descriptor.hits.explicit {
            shown.insert("hitsAddend".to_owned(), json!(descriptor.hits.count));
        }
        Value::Object(shown)
    });
    all.insert("descriptors".to_owned(), descriptors.collect());
    if request.hits_addend() != 0 {
        all.insert("hitsAddend".to_owned(), request.hits_addend().into());
    }
    let mut merged = Map::new();
    for (rule, status) in outcomes {
        if let Some(metadata) = rule
            .filter(|_| !status.over)
            .and_then(|rule| rule.metadata.as_deref())
        {
            merge(&mut merged, metadata);
        }
    }
    if !merged.is_empty() {
        all.insert("metadata".to_owned(), merged.into());
    }
    all
}

/// Adds what is not there yet; depth is bounded by the policy files'.
fn merge(into: &mut Metadata, from: &Metadata) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(_), _) => {}
            (None, new) => {
                into.insert(key.clone(), new.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_scalar_stays_and_maps_are_merged() {
        let map = |value: Value| value.as_object().cloned().expect("an object");
        let first = map(json!({"a": 1, "deep": {"x": 1}}));
        let mut merged = Map::new();
        merge(&mut merged, &first);
        merge(
            &mut merged,
            &map(json!({"a": 2, "b": 3, "deep": {"x": 9, "y": 2}})),
        );
        assert_eq!(
            Value::Object(merged),
            json!({"a": 1, "b": 3, "deep": {"x": 1, "y": 2}})
        );
        assert_eq!(
            Value::Object(first),
            json!({"a": 1, "deep": {"x": 1}}),
            "a rule's own data never changes"
        );
    }
}
