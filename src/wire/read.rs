//! A request message read in place, without a copy of its texts.
//!
//! Only what every client sends is read here: known fields, each in its usual form, texts that are UTF-8, all within the bounds. Of
//! anything else nothing is said but that it is something else: then the generated reader (`codec`) says what it is, or
//! what is wrong with it. So there is one reader that decides what a message means, and this one agrees with it.

use prost::Message as _;
use smallvec::SmallVec;

use super::convert;
use super::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use crate::descriptor::{Bounds, Entry, Request};

/// Fields with a number, and with a length and bytes, as they stand on the wire.
const fn number(field: u8) -> u8 {
    field << 3
}
const fn bytes(field: u8) -> u8 {
    field << 3 | 2
}

const DOMAIN: u8 = bytes(1);
const DESCRIPTOR: u8 = bytes(2);
const HITS_ADDEND: u8 = number(3);

const ENTRY: u8 = bytes(1);
const LIMIT: u8 = bytes(2);
const OWN_HITS: u8 = bytes(3);
const IS_NEGATIVE: u8 = number(4);

const KEY: u8 = bytes(1);
const VALUE: u8 = bytes(2);

/// Reads a message as a request that borrows from it; `None` is for the generated reader.
#[must_use]
pub fn request<'a>(message: &'a [u8], bounds: &Bounds) -> Option<Request<'a>> {
    let (mut domain, mut hits_addend, mut descriptors) = (None, None, 0);
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            Field::Bytes(DOMAIN, text) if domain.is_none() => domain = Some(text),
            Field::Bytes(DESCRIPTOR, _) => descriptors += 1,
            Field::Number(HITS_ADDEND, hits) if hits_addend.is_none() => {
                hits_addend = Some(u32::try_from(hits).ok()?);
            }
            _ => return None,
        }
    }
    let domain = str::from_utf8(domain?).ok()?;
    let mut request = Request::begin(domain, hits_addend.unwrap_or(0), descriptors, bounds).ok()?;
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        if let Field::Bytes(DESCRIPTOR, descriptor) = field {
            push(&mut request, descriptor, bounds)?;
        }
    }
    Some(request)
}

fn push<'a>(request: &mut Request<'a>, descriptor: &'a [u8], bounds: &Bounds) -> Option<()> {
    let mut entries = SmallVec::<[Entry<'a>; 6]>::new();
    let (mut hits, mut refund, mut limit) = (None, None, None);
    let mut fields = Fields(descriptor);
    while let Some(field) = fields.next()? {
        match field {
            Field::Bytes(ENTRY, field) => entries.push(entry(field)?),
            Field::Bytes(LIMIT, field) if limit.is_none() => {
                limit = Some(convert::limit_override(&RateLimitOverride::decode(field).ok()?));
            }
            Field::Bytes(OWN_HITS, field) if hits.is_none() => hits = Some(wrapped(field)?),
            Field::Number(IS_NEGATIVE, value) if refund.is_none() => refund = Some(value != 0),
            _ => return None,
        }
    }
    request
        .push(entries.into_iter(), hits, refund.unwrap_or(false), limit, bounds)
        .ok()
}

fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (mut key, mut value) = (None, None);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            Field::Bytes(KEY, text) if key.is_none() => key = Some(str::from_utf8(text).ok()?),
            Field::Bytes(VALUE, text) if value.is_none() => value = Some(str::from_utf8(text).ok()?),
            _ => return None,
        }
    }
    let key = key.unwrap_or_default();
    let value = value.unwrap_or_default();
    Some(Entry { key, value })
}

/// A number in a message of its own, which is how it can be absent.
fn wrapped(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes);
    match (fields.next()?, fields.next()?) {
        (None, _) => Some(0),
        (Some(Field::Number(VALUE_OF_WRAPPER, value)), None) => Some(value),
        _ => None,
    }
}

const VALUE_OF_WRAPPER: u8 = number(1);

/// The fields of a message in their order.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Number(u8, u64),
    Bytes(u8, &'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field; `Some(None)` at the end, `None` at anything unusual.
    #[inline]
    fn next(&mut self) -> Option<Option<Field<'a>>> {
        let Some((&tag, rest)) = self.0.split_first() else {
            return Some(None);
        };
        self.0 = rest;
        // Tags of more than one byte, and types that no field of ours has, are somebody else's.
        let field = match tag & 0x87 {
            0 => Field::Number(tag, self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Field::Bytes(tag, bytes)
            }
            _ => return None,
        };
        Some(Some(field))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        // Nine bytes hold 63 bits; what needs the tenth is unusual.
        for (at, byte) in self.0.iter().take(9).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        None
    }
}
