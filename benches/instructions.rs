//! Instructions of a request's way in memory, counted by callgrind: they hold still where times do not.
//!
//! `make bench` runs them and compares with `benches/instructions.toml`. Whatever is set up, and one run of it, is not counted.
#![allow(missing_docs, clippy::unwrap_used)]

mod parts;

use std::hint::black_box;

use gungraun::prelude::*;
use parts::{decide, decider, domain, limit, message, node};
use prost::Message as _;
use ratekeeper::clock::Clock;
use ratekeeper::decision::{Answer, Decider};
use ratekeeper::descriptor::{Bounds, Entry};
use ratekeeper::policy::schema::{Algorithm, Unit};
use ratekeeper::policy::{DomainPolicy, Path};
use ratekeeper::wire::convert;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

/// A policy and a descriptor to find in it.
struct Search {
    domain: DomainPolicy,
    entries: Vec<(String, String)>,
    composite: String,
}

impl Search {
    fn new(domain: DomainPolicy, entries: &[(&str, &str)]) -> Self {
        let entries = entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut search = Self {
            domain,
            entries: entries.collect(),
            composite: String::with_capacity(256),
        };
        search.run();
        search
    }

    fn run(&mut self) {
        let mut entries = [Entry { key: "", value: "" }; 5];
        for (entry, (key, value)) in entries.iter_mut().zip(&self.entries) {
            *entry = Entry { key, value };
        }
        let mut path = Path::new();
        let found = self
            .domain
            .find(&entries[..self.entries.len()], &mut self.composite, &mut path);
        assert!(found.is_some());
    }
}

fn hourly() -> Option<ratekeeper::policy::schema::RateLimitNode> {
    Some(limit(Algorithm::SlidingWindow, 10, Unit::Hour))
}

fn exact(rules: usize) -> Search {
    let rule = |at| node("path", &format!("/api/v1/{at:07}"), hourly(), Vec::new());
    Search::new(
        domain((0..rules).map(rule).collect()),
        &[("path", &format!("/api/v1/{:07}", rules / 2))],
    )
}

fn key_only(rules: usize) -> Search {
    let rule = |at| node(format!("key-{at:07}"), "", hourly(), Vec::new());
    Search::new(
        domain((0..rules).map(rule).collect()),
        &[(&format!("key-{:07}", rules / 2), "some-value")],
    )
}

fn wildcard(rules: usize) -> Search {
    let rule = |at| node("path", &format!("/api/v1/{at:04}/*"), hourly(), Vec::new());
    Search::new(
        domain((0..rules).map(rule).collect()),
        &[("path", &format!("/api/v1/{:04}/items", rules / 2))],
    )
}

fn suffix(rules: usize) -> Search {
    let rule = |at| node("host", &format!("*.{at:04}.example.org"), hourly(), Vec::new());
    Search::new(
        domain((0..rules).map(rule).collect()),
        &[("host", &format!("www.{:04}.example.org", rules / 2))],
    )
}

fn depth(levels: usize) -> Search {
    let keys = ["a", "b", "c", "d", "e"];
    let below = |below, key: &&str| vec![node(*key, "x", hourly(), below)];
    let rules = keys[..levels].iter().rev().fold(Vec::new(), below);
    let entries: Vec<_> = keys[..levels].iter().map(|key| (*key, "x")).collect();
    Search::new(domain(rules), &entries)
}

#[library_benchmark]
#[benches::exact(args = [10, 1_000, 100_000, 1_000_000], setup = exact)]
#[benches::key_only(args = [10, 1_000, 100_000, 1_000_000], setup = key_only)]
#[benches::wildcards(args = [1, 10, 1_000], setup = wildcard)]
#[benches::suffixes(args = [1, 10, 1_000], setup = suffix)]
#[benches::depth(args = [1, 2, 3, 4, 5], setup = depth)]
fn find(mut search: Search) -> Search {
    search.run();
    black_box(search)
}

