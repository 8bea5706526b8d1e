//! Matching and deciding in memory allocate nothing, once a thread has decided its first request.

use allocation_counter::measure;
use ratekeeper::descriptor::{Entry, LimitOverride, Unit};
use ratekeeper::policy::Path;
use ratekeeper::policy::loader::{Loader, LoaderOptions, SourceFile};
use ratekeeper::policy::schema::Bounds;
use ratekeeper::policy::snapshot::Lookup;

use crate::asking::{Ask, advance, ask, descriptor};
use crate::deciding::{DEFAULTS, Deciding};

const POLICY: &str = "\
domain: d
descriptors:
- {key: sliding, rate_limit: {unit: hour, requests_per_unit: 5}}
- {key: ticks, rate_limit: {unit: second, requests_per_unit: 1000}}
- {key: fixed, rate_limit: {unit: day, requests_per_unit: 5, algorithm: fixed_window}}
- {key: bucket, rate_limit: {unit: minute, requests_per_unit: 5, algorithm: token_bucket}}
- {key: local, rate_limit: {unit: minute, requests_per_unit: 5, scope: local}}
- {key: named, rate_limit: {unit: minute, requests_per_unit: 5, name: a name}}
- {key: free, rate_limit: {unlimited: true}}
- {key: path, value: /api/*, rate_limit: {unit: hour, requests_per_unit: 5}}
- key: a
  value: b
  descriptors:
  - key: c
    descriptors:
    - {key: d, value: '*e', share_threshold: true, rate_limit: {unit: hour, requests_per_unit: 5}}
- {key: detailed, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 5}}
";

/// Allocations of asking the same six more times: the limits of 5 are over by then.
fn allocations(service: &Deciding, asks: &[Ask]) -> u64 {
    // Counters grow, metrics are made, and a thread takes its memory.
    for _ in 0..40 {
        ask(service, "d", 0, asks).unwrap();
        advance(service, 1_000);
    }
    let mut denied = 0;
    let counted = measure(|| {
        for _ in 0..6 {
            denied += u32::from(ask(service, "d", 0, asks).unwrap().denied);
        }
    });
    assert!(denied == 6 || asks[0].entries[0].0 == "ticks" || asks[0].entries[0].0 == "free");
    counted.count_total
}

#[test]
fn decisions_in_memory_allocate_nothing() {
    let limit = LimitOverride {
        requests_per_unit: 3,
        unit: Some(Unit::Hour),
        unit_multiplier: 1,
    };
    let of_a_box = measure(|| drop(std::hint::black_box(Box::new(7_u64))));
    assert_eq!(of_a_box.count_total, 1, "allocations are not counted");
    let service = Deciding::new(&[POLICY]);
    for asks in [
        vec![descriptor(&["sliding=x"])],
        vec![descriptor(&["ticks=x"])],
        vec![descriptor(&["fixed=x"])],
        vec![descriptor(&["bucket=x"])],
        vec![descriptor(&["local=x"])],
        vec![descriptor(&["named=x"])],
        vec![descriptor(&["free=x"])],
        vec![descriptor(&["path=/api/some/where"])],
        vec![descriptor(&["a=b", "c=x", "d=some-e"])],
        vec![descriptor(&["detailed=x y"])],
        vec![descriptor(&["other=x"]).limit(limit)],
        vec![descriptor(&["bucket=x"]), descriptor(&["local=x"])],
    ] {
        let counted = allocations(&service, &asks);
        assert_eq!(counted, 0, "{counted} allocations in six decisions of {asks:?}");
    }
}

/// What grows with the request is a few lists, each taken at once.
#[test]
fn a_hundred_descriptors_allocate_a_few_lists() {
    let service = Deciding::new(&[POLICY]);
    let asks: Vec<_> = (0..100)
        .map(|at| descriptor(&[&format!("fixed=x{at}")]))
        .collect();
    let counted = allocations(&service, &asks);
    assert!(counted <= 6 * 15, "{counted} allocations in six decisions");
}

#[test]
fn a_search_allocates_nothing() {
    let options = LoaderOptions {
        defaults: DEFAULTS,
        merge_domains: false,
        bounds: Bounds::default(),
    };
    let loaded = Loader::new(options).load(&[SourceFile {
        path: "d.yaml".into(),
        content: Ok(POLICY.to_owned()),
    }]);
    let Lookup::Found(domain) = loaded.snapshot.look_up("d") else {
        panic!("no domain d");
    };
    let mut text = String::with_capacity(128);
    for (entries, found) in [
        (&[("sliding", "x")][..], true),
        (&[("path", "/api/some/where")], true),
        (&[("path", "/other")], false),
        (&[("a", "b"), ("c", "x"), ("d", "some-e")], true),
        (&[("a", "b"), ("c", "x"), ("d", "f")], false),
    ] {
        let entries: Vec<_> = entries.iter().map(|(key, value)| Entry { key, value }).collect();
        let mut path = Path::new();
        let mut rule = None;
        let counted = measure(|| rule = domain.find(&entries, &mut text, &mut path));
        assert_eq!(rule.is_some(), found, "{entries:?}");
        assert_eq!(counted.count_total, 0, "{entries:?}");
    }
}
