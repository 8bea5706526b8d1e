//! Messages ↔ domain types.

use prost_types::{ListValue, Struct, Value, value::Kind};

use super::pb::envoy::config::core::v3::HeaderValue;
use super::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use super::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit, rate_limit::Unit as WireUnit,
};
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use super::pb::envoy::r#type::v3::RateLimitUnit;
use crate::decision::{Answer, CurrentLimit, Status};
use crate::descriptor::{Bounds, Entry, Invalid, LimitOverride, Request, Unit};
use crate::policy::Metadata;

/// Reads a message as a request that borrows from it.
///
/// # Errors
/// The first field that is outside the bounds.
pub fn request<'a>(message: &'a RateLimitRequest, bounds: &Bounds) -> Result<Request<'a>, Invalid> {
    let mut request = Request::begin(
        &message.domain,
        message.hits_addend,
        message.descriptors.len(),
        bounds,
    )?;
    for descriptor in &message.descriptors {
        let entries = descriptor.entries.iter().map(|entry| Entry {
            key: &entry.key,
            value: &entry.value,
        });
        let limit = descriptor.limit.as_ref().map(limit_override);
        request.push(
            entries,
            descriptor.hits_addend,
            descriptor.is_negative_hits,
            limit,
            bounds,
        )?;
    }
    Ok(request)
}

pub(super) fn limit_override(it: &RateLimitOverride) -> LimitOverride {
    let unit = match it.unit() {
        // An undefined number reads as unknown, too.
        RateLimitUnit::Unknown => None,
        RateLimitUnit::Second => Some(Unit::Second),
        RateLimitUnit::Minute => Some(Unit::Minute),
        RateLimitUnit::Hour => Some(Unit::Hour),
        RateLimitUnit::Day => Some(Unit::Day),
        RateLimitUnit::Month => Some(Unit::Month),
        RateLimitUnit::Year => Some(Unit::Year),
    };
    LimitOverride {
        requests_per_unit: it.requests_per_unit,
        unit,
        unit_multiplier: it.unit_multiplier.unwrap_or(1).max(1),
    }
}

/// Writes an answer as a message.
#[must_use]
pub fn response(answer: Answer) -> RateLimitResponse {
    let headers = answer.response_headers.into_iter();
    let header = |it: crate::decision::Header| HeaderValue {
        key: it.name.to_string(),
        value: it.value,
        raw_value: Vec::new(),
    };
    RateLimitResponse {
        overall_code: code(answer.denied).into(),
        statuses: answer.statuses.iter().map(status).collect(),
        response_headers_to_add: headers.map(header).collect(),
        request_headers_to_add: Vec::new(),
        raw_body: answer.denied_body.into_bytes(),
        dynamic_metadata: answer.dynamic_metadata.as_ref().map(structure),
        quota: None,
    }
}

pub(super) fn code(over: bool) -> Code {
    if over { Code::OverLimit } else { Code::Ok }
}

fn status(it: &Status) -> DescriptorStatus {
    let seconds = it
        .reset_s
        .map(|reset_s| i64::try_from(reset_s).unwrap_or(i64::MAX));
    DescriptorStatus {
        code: code(it.over).into(),
        current_limit: it.current_limit.as_ref().map(current_limit),
        limit_remaining: it.remaining,
        duration_until_reset: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        quota: None,
    }
}

fn current_limit(it: &CurrentLimit) -> RateLimit {
    RateLimit {
        requests_per_unit: it.requests_per_unit,
        unit: wire_unit(it.unit).into(),
        name: it.name.as_deref().unwrap_or_default().to_owned(),
        unit_multiplier: it.unit_multiplier,
    }
}

pub(super) fn wire_unit(unit: Unit) -> WireUnit {
    match unit {
        Unit::Second => WireUnit::Second,
        Unit::Minute => WireUnit::Minute,
        Unit::Hour => WireUnit::Hour,
        Unit::Day => WireUnit::Day,
        Unit::Week => WireUnit::Week,
        Unit::Month => WireUnit::Month,
        Unit::Year => WireUnit::Year,
    }
}

fn structure(map: &Metadata) -> Struct {
    Struct {
        fields: map.iter().map(|(key, it)| (key.clone(), value(it))).collect(),
    }
}

/// Recurses as deep as a policy file's metadata, which is bounded.
fn value(it: &serde_json::Value) -> Value {
    let kind = match it {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(it) => Kind::BoolValue(*it),
        serde_json::Value::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or_default()),
        serde_json::Value::String(it) => Kind::StringValue(it.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value).collect(),
        }),
        serde_json::Value::Object(map) => Kind::StructValue(structure(map)),
    };
    Value { kind: Some(kind) }
}
