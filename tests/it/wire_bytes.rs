//! The quick reader and writer of messages agree with the generated ones, byte for byte.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use ratekeeper::decision::{Answer, CurrentLimit, Header, Status};
use ratekeeper::descriptor::{Bounds, Request, Unit};
use ratekeeper::wire::codec::Lenient as _;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use ratekeeper::wire::{convert, grpc, read, write};

use crate::hostile_bytes::messages;

/// All that a request says.
fn said(request: &Request<'_>) -> String {
    let entries: Vec<_> = request
        .descriptors()
        .iter()
        .map(|it| request.entries(it))
        .collect();
    let (domain, hits) = (request.domain(), request.hits_addend());
    format!("{domain:?} {hits} {:?} {entries:?}", request.descriptors())
}

/// What the generated reader makes of it.
fn slowly(bytes: &[u8], bounds: &Bounds) -> Option<String> {
    let message = RateLimitRequest::read(bytes).ok()?;
    convert::request(&message, bounds)
        .ok()
        .map(|request| said(&request))
}

fn agree(bytes: &[u8]) -> bool {
    let bounds = Bounds {
        descriptors_max: 4,
        entries_max: 2,
        key_bytes_max: 8,
        value_bytes_max: 8,
    };
    let quick = read::request(bytes, &bounds);
    if let Some(request) = &quick {
        assert_eq!(Some(said(request)), slowly(bytes, &bounds), "{bytes:?}");
    }
    quick.is_some()
}

#[test]
fn what_clients_send_is_read_quickly() {
    for (bytes, quick) in [
        (&b"\x0a\x01d\x12\x08\x0a\x06\x0a\x01a\x12\x01b"[..], true),
        // No value, an empty one, hits of the request.
        (b"\x0a\x01d\x12\x05\x0a\x03\x0a\x01a", true),
        (b"\x0a\x01d\x12\x07\x0a\x05\x0a\x01a\x12\x00", true),
        (b"\x18\x05\x0a\x01d\x12\x05\x0a\x03\x0a\x01a", true),
        // Hits of the descriptor: 300, a look, a refund, a limit.
        (b"\x0a\x01d\x12\x0a\x0a\x03\x0a\x01a\x1a\x03\x08\xac\x02", true),
        (b"\x0a\x01d\x12\x07\x0a\x03\x0a\x01a\x1a\x00", true),
        (b"\x0a\x01d\x12\x07\x0a\x03\x0a\x01a\x20\x01", true),
        (
            b"\x0a\x01d\x12\x0b\x0a\x03\x0a\x01a\x12\x04\x08\x07\x10\x02",
            true,
        ),
        // Left to the other: an unknown field, a field twice, no UTF-8, a bound, an end too early.
        (b"\x0a\x01d\x12\x05\x0a\x03\x0a\x01a\x40\x01", false),
        (b"\x0a\x01d\x0a\x01e\x12\x05\x0a\x03\x0a\x01a", false),
        (b"\x0a\x01d\x12\x05\x0a\x03\x0a\x01\xff", false),
        (b"\x0a\x01d\x12\x0d\x0a\x0b\x0a\x09aaaaaaaaa", false),
        (b"\x0a\x01d\x12\x05\x0a\x03\x0a\x02a", false),
        (b"", false),
    ] {
        assert_eq!(agree(bytes), quick, "{bytes:?}");
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    let unit = prop_oneof![
        Just(Unit::Second),
        Just(Unit::Minute),
        Just(Unit::Hour),
        Just(Unit::Day),
        Just(Unit::Week),
        Just(Unit::Month),
        Just(Unit::Year),
    ];
    let small_or_any = || prop_oneof![0..3_u32, 126..130_u32, any::<u32>()];
    let name = proptest::option::of(prop_oneof!["", "[a-z]{1,9}", "[a-zé]{120,140}"]);
    let limit = (small_or_any(), unit, proptest::option::of(small_or_any()), name);
    let limit = limit.prop_map(|(requests_per_unit, unit, unit_multiplier, name)| CurrentLimit {
        requests_per_unit,
        unit,
        unit_multiplier,
        name: name.map(Into::into),
    });
    let reset = prop_oneof![Just(0), Just(u64::MAX), 1..400_u64, any::<u64>()];
    let status = (
        any::<bool>(),
        proptest::option::of(limit),
        small_or_any(),
        proptest::option::of(reset),
    )
        .prop_map(|(over, current_limit, remaining, reset_s)| Status {
            over,
            quota: false,
            current_limit,
            remaining,
            reset_s,
        });
    let header = ".{0,5}".prop_map(|value| Header {
        name: "a".into(),
        value,
    });
    (any::<bool>(), vec(status, 0..9), vec(header, 0..2), "x?").prop_map(
        |(denied, statuses, response_headers, denied_body)| Answer {
            denied,
            statuses: statuses.into(),
            response_headers,
            denied_body,
            dynamic_metadata: None,
        },
    )
}

proptest! {
    #[test]
    fn messages_are_read_alike(message in messages(), cut in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = message.encode_to_vec();
        agree(&bytes);
        if !bytes.is_empty() {
            let at = cut.index(bytes.len());
            agree(&bytes[..at]);
            bytes[at] ^= flip;
            agree(&bytes);
        }
    }

    #[test]
    fn random_bytes_are_read_alike(bytes in vec(prop_oneof![0..32_u8, any::<u8>()], 0..40)) {
        agree(&bytes);
    }

    #[test]
    fn answers_are_written_alike(answer in answers()) {
        let expected = grpc::framed(&convert::response(answer.clone())).unwrap();
        prop_assert_eq!(write::answer(answer).unwrap(), expected);
    }
}

/// Random messages are mostly outside the small bounds above; these are not.
#[test]
fn lengths_of_numbers_are_right_at_every_power() {
    for shift in 0..64 {
        for value in [1_u64 << shift, (1_u64 << shift) - 1] {
            let status = Status {
                reset_s: Some(value),
                remaining: u32::try_from(value).unwrap_or(7),
                ..Status::default()
            };
            let answer = Answer {
                statuses: vec![status].into(),
                ..Answer::default()
            };
            let expected = grpc::framed(&convert::response(answer.clone())).unwrap();
            assert_eq!(write::answer(answer).unwrap(), expected, "{value}");
        }
    }
}
