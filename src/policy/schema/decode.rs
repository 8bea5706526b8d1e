//! The values of a policy file, each with the type of its key, as yaml.v2 decodes into the reference server's structs.
//!
//! A key that stands several times is assigned several times, so the last one holds. For `rate_limit` and `metadata`
//! yaml.v2 decodes into what is there already: their keys are merged.

use super::keys::report_item;
use super::metadata;
use super::raw::{Field, RawDescriptor, RawRateLimit, RawReplaces, RawRoot};
use crate::policy::diagnostic::{Place, Quoted, Report};
use crate::policy::yaml::{Bounds, Document, Kind, Node, NodeId, Value, entries, looks_octal, resolve};

/// The whole file.
pub(super) fn root(document: &Document<'_>, bounds: &Bounds, report: &mut Report<'_>) -> RawRoot {
    let mut decoder = Decoder {
        document,
        bounds,
        report,
    };
    let mut root = RawRoot {
        place: Place::START,
        domain: Field::default(),
        on_store_error: Field::default(),
        strict: Field::default(),
        shard_by: Field::default(),
        descriptors: Vec::new(),
    };
    let Some(id) = document.root else { return root };
    root.place = document.node(id).place;
    if decoder.is_null(id) {
        return root;
    }
    if !decoder.expect_map("the file", id) {
        root.domain.wrong = true;
        return root;
    }
    for (key, value) in decoder.fields(id) {
        match key {
            "domain" => decoder.text(key, value, &mut root.domain),
            "on_store_error" => decoder.text(key, value, &mut root.on_store_error),
            "strict" => decoder.boolean(key, value, &mut root.strict),
            "shard_by" => decoder.text(key, value, &mut root.shard_by),
            "descriptors" => root.descriptors = decoder.descriptors(value, 1),
            _ => {}
        }
    }
    root
}

/// The domain that a file names which could not be read to its end.
pub(super) fn domain_of(document: &Document<'_>) -> Option<String> {
    let mut domain = None;
    for entry in entries(document, document.root?) {
        if let (Some("domain"), Kind::Scalar(value)) = (
            key_text(document.node(entry.key)),
            &document.node(entry.value).kind,
        ) {
            domain = resolve(value)
                .ok()
                .filter(|&read| read != Value::Null)
                .map(|_| value.text.to_string());
        }
    }
    domain.filter(|domain| !domain.is_empty())
}

struct Decoder<'a, 'd, 'r, 's> {
    document: &'d Document<'a>,
    bounds: &'d Bounds,
    report: &'r mut Report<'s>,
}

