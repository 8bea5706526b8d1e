//! `shard_by`: all counters of a tenant are in one slot of a Redis Cluster, and still nobody else's.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use ratekeeper::descriptor::{ENCODED_BYTES_MAX, KeyEncoder, KeyPart, KeySuffix, LimitOverride, Unit};
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Batch, Step, Store, WhenFull};

use crate::asking::{Ask, ask, descriptor};
use crate::deciding::{Deciding, options};

/// What decides the slot of a key: what is between the first `{` and the `}` after it, else the whole key.
fn tag(key: &str) -> &str {
    let inside = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    inside.map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag })
}

/// The slot of a key: CRC16 of its tag (XMODEM: polynomial 0x1021, starting with 0) modulo 16384, by the cluster's specification.
fn slot(key: &str) -> u16 {
    let crc = tag(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    });
    crc % 16_384
}

#[test]
fn slots_are_those_of_the_specification() {
    assert_eq!(slot("123456789"), 12_739);
    assert_eq!(slot("rk:{123456789}|x}:sw1:60"), 12_739);
    assert_eq!(slot(""), 0);
    // From CLUSTER KEYSLOT of Redis 7.
    assert_eq!(
        (slot("foo"), slot("{foo}bar"), slot("foo{}{bar}")),
        (12_182, 12_182, 8_363)
    );
}

/// Keys, values, and whether a value is a pattern that others share.
type Entries = Vec<(String, String, bool)>;

fn encoded(by: Option<&str>, domain: &str, entries: &[(String, String, bool)], suffix: &str) -> String {
    let parts = entries.iter().map(|(key, value, shared)| {
        let pattern = value;
        if *shared {
            KeyPart::Shared { key, pattern }
        } else {
            KeyPart::Own { key, value }
        }
    });
    let mut key = String::new();
    let encoder = KeyEncoder::new("rk:").unwrap();
    encoder.encode(&mut key, domain, by, parts, parsed(suffix));
    key
}

fn parsed(suffix: &str) -> KeySuffix {
    let mut parts = suffix.split(':');
    let written = parts.next().unwrap();
    let known = ["sw1", "fw1", "tb1", "lb1"];
    KeySuffix {
        algorithm: known.into_iter().find(|name| *name == written).unwrap(),
        window_s: parts.next().unwrap().parse().unwrap(),
        number: parts.next().map(|number| number.parse().unwrap()),
    }
}

/// Short texts that try to be something else, and long ones around the lengths at which parts are hashed.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,6}",
        "[{}|=~#:%*a]{0,8}",
        (120..260_usize).prop_map(|length| "x".repeat(length)),
        ("[|}:é]", 40..80_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
}

