//! An answer written as a framed message, without a message in between.
//!
//! Statuses are written here; answers with more in them (headers, a body, metadata) are left to the generated writer. Both
//! write the same bytes.

use prost::bytes::{BufMut, Bytes};
use tonic::Status as Failure;

use super::convert;
use super::grpc::{PREFIX, framed};
use crate::decision::{Answer, CurrentLimit, Status};

/// Writes an answer behind gRPC's prefix.
///
/// # Errors
/// An answer that is longer than a prefix can say.
pub fn answer(answer: Answer) -> Result<Bytes, Failure> {
    let plain = answer.response_headers.is_empty()
        && answer.denied_body.is_empty()
        && answer.dynamic_metadata.is_none();
    if !plain {
        return framed(&convert::response(answer));
    }
    let length = 2 + answer.statuses.iter().map(framed_len).sum::<usize>();
    let Ok(said) = u32::try_from(length) else {
        return Err(Failure::resource_exhausted(format!(
            "an answer of {length} bytes"
        )));
    };
    let mut out = Vec::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(said);
    number(&mut out, 1, code(answer.denied));
    for status in &answer.statuses {
        write(&mut out, status);
    }
    debug_assert_eq!(out.len(), PREFIX + length, "{answer:?}");
    Ok(out.into())
}

fn code(over: bool) -> u64 {
    convert::code(over) as u64
}

/// Bytes of a field in its message; zero is left out.
fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Bytes of a field with a length, with it.
fn block_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Seven bits a byte.
fn varint_len(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

fn framed_len(status: &Status) -> usize {
    block_len(status_len(status))
}

fn status_len(it: &Status) -> usize {
    let limit = it.current_limit.as_ref().map(|limit| block_len(limit_len(limit)));
    let reset = it.reset_s.map(|reset_s| block_len(number_len(seconds(reset_s))));
    number_len(code(it.over)) + limit.unwrap_or(0) + number_len(it.remaining.into()) + reset.unwrap_or(0)
}

fn limit_len(it: &CurrentLimit) -> usize {
    let name = it.name.as_deref().filter(|name| !name.is_empty());
    let multiplier = it.unit_multiplier.map(|it| block_len(number_len(it.into())));
    number_len(it.requests_per_unit.into())
        + number_len(unit(it))
        + name.map_or(0, |name| block_len(name.len()))
        + multiplier.unwrap_or(0)
}

fn unit(it: &CurrentLimit) -> u64 {
    convert::wire_unit(it.unit) as u64
}

/// The wire's seconds have a sign.
fn seconds(reset_s: u64) -> u64 {
    reset_s.min(i64::MAX as u64)
}

fn write(out: &mut Vec<u8>, it: &Status) {
    block(out, 2, status_len(it));
    number(out, 1, code(it.over));
    if let Some(limit) = &it.current_limit {
        block(out, 2, limit_len(limit));
        number(out, 1, limit.requests_per_unit.into());
        number(out, 2, unit(limit));
        if let Some(name) = limit.name.as_deref().filter(|name| !name.is_empty()) {
            block(out, 3, name.len());
            out.put_slice(name.as_bytes());
        }
        if let Some(multiplier) = limit.unit_multiplier {
            block(out, 4, number_len(multiplier.into()));
            number(out, 1, multiplier.into());
        }
    }
    number(out, 3, it.remaining.into());
    if let Some(reset_s) = it.reset_s {
        block(out, 4, number_len(seconds(reset_s)));
        number(out, 1, seconds(reset_s));
    }
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.put_u8(field << 3);
        varint(out, value);
    }
}

fn block(out: &mut Vec<u8>, field: u8, length: usize) {
    out.put_u8(field << 3 | 2);
    varint(out, length as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}
