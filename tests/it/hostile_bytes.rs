//! Bytes from outside never panic: the request decoder, the JSON door, the keys. (Policy files: `policy_files`.)

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use ratekeeper::descriptor::{Bounds, KeyEncoder, KeyPart, KeySuffix};
use ratekeeper::telemetry::Transport;
use ratekeeper::wire::convert;
use ratekeeper::wire::json::JsonCodec;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

use crate::deciding::Deciding;

const POLICY: &str = "
domain: d
descriptors:
  - key: a
    rate_limit: {unit: second, requests_per_unit: 4294967295}
    descriptors:
      - {key: b, value: 'x*', share_threshold: true, rate_limit: {unit: year, requests_per_unit: 1, algorithm: token_bucket}}
  - {key: c, rate_limit: {unit: minute, requests_per_unit: 0, scope: local}}
  - {key: e, shadow_mode: true, rate_limit: {unit: week, requests_per_unit: 7, algorithm: fixed_window, charge: always}}
";

pub fn messages() -> impl Strategy<Value = RateLimitRequest> {
    let text = || {
        prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("c".to_owned()),
            Just("e".to_owned()),
            ".{0,12}"
        ]
    };
    let entry = (text(), text()).prop_map(|(key, value)| Entry { key, value });
    let limit = (
        any::<u32>(),
        any::<i32>(),
        proptest::option::of(any::<u32>()),
        0..9_i32,
    )
        .prop_map(
            |(requests_per_unit, wild, unit_multiplier, unit)| RateLimitOverride {
                requests_per_unit,
                unit: if wild % 3 == 0 { wild } else { unit },
                unit_multiplier,
            },
        );
    let hits = prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()];
    let descriptor = (
        vec(entry, 0..4),
        proptest::option::of(limit),
        proptest::option::of(hits),
        any::<bool>(),
    )
        .prop_map(
            |(entries, limit, hits_addend, is_negative_hits)| RateLimitDescriptor {
                entries,
                limit,
                hits_addend,
                is_negative_hits,
            },
        );
    (
        prop_oneof![Just("d".to_owned()), ".{0,4}"],
        vec(descriptor, 0..6),
        any::<u32>(),
    )
        .prop_map(|(domain, descriptors, hits_addend)| RateLimitRequest {
            domain,
            descriptors,
            hits_addend,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_no_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = RateLimitRequest::decode(bytes.as_slice()) {
            let _ = convert::request(&message, &Bounds::default());
        }
    }

    #[test]
    fn random_texts_are_no_panic(text in "[\\[\\]{}\":,a-z0-9. \\\\-]{0,120}") {
        let read = JsonCodec::new().unwrap().decode(text.as_bytes());
        let object = text.trim_start().starts_with(char::from(b'{'));
        prop_assert!(read.is_err() || object);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is asked, there is an error or an answer with a status for each descriptor, and bytes cut or changed on the
    /// way are read or refused.
    #[test]
    fn random_requests_are_answered(messages in vec(messages(), 1..20), cut in any::<u16>(), flip in any::<u16>()) {
        let deciding = Deciding::new(&[POLICY]);
        for message in &messages {
            match convert::request(message, &Bounds::default()) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(request) => {
                    let answer = deciding.decide(&request, Transport::Grpc).unwrap();
                    prop_assert_eq!(answer.statuses.len(), message.descriptors.len());
                    let response = convert::response(answer);
                    let text = JsonCodec::new().unwrap().encode(&response).unwrap();
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
                }
            }
            let mut bytes = message.encode_to_vec();
            let at = usize::from(flip) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x55;
            }
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
            if let Ok(message) = RateLimitRequest::decode(bytes.as_slice()) {
                let _ = convert::request(&message, &Bounds::default());
            }
        }
    }

    /// Known bugs 18 and 19: two identities, one counter. Whatever entry the domains are sharded by, the same or another one.
    #[test]
    fn two_identities_never_share_a_key(
        a in (".{1,6}", vec((".{1,6}", ".{0,6}", any::<bool>()), 1..4)),
        b in (".{1,6}", vec((".{1,6}", ".{0,6}", any::<bool>()), 1..4)),
        shard_by in (proptest::option::of(0..3_usize), proptest::option::of(0..3_usize)),
    ) {
        let encoder = KeyEncoder::new("rk:").unwrap();
        let key = |(domain, entries): &(String, Vec<(String, String, bool)>), by: Option<usize>| {
            let mut out = String::new();
            let parts = entries.iter().map(|(key, value, shared)| if *shared {
                KeyPart::Shared { key, pattern: value }
            } else {
                KeyPart::Own { key, value }
            });
            let by = by.and_then(|at| Some(entries.get(at)?.0.as_str()));
            let suffix = KeySuffix {
                algorithm: "sw1",
                window_s: 60,
                number: None,
            };
            encoder.encode(&mut out, domain, by, parts, suffix);
            out
        };
        let (by_a, by_b) = shard_by;
        prop_assert_eq!(key(&a, by_a) == key(&b, by_a), a == b);
        prop_assert!(a == b || key(&a, by_a) != key(&b, by_b));
        // The same identity before and after a reload that turns it on.
        let is_on = by_a.is_some_and(|at| at < a.1.len());
        prop_assert_eq!(key(&a, None) == key(&a, by_a), !is_on);
        prop_assert!(key(&a, by_a).len() <= ratekeeper::descriptor::ENCODED_BYTES_MAX);
    }
}

#[test]
fn a_poisoned_counter_does_not_stop_the_others() {
    let deciding = Arc::new(Deciding::new(&[POLICY]));
    let message = RateLimitRequest {
        domain: "d".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![Entry {
                key: "a".to_owned(),
                value: "v".to_owned(),
            }],
            hits_addend: Some(u64::MAX),
            ..RateLimitDescriptor::default()
        }],
        hits_addend: u32::MAX,
    };
    for _ in 0..100 {
        let request = convert::request(&message, &Bounds::default()).unwrap();
        let answer = deciding.decide(&request, Transport::Grpc).unwrap();
        assert_eq!(
            answer.statuses[0].remaining, 0,
            "recorded overshoot saturates, it never wraps"
        );
    }
}