fn entries() -> impl Strategy<Value = Entries> {
    vec(("[a-c|}]{1,3}", values(), any::<bool>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever else the descriptors hold, before and behind, and however long it is.
    #[test]
    fn all_descriptors_of_a_tenant_have_one_slot(
        domain in ".{1,6}", tenant in values(), shared in any::<bool>(),
        before in entries(), behind in entries(),
    ) {
        let entry = ("tenant".to_owned(), tenant, shared);
        let alone = encoded(Some("tenant"), &domain, std::slice::from_ref(&entry), "sw1:1");
        let mut all = before;
        all.push(entry);
        all.extend(behind.iter().cloned());
        // Only the first of several decides.
        all.push(("tenant".to_owned(), "other".to_owned(), !shared));
        let key = encoded(Some("tenant"), &domain, &all, "tb1:3153600000:4294967295");
        prop_assert_eq!(tag(&key), tag(&alone));
        prop_assert_eq!(slot(&key), slot(&alone));
        prop_assert!(key.len() <= ENCODED_BYTES_MAX, "{} bytes: {}", key.len(), key);
        prop_assert_eq!(key.matches('{').count() + key.matches('}').count(), 2);
        prop_assert_ne!(key, alone);
    }

    /// Two tenants, two tags, so that they are spread; a value that is like a pattern is none.
    #[test]
    fn tenants_have_tags_of_their_own(a in (values(), any::<bool>()), b in (values(), any::<bool>()), rest in entries()) {
        let key = |(tenant, shared): &(String, bool)| {
            let mut all = vec![("tenant".to_owned(), tenant.clone(), *shared)];
            all.extend(rest.iter().cloned());
            encoded(Some("tenant"), "d", &all, "sw1:60")
        };
        prop_assert_eq!(tag(&key(&a)) == tag(&key(&b)), a == b);
    }

    #[test]
    fn a_descriptor_without_the_entry_has_the_key_that_it_had(domain in ".{1,6}", entries in entries()) {
        let with = encoded(Some("tenant"), &domain, &entries, "fw1:60");
        prop_assert_eq!(with, encoded(None, &domain, &entries, "fw1:60"));
    }

    /// The values try to be the parts of another key, of this form or of the one before a reload.
    #[test]
    fn identities_share_no_key_across_forms(a in identities(), b in identities()) {
        const SUFFIXES: [&str; 5] = ["sw1:60", "sw1:1", "tb1:60", "tb1:60:1", "tb1:1:60"];
        let key = |it: &Identity| encoded(it.by, "d", &it.entries, SUFFIXES[it.suffix]);
        prop_assert_eq!(key(&a) == key(&b), a == b);
    }
}

/// What a counter is for, and which entry its file was sharded by when it was counted.
#[derive(Clone, Debug, PartialEq)]
struct Identity {
    entries: Entries,
    by: Option<&'static str>,
    suffix: usize,
}

fn identities() -> impl Strategy<Value = Identity> {
    let by = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    (entries(), by, 0..5_usize).prop_map(|(entries, by, suffix)| {
        // What the descriptor has not says nothing about it.
        let by = by.filter(|by| entries.iter().any(|(key, ..)| key == by));
        Identity { entries, by, suffix }
    })
}

/// A value that ends as a suffix does moves no boundary between the two.
#[test]
fn values_that_look_like_suffixes_are_none() {
    let values = [
        "v",
        "v:sw1",
        "v:sw1:60",
        "v:tb1",
        "v:tb1:60",
        "v:tb1:60:5",
        ":",
        ":60",
        "",
        "sw1:60",
    ];
    let suffixes = ["sw1:60", "tb1:60", "tb1:60:5", "tb1:5:60", "fw1:5", "tb1:60:60"];
    let mut keys = HashSet::new();
    for value in values {
        for shared in [false, true] {
            let entries = [("t".to_owned(), value.to_owned(), shared)];
            for suffix in suffixes {
                for by in [None, Some("t")] {
                    let key = encoded(by, "d", &entries, suffix);
                    assert!(keys.insert(key.clone()), "{key} is of two identities");
                }
            }
        }
    }
}

/// Memory, and the keys that were asked for.
#[derive(Debug)]
struct Recording {
    memory: MemoryStore,
    keys: Mutex<Vec<String>>,
}

impl Store for Recording {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        let mut keys = self.keys.lock().unwrap();
        keys.extend((0..batch.keys.len()).map(|index| batch.keys.get(index).to_owned()));
        self.memory.decide(batch)
    }

    fn describe(&self) -> String {
        self.memory.describe()
    }
}

fn recording(files: &[&str]) -> (Deciding, Arc<Recording>) {
    let store = Arc::new(Recording {
        memory: MemoryStore::new(100_000, WhenFull::Evict),
        keys: Mutex::default(),
    });
    (
        Deciding::with_store(files, options(), Arc::clone(&store) as Arc<dyn Store>),
        store,
    )
}

impl Recording {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.keys.lock().unwrap())
    }
}

const POLICY: &str = "
domain: d
shard_by: tenant
descriptors:
  - key: tenant
    rate_limit: {unit: hour, requests_per_unit: 100}
    descriptors:
      - {key: path, rate_limit: {unit: second, requests_per_unit: 100, algorithm: token_bucket}}
  - key: tenant
    value: pool-*
    share_threshold: true
    rate_limit: {unit: hour, requests_per_unit: 100}
    descriptors:
      - {key: path, rate_limit: {unit: minute, requests_per_unit: 100}}
  - key: path
    rate_limit: {unit: hour, requests_per_unit: 100}
    descriptors:
      - {key: tenant, rate_limit: {unit: hour, requests_per_unit: 100, algorithm: fixed_window}}
";

fn keys_of(service: &Deciding, store: &Recording, asks: &[Ask]) -> Vec<String> {
    ask(service, "d", 0, asks).unwrap();
    store.take()
}

#[test]
fn a_request_of_one_tenant_is_in_one_slot() {
    let (service, store) = recording(&[POLICY]);
    let limit = LimitOverride {
        requests_per_unit: 5,
        unit: Some(Unit::Minute),
        unit_multiplier: 1,
    };
    let of = |tenant: &str| {
        let tenant = format!("tenant={tenant}");
        let asks = [
            descriptor(&[&tenant]),
            descriptor(&[&tenant, "path=/a"]),
            descriptor(&["path=/a", &tenant]),
            descriptor(&[&tenant, &format!("path={}", "/long".repeat(100))]),
            descriptor(&["anything=x", &tenant]).limit(limit),
        ];
        keys_of(&service, &store, &asks)
    };
    assert_eq!(
        of("acme")[..3],
        [
            "rk:{d|tenant=acme}|tenant=acme:sw1:3600",
            "rk:{d|tenant=acme}|tenant=acme|path=/a:tb1:1",
            "rk:{d|tenant=acme}|path=/a|tenant=acme:fw1:3600",
        ]
    );
    let mut slots = HashMap::new();
    for tenant in ["acme", "", "}{", &"very long ".repeat(100), "b", "c"] {
        let keys = of(tenant);
        let of_tenant: HashSet<u16> = keys.iter().map(|key| slot(key)).collect();
        assert_eq!((keys.len(), of_tenant.len()), (5, 1), "{tenant:?}: {keys:?}");
        slots.insert(tenant.to_owned(), of_tenant);
    }
    let distinct: HashSet<u16> = slots.values().flatten().copied().collect();
    assert_eq!(distinct.len(), 6, "tenants are spread");
}

