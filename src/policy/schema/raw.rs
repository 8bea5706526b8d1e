//! A policy file whose values have their types, before the rules about them are checked.

use serde_json::{Map, Value};

use crate::policy::diagnostic::Place;

/// A value that may be absent or wrong.
#[derive(Debug)]
pub(super) struct Field<T> {
    /// The value; none if it is absent, null or wrong.
    pub value: Option<T>,
    /// Where it stands, also if it is null or wrong.
    pub place: Option<Place>,
    /// Whether it has the wrong type, which was reported: nothing further follows from its absence.
    pub wrong: bool,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self {
            value: None,
            place: None,
            wrong: false,
        }
    }
}

impl<T> Field<T> {
    /// Where it stands, or else where what it belongs to begins.
    pub fn place_or(&self, owner: Place) -> Place {
        self.place.unwrap_or(owner)
    }
}

impl Field<String> {
    /// The text, empty if there is none.
    pub fn text(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

impl Field<bool> {
    /// Whether it is set and true.
    pub fn is_true(&self) -> bool {
        self.value == Some(true)
    }
}

#[derive(Debug)]
pub(super) struct RawRoot {
    pub place: Place,
    pub domain: Field<String>,
    pub on_store_error: Field<String>,
    pub strict: Field<bool>,
    pub shard_by: Field<String>,
    pub descriptors: Vec<RawDescriptor>,
}

#[derive(Debug)]
pub(super) struct RawDescriptor {
    pub place: Place,
    pub key: Field<String>,
    pub value: Field<String>,
    pub rate_limit: Field<Box<RawRateLimit>>,
    pub descriptors: Vec<RawDescriptor>,
    pub shadow_mode: Field<bool>,
    pub quota_mode: Field<bool>,
    pub detailed_metric: Field<bool>,
    pub value_to_metric: Field<bool>,
    pub share_threshold: Field<bool>,
    pub metadata: Map<String, Value>,
}

#[derive(Debug, Default)]
pub(super) struct RawRateLimit {
    pub unit: Field<String>,
    pub requests_per_unit: Field<u32>,
    pub unlimited: Field<bool>,
    pub name: Field<String>,
    pub replaces: Vec<RawReplaces>,
    pub algorithm: Field<String>,
    pub unit_multiplier: Field<u32>,
    pub burst: Field<u32>,
    pub scope: Field<String>,
    pub charge: Field<String>,
    pub on_store_error: Field<String>,
    pub strict: Field<bool>,
}

#[derive(Debug)]
pub(super) struct RawReplaces {
    pub place: Place,
    pub name: Field<String>,
}

impl RawDescriptor {
    pub fn new(place: Place) -> Self {
        Self {
            place,
            key: Field::default(),
            value: Field::default(),
            rate_limit: Field::default(),
            descriptors: Vec::new(),
            shadow_mode: Field::default(),
            quota_mode: Field::default(),
            detailed_metric: Field::default(),
            value_to_metric: Field::default(),
            share_threshold: Field::default(),
            metadata: Map::new(),
        }
    }
}
