//! What the benchmarks decide: policies of any size, requests, and a decider over memory whose clock stands still.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use ratekeeper::clock::Clock;
use ratekeeper::decision::{Answer, Decider, Options};
use ratekeeper::descriptor::{Bounds, KeyEncoder};
use ratekeeper::policy::compile::{self, Defaults};
use ratekeeper::policy::schema::{
    Algorithm, ChargeRule, DescriptorNode, Place, PolicyFile, RateLimitNode, Scope, Unit,
};
use ratekeeper::policy::{DomainPolicy, Snapshot};
use ratekeeper::store::local::LocalStore;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Store, WhenFull};
use ratekeeper::telemetry::{Telemetry, TelemetryOptions, Transport};
use ratekeeper::wire::convert;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

/// Where the clock stands at first, a moment of 2026.
pub const NOW: u64 = 1_790_000_000_000_000;

/// What a limit gets that says nothing.
pub const DEFAULTS: Defaults = Defaults {
    on_store_error: ratekeeper::limiter::OnStoreError::Local,
    algorithm: Algorithm::SlidingWindow,
    charge: ChargeRule::Auto,
};

/// A limit of a policy file.
pub fn limit(algorithm: Algorithm, requests: u32, unit: Unit) -> RateLimitNode {
    RateLimitNode {
        place: Place::START,
        unit: Some(unit),
        requests_per_unit: requests,
        unlimited: false,
        name: String::new(),
        replaces: Vec::new(),
        algorithm: Some(algorithm),
        unit_multiplier: None,
        burst: None,
        scope: Scope::Global,
        charge: None,
        on_store_error: None,
        strict: None,
    }
}

/// A rule of a policy file.
pub fn node(
    key: impl Into<String>,
    value: &str,
    limit: Option<RateLimitNode>,
    below: Vec<DescriptorNode>,
) -> DescriptorNode {
    DescriptorNode {
        place: Place::START,
        key: key.into(),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
        rate_limit: limit,
        descriptors: below,
        shadow_mode: false,
        quota_mode: false,
        detailed_metric: false,
        value_to_metric: false,
        share_threshold: false,
        metadata: None,
    }
}

/// A domain `bench` of these rules.
pub fn domain(descriptors: Vec<DescriptorNode>) -> DomainPolicy {
    let file = PolicyFile {
        path: "bench.yaml".into(),
        domain: "bench".to_owned(),
        domain_place: Place::START,
        on_store_error: None,
        strict: false,
        shard_by: None,
        descriptors,
    };
    let (domain, faults) = compile::compile("bench", &[Arc::new(file)], DEFAULTS);
    assert!(faults.is_empty());
    domain
}

/// The policy that most of the benchmarks ask: `method=GET` and, below it, any `id`.
pub fn two_levels(limit: RateLimitNode) -> DomainPolicy {
    domain(vec![node(
        "method",
        "GET",
        None,
        vec![node("id", "", Some(limit), Vec::new())],
    )])
}

/// A decider over memory, with its clock.
pub fn decider(domain: DomainPolicy) -> (Decider, Clock) {
    let snapshot = Snapshot::new(1, [Arc::new(domain)], BTreeSet::new());
    let clock = Clock::manual(NOW);
    let decider = Decider::new(
        Arc::new(ArcSwap::from_pointee(snapshot)),
        Arc::new(MemoryStore::new(1_000_000, WhenFull::Evict)) as Arc<dyn Store>,
        Arc::new(LocalStore::new(1_000, NOW)),
        clock.clone(),
        KeyEncoder::new("rk:").unwrap(),
        Arc::new(Telemetry::new(TelemetryOptions::default())),
        Options::plain(DEFAULTS),
    );
    (decider, clock)
}

/// A request of `descriptors` descriptors of two entries each.
pub fn message(descriptors: usize, id: u64) -> RateLimitRequest {
    let descriptor = |at: u64| RateLimitDescriptor {
        entries: vec![
            entry("method", "GET"),
            entry("id", &format!("user-{:08}", id * 1_000 + at)),
        ],
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: (0..descriptors as u64).map(descriptor).collect(),
        hits_addend: 0,
    }
}

/// One entry of a descriptor.
pub fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// Decides a message; memory never waits.
pub fn decide(decider: &Decider, message: &RateLimitRequest) -> Answer {
    let request = convert::request(message, &Bounds::default()).unwrap();
    let mut decision = std::pin::pin!(decider.decide(&request, Transport::Grpc, None));
    let mut context = Context::from_waker(Waker::noop());
    match decision.as_mut().poll(&mut context) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => unreachable!("the memory store made a request wait"),
    }
}
