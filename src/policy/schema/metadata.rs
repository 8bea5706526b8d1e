//! `metadata`, which is not checked but converted to what a protobuf Struct can hold.
//!
//! Keys become text: on the outermost level as they are written, below it as the reference server prints their values.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use crate::policy::diagnostic::{Quoted, Report};
use crate::policy::yaml::{Document, Entry, Kind, NodeId, Scalar, Value, entries, resolve};

/// Reads the map `id` into `out`, over what is there.
pub(super) fn read(
    document: &Document<'_>,
    id: NodeId,
    out: &mut Map<String, Json>,
    report: &mut Report<'_>,
) {
    let mut converter = Converter { document, report };
    let read = converter.map(id, |scalar| match resolve(scalar) {
        Ok(Value::Null) => String::new(),
        _ => scalar.text.to_string(),
    });
    out.extend(read);
}

struct Converter<'a, 'd, 'r, 's> {
    document: &'d Document<'a>,
    report: &'r mut Report<'s>,
}

impl Converter<'_, '_, '_, '_> {
    /// Recursion is bounded by the depth of the document.
    fn map(&mut self, id: NodeId, key_of: impl Fn(&Scalar<'_>) -> String) -> Map<String, Json> {
        let mut map = Map::new();
        let mut own = HashSet::new();
        for Entry { key, value, merged } in entries(self.document, id) {
            let node = self.document.node(key);
            let Kind::Scalar(scalar) = &node.kind else {
                continue;
            };
            let key = key_of(scalar);
            if !merged && !own.insert(key.clone()) {
                let key = Quoted(&key);
                self.report.warning(
                    node.place,
                    format_args!("duplicate key {key}: it overrides the earlier one"),
                );
            }
            let value = self.value(value);
            map.insert(key, value);
        }
        map
    }

    fn value(&mut self, id: NodeId) -> Json {
        let node = self.document.node(id);
        match &node.kind {
            Kind::Map(_) => Json::Object(self.map(id, inner_key)),
            Kind::Seq(items) => Json::Array(items.iter().map(|&item| self.value(item)).collect()),
            Kind::Scalar(scalar) => match resolve(scalar) {
                Ok(Value::Null) => Json::Null,
                Ok(Value::Bool(value)) => value.into(),
                Ok(Value::Int(value)) => value.into(),
                Ok(Value::Large(value)) => value.into(),
                Ok(Value::Float(value)) if value.is_finite() => value.into(),
                Ok(Value::Float(value)) => {
                    let name = not_finite(value);
                    self.report.warning(
                        node.place,
                        format_args!("a number that is not finite is returned as '{name}'"),
                    );
                    name.into()
                }
                // A tag that does not fit was reported with the keys.
                Ok(Value::Text) | Err(_) => scalar.text.as_ref().into(),
            },
        }
    }
}

/// A key below the outermost level, by its value.
fn inner_key(scalar: &Scalar<'_>) -> String {
    match resolve(scalar) {
        Ok(Value::Null) => "<nil>".to_owned(),
        Ok(Value::Bool(value)) => value.to_string(),
        Ok(Value::Int(value)) => value.to_string(),
        Ok(Value::Large(value)) => value.to_string(),
        Ok(Value::Float(value)) if value.is_finite() => value.to_string(),
        Ok(Value::Float(value)) => not_finite(value).to_owned(),
        Ok(Value::Text) | Err(_) => scalar.text.to_string(),
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value.is_sign_positive() {
        "Infinity"
    } else {
        "-Infinity"
    }
}
