//! Messages as bytes, read more leniently than protobuf wants.
//!
//! Envoy puts header values into descriptors as they come, also when they are not UTF-8. A strict reader refuses the whole
//! message, and a refused request goes on without any limit. So what a strict reader refuses is read again with texts
//! as bytes, and each byte that is not part of UTF-8 stands as a character of a private range: the value is counted as
//! what it is, apart from all others.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use super::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use super::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// The private character that byte 0 would have.
const BYTES_FROM: u32 = 0x10_FF00;

/// Reads a message of its own kind.
pub trait Lenient: Message + Default + 'static {
    /// Reads the whole of `bytes`.
    ///
    /// # Errors
    /// Bytes that are no message of this kind.
    fn read(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Self::decode(bytes)
    }
}

impl Lenient for RateLimitResponse {}

impl Lenient for RateLimitRequest {
    fn read(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Self::decode(bytes).or_else(|strict| RawRequest::decode(bytes).map(Self::from).map_err(|_| strict))
    }
}

/// [`ProstCodec`] with a lenient reader.
#[derive(Debug)]
pub struct LenientCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LenientCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The reader of a [`LenientCodec`].
#[derive(Debug)]
pub struct LenientDecoder<U>(PhantomData<U>);

impl<T, U> Codec for LenientCodec<T, U>
where
    T: Message + Send + 'static,
    U: Lenient + Send,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = LenientDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        LenientDecoder(PhantomData)
    }
}

impl<U: Lenient> Decoder for LenientDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Self::Error> {
        use prost::bytes::Buf as _;
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        U::read(&bytes).map(Some).map_err(|error| unreadable(&error))
    }
}

/// What is said of bytes that are no message.
pub(super) fn unreadable(error: &prost::DecodeError) -> Status {
    Status::invalid_argument(format!("no such message: {error}"))
}

/// A request whose texts are bytes.
#[derive(Clone, PartialEq, Message)]
struct RawRequest {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<RawDescriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RawDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<RawEntry>,
    #[prost(message, optional, tag = "2")]
    limit: Option<RateLimitOverride>,
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<u64>,
    #[prost(bool, tag = "4")]
    is_negative_hits: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RawEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl From<RawRequest> for RateLimitRequest {
    fn from(raw: RawRequest) -> Self {
        let entry = |raw: RawEntry| Entry {
            key: text(&raw.key),
            value: text(&raw.value),
        };
        let descriptor = |raw: RawDescriptor| RateLimitDescriptor {
            entries: raw.entries.into_iter().map(entry).collect(),
            limit: raw.limit,
            hits_addend: raw.hits_addend,
            is_negative_hits: raw.is_negative_hits,
        };
        Self {
            domain: text(&raw.domain),
            descriptors: raw.descriptors.into_iter().map(descriptor).collect(),
            hits_addend: raw.hits_addend,
        }
    }
}

/// What is UTF-8 as it is, each other byte as its private character.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let private =
            |byte: &u8| char::from_u32(BYTES_FROM + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
        text.extend(chunk.invalid().iter().map(private));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: &[u8]) -> Vec<u8> {
        RawRequest {
            domain: b"d".to_vec(),
            descriptors: vec![RawDescriptor {
                entries: vec![RawEntry {
                    key: b"user".to_vec(),
                    value: value.to_vec(),
                }],
                limit: Some(RateLimitOverride {
                    requests_per_unit: 3,
                    unit: 2,
                    unit_multiplier: Some(4),
                }),
                hits_addend: Some(0),
                is_negative_hits: true,
            }],
            hits_addend: 7,
        }
        .encode_to_vec()
    }

    #[test]
    fn texts_that_are_none_are_counted_apart() {
        let read = |value: &[u8]| RateLimitRequest::read(&request(value)).expect("a message");
        let value = |value: &[u8]| read(value).descriptors[0].entries[0].value.clone();
        assert_eq!(value(b"mallory\xff"), "mallory\u{10ffff}");
        assert_ne!(value(b"mallory\xfe"), value(b"mallory\xff"));
        assert_ne!(value(b"\xc3"), value(b"\xc3\xa9"));
        assert_eq!(value("alic\u{e9}".as_bytes()), "alic\u{e9}");
    }

    #[test]
    fn all_else_is_read_as_by_the_strict_reader() {
        let strict = RateLimitRequest::decode(&*request(b"x")).expect("a message");
        assert_eq!(
            RateLimitRequest::from(RawRequest::decode(&*request(b"x")).expect("a message")),
            strict
        );
        assert!(RateLimitRequest::read(b"\xff\xff").is_err());
    }
}