#[test]
fn patterns_and_descriptors_without_the_entry_keep_their_own_forms() {
    let (service, store) = recording(&[POLICY]);
    let asks = [
        descriptor(&["tenant=pool-1"]),
        descriptor(&["tenant=pool-2", "path=/a"]),
        descriptor(&["path=/a"]),
    ];
    let keys = keys_of(&service, &store, &asks);
    assert_eq!(
        keys,
        [
            "rk:{d|tenant~pool-*}|tenant~pool-*:sw1:3600",
            "rk:{d|tenant~pool-*}|tenant~pool-*|path=/a:sw1:60",
            "rk:{d|path=/a}:sw1:3600",
        ]
    );
    // A limit that the request brings along is for its own value, and not for all that match the pattern.
    let limit = LimitOverride {
        requests_per_unit: 5,
        unit: Some(Unit::Hour),
        unit_multiplier: 1,
    };
    let keys = keys_of(&service, &store, &[descriptor(&["tenant=pool-1"]).limit(limit)]);
    assert_eq!(keys, ["rk:{d|tenant=pool-1}|tenant=pool-1:sw1:3600"]);
}

/// Turned on and off again, every counter is met by its own identity in its own form only: each of them starts anew once for
/// each form, and whoever comes back to a form finds what was counted.
#[test]
fn a_reload_starts_counters_anew_and_mixes_none() {
    let rules = "descriptors:
  - {key: tenant, rate_limit: {unit: hour, requests_per_unit: 1}, descriptors: [
      {key: path, rate_limit: {unit: hour, requests_per_unit: 1}}, {key: tenant, rate_limit: {unit: hour, requests_per_unit: 1}}]}
  - {key: path, rate_limit: {unit: hour, requests_per_unit: 1}, descriptors: [{key: tenant, rate_limit: {unit: hour, requests_per_unit: 1}}]}
";
    let plain = format!("domain: d\n{rules}");
    let sharded = |by: &str| format!("domain: d\nshard_by: {by}\n{rules}");
    let values = [
        "",
        "a",
        "b",
        "a}|tenant=a",
        "a|tenant=a",
        "a}:sw1:3600",
        "a:sw1:3600",
        "#",
        "=",
        "~",
        "|",
        "a|path=b",
    ];
    let mut identities = vec![];
    for value in values {
        for outer in ["tenant", "path"] {
            let outer = format!("{outer}={value}");
            identities.push(vec![outer.clone()]);
            for inner in values {
                identities.push(vec![outer.clone(), format!("tenant={inner}")]);
                if outer.starts_with("tenant") {
                    identities.push(vec![outer.clone(), format!("path={inner}")]);
                }
            }
        }
    }
    let (service, store) = recording(&[&plain]);
    let denied = |by: &dyn Fn(&[String]) -> bool| {
        let mut wrong = vec![];
        for entries in &identities {
            let texts: Vec<&str> = entries.iter().map(String::as_str).collect();
            let answer = ask(&service, "d", 0, &[descriptor(&texts)]).unwrap();
            assert!(
                answer.statuses[0].current_limit.is_some(),
                "{entries:?} has no limit"
            );
            if answer.denied != by(entries) {
                wrong.push(entries.clone());
            }
        }
        wrong
    };
    let none: Vec<Vec<String>> = vec![];
    assert_eq!(denied(&|_| false), none, "one hit each, on a counter of its own");
    let _ = service.load(&[&sharded("tenant")]);
    assert_eq!(
        denied(&|entries| !has_key(entries, "tenant=")),
        none,
        "anew where the entry is"
    );
    let _ = service.load(&[&sharded("path")]);
    // Those with a path are anew. A descriptor of tenants only has the form that it had before.
    assert_eq!(
        denied(&|entries| !has_key(entries, "path=")),
        none,
        "anew by path"
    );
    for text in [sharded("tenant"), sharded("path"), plain] {
        let _ = service.load(&[&text]);
        assert_eq!(denied(&|_| true), none, "what was counted in this form is there");
    }
    let keys: HashSet<String> = store.take().into_iter().collect();
    let both = |key: &str| identities.iter().filter(|entries| has_key(entries, key)).count();
    assert_eq!(keys.len(), identities.len() + both("tenant=") + both("path="));
}

fn has_key(entries: &[String], key: &str) -> bool {
    entries.iter().any(|entry| entry.starts_with(key))
}