impl<'d> Decoder<'_, 'd, '_, '_> {
    /// The keys and values of the map `id` in the order of their assignment.
    fn fields(&self, id: NodeId) -> impl Iterator<Item = (&'d str, NodeId)> + use<'d> {
        let document: &'d Document<'_> = self.document;
        entries(document, id)
            .into_iter()
            .filter_map(|entry| Some((key_text(document.node(entry.key))?, entry.value)))
    }

    /// Recursion is bounded by the most descriptors within each other.
    fn descriptors(&mut self, id: NodeId, depth: usize) -> Vec<RawDescriptor> {
        if depth > self.bounds.descriptor_depth_max && !self.is_null(id) {
            let max = self.bounds.descriptor_depth_max;
            let place = self.document.node(id).place;
            self.report.error(
                place,
                format_args!("more than {max} descriptors within each other"),
            );
            return Vec::new();
        }
        let mut descriptors = Vec::new();
        for item in self.maps("descriptors", id) {
            let place = self.document.node(item).place;
            descriptors.push(self.descriptor(item, place, depth));
        }
        descriptors
    }

    fn descriptor(&mut self, id: NodeId, place: Place, depth: usize) -> RawDescriptor {
        let mut raw = RawDescriptor::new(place);
        for (key, value) in self.fields(id) {
            match key {
                "key" => self.text(key, value, &mut raw.key),
                "value" => self.text(key, value, &mut raw.value),
                "rate_limit" => self.rate_limit(value, &mut raw.rate_limit),
                "descriptors" => raw.descriptors = self.descriptors(value, depth + 1),
                "shadow_mode" => self.boolean(key, value, &mut raw.shadow_mode),
                "quota_mode" => self.boolean(key, value, &mut raw.quota_mode),
                "detailed_metric" => self.boolean(key, value, &mut raw.detailed_metric),
                "value_to_metric" => self.boolean(key, value, &mut raw.value_to_metric),
                "share_threshold" => self.boolean(key, value, &mut raw.share_threshold),
                "metadata" if self.is_null(value) => raw.metadata.clear(),
                "metadata" if self.expect_map("'metadata'", value) => {
                    metadata::read(self.document, value, &mut raw.metadata, self.report);
                }
                _ => {}
            }
        }
        raw
    }

    fn rate_limit(&mut self, id: NodeId, field: &mut Field<Box<RawRateLimit>>) {
        let node = self.document.node(id);
        field.place = Some(node.place);
        if let Kind::Scalar(scalar) = &node.kind
            && self.is_null(id)
        {
            // yaml.v2 takes these two spellings for a limit without any keys, unlike the others.
            let is_empty_limit = scalar.tag.is_none() && matches!(&*scalar.text, "Null" | "NULL");
            field.value = is_empty_limit.then(Box::default);
            return;
        }
        if !self.expect_map("'rate_limit'", id) {
            field.wrong = true;
            return;
        }
        let raw = field.value.get_or_insert_default();
        for (key, value) in self.fields(id) {
            match key {
                "unit" => self.text(key, value, &mut raw.unit),
                "requests_per_unit" => self.number(key, value, &mut raw.requests_per_unit),
                "unlimited" => self.boolean(key, value, &mut raw.unlimited),
                "name" => self.text(key, value, &mut raw.name),
                "replaces" => raw.replaces = self.replaces(value),
                "algorithm" => self.text(key, value, &mut raw.algorithm),
                "unit_multiplier" => self.number(key, value, &mut raw.unit_multiplier),
                "burst" => self.number(key, value, &mut raw.burst),
                "scope" => self.text(key, value, &mut raw.scope),
                "charge" => self.text(key, value, &mut raw.charge),
                "on_store_error" => self.text(key, value, &mut raw.on_store_error),
                "strict" => self.boolean(key, value, &mut raw.strict),
                _ => {}
            }
        }
    }

    fn replaces(&mut self, id: NodeId) -> Vec<RawReplaces> {
        let mut replaces = Vec::new();
        for item in self.maps("replaces", id) {
            let node = self.document.node(item);
            let mut raw = RawReplaces {
                place: node.place,
                name: Field::default(),
            };
            for (key, value) in self.fields(item) {
                if key == "name" {
                    self.text(key, value, &mut raw.name);
                }
            }
            replaces.push(raw);
        }
        replaces
    }

    /// The maps of a list; none if it is null or, which is reported, no list.
    fn maps(&mut self, key: &str, id: NodeId) -> Vec<NodeId> {
        let node = self.document.node(id);
        let Kind::Seq(items) = &node.kind else {
            if !self.is_null(id) {
                self.report.error(
                    node.place,
                    format_args!("'{key}' must be a list, not {}", describe(node)),
                );
            }
            return Vec::new();
        };
        let mut maps = Vec::with_capacity(items.len());
        for &item in items {
            if matches!(self.document.node(item).kind, Kind::Map(_)) {
                maps.push(item);
            } else if !self.is_null(item) {
                report_item(self.document.node(item), self.report);
            }
        }
        maps
    }

    fn expect_map(&mut self, what: &str, id: NodeId) -> bool {
        let node = self.document.node(id);
        let is_map = matches!(node.kind, Kind::Map(_));
        if !is_map {
            self.report.error(
                node.place,
                format_args!("{what} must be a map of keys, not {}", describe(node)),
            );
        }
        is_map
    }

    fn is_null(&self, id: NodeId) -> bool {
        match &self.document.node(id).kind {
            Kind::Scalar(scalar) => resolve(scalar) == Ok(Value::Null),
            Kind::Map(_) | Kind::Seq(_) => false,
        }
    }

    /// A text; numbers and booleans are kept as they are written.
    fn text(&mut self, key: &str, id: NodeId, field: &mut Field<String>) {
        self.scalar(key, "text", id, field, |text, value| match value {
            Value::Null => Read::Null,
            Value::Float(_) | Value::Large(_) => Read::Reported,
            Value::Bool(_) | Value::Int(_) | Value::Text => Read::Good(text.to_owned()),
        });
    }

    fn boolean(&mut self, key: &str, id: NodeId, field: &mut Field<bool>) {
        self.scalar(key, "true or false", id, field, |_, value| match value {
            Value::Null => Read::Null,
            Value::Bool(value) => Read::Good(value),
            _ => Read::Bad,
        });
    }

    fn number(&mut self, key: &str, id: NodeId, field: &mut Field<u32>) {
        let wanted = "a whole number of at most 4294967295";
        self.scalar(key, wanted, id, field, |_, value| match value {
            Value::Null => Read::Null,
            Value::Int(value) => u32::try_from(value).map_or(Read::Bad, Read::Good),
            Value::Float(_) | Value::Large(_) => Read::Reported,
            Value::Bool(_) | Value::Text => Read::Bad,
        });
        let node = self.document.node(id);
        if let (Kind::Scalar(scalar), Some(value)) = (&node.kind, field.value)
            && looks_octal(scalar)
        {
            let text = Quoted(&scalar.text);
            self.report.warning(
                node.place,
                format_args!("'{key}' is read as {value}: a leading zero makes {text} octal"),
            );
        }
    }

    /// Assigns what `convert` makes of a scalar, over what is there.
    fn scalar<T>(
        &mut self,
        key: &str,
        wanted: &str,
        id: NodeId,
        field: &mut Field<T>,
        convert: impl Fn(&str, Value) -> Read<T>,
    ) {
        let node = self.document.node(id);
        let read = match &node.kind {
            Kind::Scalar(scalar) => {
                resolve(scalar).map_or(Read::Reported, |value| convert(&scalar.text, value))
            }
            Kind::Map(_) | Kind::Seq(_) => Read::Bad,
        };
        if matches!(read, Read::Bad) {
            self.report.error(
                node.place,
                format_args!("'{key}' must be {wanted}, not {}", describe(node)),
            );
        }
        *field = Field {
            place: Some(node.place),
            wrong: matches!(read, Read::Bad | Read::Reported),
            value: if let Read::Good(value) = read {
                Some(value)
            } else {
                None
            },
        };
    }
}

/// What a scalar is to a key of one type.
enum Read<T> {
    Good(T),
    Null,
    /// Another type.
    Bad,
    /// A number or tag that can stand nowhere: [`super::keys`] has reported it.
    Reported,
}

fn key_text<'d>(node: &'d Node<'_>) -> Option<&'d str> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(&scalar.text),
        Kind::Map(_) | Kind::Seq(_) => None,
    }
}

/// A value in words.
fn describe(node: &Node<'_>) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::Seq(_) => "a list".to_owned(),
        Kind::Scalar(scalar) => {
            let text = Quoted(&scalar.text);
            match resolve(scalar) {
                Ok(Value::Text) if !scalar.plain => format!("the quoted text {text}"),
                _ => text.to_string(),
            }
        }
    }
}
