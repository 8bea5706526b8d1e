//! Wall-clock micro-benchmarks of a request's way in memory: decode, match and decide, encode.
//!
//! `make bench`. Machines are noisy: compare runs of the same hour, and by ratio.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use arc_swap::ArcSwap;
use divan::Bencher;
use prost::Message as _;
use ratekeeper::clock::Clock;
use ratekeeper::decision::{Answer, Decider, Options};
use ratekeeper::descriptor::{Bounds, KeyEncoder};
use ratekeeper::policy::compile::Defaults;
use ratekeeper::policy::loader::{Loader, LoaderOptions, SourceFile};
use ratekeeper::policy::schema::{self, Algorithm, ChargeRule};
use ratekeeper::store::local::LocalStore;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Store, WhenFull};
use ratekeeper::telemetry::{Telemetry, TelemetryOptions, Transport};
use ratekeeper::wire::convert;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

fn main() {
    divan::main();
}

fn decider(algorithm: &str, requests: u32) -> Decider {
    let policy = format!(
        "domain: bench\ndescriptors:\n- key: method\n  value: GET\n  descriptors:\n  - key: id\n    rate_limit:\n      \
         {{unit: hour, requests_per_unit: {requests}, algorithm: {algorithm}}}\n"
    );
    let defaults = Defaults {
        on_store_error: ratekeeper::limiter::OnStoreError::Local,
        algorithm: Algorithm::SlidingWindow,
        charge: ChargeRule::Auto,
    };
    let mut loader = Loader::new(LoaderOptions {
        defaults,
        merge_domains: false,
        bounds: schema::Bounds::default(),
    });
    let loaded = loader.load(&[SourceFile {
        path: "bench.yaml".into(),
        content: Ok(policy),
    }]);
    assert!(loaded.diagnostics.is_empty());
    let clock = Clock::system();
    Decider::new(
        Arc::new(ArcSwap::from_pointee(loaded.snapshot)),
        Arc::new(MemoryStore::new(1_000_000, WhenFull::Evict)) as Arc<dyn Store>,
        Arc::new(LocalStore::new(1_000, clock.now_us())),
        clock,
        KeyEncoder::new("rk:").unwrap(),
        Arc::new(Telemetry::new(TelemetryOptions::default())),
        Options::plain(defaults),
    )
}

fn message(descriptors: usize, id: u64) -> RateLimitRequest {
    let entry = |key: &str, value: String| Entry {
        key: key.to_owned(),
        value,
    };
    let descriptor = |at: u64| RateLimitDescriptor {
        entries: vec![
            entry("method", "GET".to_owned()),
            entry("id", format!("user-{:08}", id * 1_000 + at)),
        ],
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: (0..descriptors as u64).map(descriptor).collect(),
        hits_addend: 0,
    }
}

/// Memory never waits.
fn decide(decider: &Decider, message: &RateLimitRequest) -> Answer {
    let request = convert::request(message, &Bounds::default()).unwrap();
    let mut decision = std::pin::pin!(decider.decide(&request, Transport::Grpc, None));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match decision.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => answer.unwrap(),
        std::task::Poll::Pending => unreachable!("the memory store made a request wait"),
    }
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let bytes = message(1, 7).encode_to_vec();
    bencher.bench_local(|| RateLimitRequest::decode(bytes.as_slice()).unwrap());
}

#[divan::bench(args = ["sliding_window", "fixed_window", "token_bucket"])]
fn decide_allowed(bencher: Bencher<'_, '_>, algorithm: &str) {
    let decider = decider(algorithm, u32::MAX);
    let message = message(1, 7);
    bencher.bench_local(|| decide(&decider, &message));
}

#[divan::bench(args = ["sliding_window", "fixed_window", "token_bucket"])]
fn decide_denied(bencher: Bencher<'_, '_>, algorithm: &str) {
    let decider = decider(algorithm, 1);
    let message = message(1, 7);
    bencher.bench_local(|| decide(&decider, &message));
}

#[divan::bench(args = [1, 10, 100])]
fn decide_descriptors(bencher: Bencher<'_, '_>, descriptors: usize) {
    let decider = decider("fixed_window", u32::MAX);
    let message = message(descriptors, 7);
    bencher.bench_local(|| decide(&decider, &message));
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let decider = decider("fixed_window", u32::MAX);
    let message = message(1, 7);
    bencher.bench_local(|| convert::response(decide(&decider, &message)).encode_to_vec());
}