/// A decider and a request to it.
struct Case {
    decider: Decider,
    clock: Clock,
    message: RateLimitRequest,
}

fn case(domain: DomainPolicy, descriptors: usize) -> Case {
    let (decider, clock) = decider(domain);
    let message = message(descriptors, 7);
    Case {
        decider,
        clock,
        message,
    }
}

/// After `hits` hits, spread evenly over half a window.
fn after(algorithm: Algorithm, requests: u32, unit: Unit, hits: u64) -> Case {
    let case = case(parts::two_levels(limit(algorithm, requests, unit)), 1);
    let window_us = unit.window_s(1).unwrap() * 1_000_000;
    for hit in 0..hits {
        case.clock.set(parts::NOW + window_us / 2 * hit / hits);
        decide(&case.decider, &case.message);
    }
    case.clock.set(parts::NOW + window_us / 2 + 1);
    decide(&case.decider, &message(1, 8));
    case
}

fn many(descriptors: usize) -> Case {
    let case = case(
        parts::two_levels(limit(Algorithm::FixedWindow, u32::MAX, Unit::Hour)),
        descriptors,
    );
    decide(&case.decider, &case.message);
    case
}

fn free() -> Case {
    let rule = node("other", "", hourly(), Vec::new());
    let case = case(domain(vec![rule]), 1);
    decide(&case.decider, &case.message);
    case
}

use Algorithm::{FixedWindow, SlidingWindow, TokenBucket};

#[library_benchmark]
#[bench::free(free())]
#[bench::fixed(after(FixedWindow, 1_000, Unit::Hour, 10))]
#[bench::fixed_denied(after(FixedWindow, 5, Unit::Hour, 5))]
#[bench::bucket(after(TokenBucket, 1_000, Unit::Hour, 10))]
#[bench::bucket_denied(after(TokenBucket, 5, Unit::Day, 6))]
#[bench::sliding_5(after(SlidingWindow, 5, Unit::Hour, 4))]
#[bench::sliding_5_denied(after(SlidingWindow, 5, Unit::Hour, 5))]
#[bench::sliding_1000(after(SlidingWindow, 1_000, Unit::Hour, 999))]
#[bench::sliding_1000_denied(after(SlidingWindow, 1_000, Unit::Hour, 1_000))]
#[bench::second(after(SlidingWindow, 1_000, Unit::Second, 500))]
#[bench::week(after(SlidingWindow, 1_000, Unit::Week, 500))]
#[benches::descriptors(args = [1, 10, 100], setup = many)]
fn decision(case: Case) -> (Case, Answer) {
    let answer = decide(&case.decider, &case.message);
    black_box((case, answer))
}

fn bytes(descriptors: usize) -> Vec<u8> {
    let bytes = message(descriptors, 7).encode_to_vec();
    black_box(read(&bytes));
    bytes
}

#[library_benchmark]
#[benches::descriptors(args = [1, 10, 100], setup = bytes)]
fn decode(bytes: Vec<u8>) -> RateLimitRequest {
    read(&bytes)
}

fn read(bytes: &[u8]) -> RateLimitRequest {
    let message = RateLimitRequest::decode(bytes).unwrap();
    black_box(convert::request(&message, &Bounds::default()).unwrap());
    message
}

fn answer(descriptors: usize) -> Answer {
    let case = many(descriptors);
    black_box(write(decide(&case.decider, &case.message)));
    decide(&case.decider, &case.message)
}

#[library_benchmark]
#[benches::descriptors(args = [1, 10, 100], setup = answer)]
fn encode(answer: Answer) -> Vec<u8> {
    write(answer)
}

fn write(answer: Answer) -> Vec<u8> {
    convert::response(answer).encode_to_vec()
}

library_benchmark_group!(name = matching, benchmarks = find);
library_benchmark_group!(name = deciding, benchmarks = decision);
library_benchmark_group!(name = wire, benchmarks = [decode, encode]);

main!(library_benchmark_groups = [matching, deciding, wire]);
