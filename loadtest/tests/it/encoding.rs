//! The hand-written messages against prost.

use proptest::prelude::*;
use prost::Message;
use rk_load::plan::Template;
use rk_load::wire::{Code, Text, overall_code};

/// `envoy.service.ratelimit.v3.RateLimitRequest`, as far as it is sent.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `RateLimitResponse`, with some of the fields that are skipped.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(int32, tag = "1")]
    pub overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<Status>,
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<Entry>,
    #[prost(bytes = "vec", tag = "5")]
    pub raw_body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    #[prost(double, tag = "15")]
    pub fixed: f64,
}

/// What is inside a framed message.
pub fn decode<M: Message + Default>(framed: &[u8]) -> M {
    assert_eq!(framed[0], 0, "not compressed");
    let length = u32::from_be_bytes([framed[1], framed[2], framed[3], framed[4]]);
    assert_eq!(length as usize, framed.len() - 5, "the length in front");
    M::decode(&framed[5..]).expect("a message")
}

fn frame(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[0], length.as_slice(), &body].concat()
}

/// A template and what it stands for with this key.
fn filled(template: &str, key: u32) -> String {
    template
        .replace("{key:12}", &format!("{key:012}"))
        .replace("{key}", &key.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_byte_for_byte_what_prost_writes(
        domain in "[a-zé]{0,200}",
        descriptors in prop::collection::vec(prop::collection::vec(
            ("[a-z]{0,3}|(k-\\{key\\})", "([a-zü]{0,150})?(\\{key(:12)?\\})?[a-z]{0,9}(\\{key\\})?"), 1..4), 1..4),
        key in prop_oneof![0u32..2_000, any::<u32>()],
        hits in prop::option::of(any::<u32>()),
    ) {
        let text = |template: &String| Text::parse(template).expect("a template");
        let templates: Vec<Vec<_>> = descriptors
            .iter()
            .map(|entries| entries.iter().map(|(key, value)| (text(key), text(value))).collect())
            .collect();
        let entry = |(name, value): &(String, String)| {
            Entry { key: filled(name, key), value: filled(value, key) }
        };
        let expected = Request {
            domain: domain.clone(),
            descriptors: descriptors
                .iter()
                .map(|entries| Descriptor { entries: entries.iter().map(entry).collect() })
                .collect(),
            hits_addend: hits.unwrap_or(0),
        };
        let message = Template::new(&domain, &templates).message(key, hits);
        prop_assert_eq!(&message[..], &frame(&expected)[..]);
    }

    #[test]
    fn the_code_of_any_answer_is_found(
        code in 0i32..4,
        statuses in prop::collection::vec((0i32..3, any::<u32>(), any::<f64>()), 0..5),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let status = |(code, limit_remaining, fixed)| Status { code, limit_remaining, fixed };
        let answer = Response {
            overall_code: code,
            statuses: statuses.into_iter().map(status).collect(),
            response_headers_to_add: vec![Entry { key: "x".to_owned(), value: "1".to_owned() }],
            raw_body: body,
        };
        let expected = [Code::Unknown, Code::Ok, Code::OverLimit, Code::Unknown];
        let index = usize::try_from(code).expect("not negative");
        prop_assert_eq!(overall_code(&frame(&answer)), Ok(expected[index]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = overall_code(&bytes);
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        let _ = overall_code(&[&[0], length.as_slice(), &bytes].concat());
    }
}
