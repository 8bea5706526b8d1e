//! `RATEKEEPER_DEFAULT_ALGORITHM=fixed_window` and `RATEKEEPER_DEFAULT_CHARGE=always`: every answer as the reference server's,
//! request by request.
//!
//! What is deliberately not the reference's is kept out, or is in the oracle with its reason: keys have no underscores, so that
//! the reference's storage keys are not ambiguous (ours never are); an override has the unit that its entries are counted in
//! elsewhere, since the reference mixes units on one counter; in the global quota mode descriptors without a limit do not
//! count; hits stay below 2^32, where a record is capped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ratekeeper::decision::{Answer, Options};
use ratekeeper::descriptor::{LimitOverride, Unit};
use ratekeeper::policy::Defaults;
use ratekeeper::policy::schema::{Algorithm, ChargeRule};
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Store, WhenFull};

use crate::asking::{Ask, ask, metric, with_headers};
use crate::deciding::{DEFAULTS, Deciding};
use crate::limiter_oracle::{NOW, Random, SECOND, seeds};
use crate::reference_oracle::{Asked, Node, Question, Reference, Said, Stats, Status, UNITS, WEEK};
use crate::reference_random::{Words, entries, file};
use crate::script_store::ScriptStore;
use crate::support::redis::Redis;

const POLICIES: u64 = 50;
const REQUESTS: u64 = 200;
const WORDS: Words = Words {
    keys: &["a", "b", "path", "k*"],
    values: &["", "", "x", "y", "/api/*", "x*"],
    depth: 3,
    width: 5,
    requests: &[0, 1, 2, 3, 5, 8, 10, 15, 20, 99, 1_000, u32::MAX - 1],
    replaces_one_in: 8,
    modes_one_in: 4,
};
const KEYS: &[&str] = &["a", "b", "path", "k1", "k2"];
const VALUES: &[&str] = &["x", "y", "xy", "/api/v1", "/api/v2", ""];
const OURS: [Unit; 7] = [
    Unit::Second,
    Unit::Minute,
    Unit::Hour,
    Unit::Day,
    Unit::Week,
    Unit::Month,
    Unit::Year,
];

fn random_descriptor(random: &mut Random, reference: &Reference, nodes: &[Node], domain: &str) -> Asked {
    let mut asked = Asked {
        entries: entries(random, nodes, KEYS, VALUES, false),
        ..Asked::default()
    };
    if random.one_in(4) {
        asked.hits = Some(random.pick(&[0, 0, 1, 2, 3, 7, 100, u64::from(u32::MAX)]));
    }
    asked.negative = random.one_in(12);
    if random.one_in(6) {
        // The same unit for the same entries, always: that of their rule or, without one, any that does not change.
        let any = asked
            .entries
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
            % UNITS.len();
        let unit = reference.unit_of(domain, &asked.entries).unwrap_or(any);
        // Envoy's overrides have no weeks.
        let requests = random.pick(&[0, 1, 2, 4, 50]);
        asked.limit = (unit != WEEK).then_some((requests, unit));
    }
    asked
}

fn random_request(random: &mut Random, reference: &Reference, nodes: &[Node], now: u64) -> Question {
    let domain = if random.one_in(40) { "nowhere" } else { "domain" };
    let mut asked: Vec<Asked> = vec![];
    for _ in 0..=random.below(4) {
        let again = !asked.is_empty() && random.one_in(5);
        let one = if again {
            asked[random.below(asked.len() as u64) as usize].clone()
        } else {
            random_descriptor(random, reference, nodes, domain)
        };
        asked.push(one);
    }
    let hits = random.pick(&[0, 0, 0, 1, 1, 2, 5, 1_000, u32::MAX]);
    let mut question = Question {
        domain: domain.to_owned(),
        hits,
        asked,
    };
    // Refunds are booked after the whole request here, in its order there: they get a counter of their own.
    let keys = reference.keys(&question, now);
    for (at, asked) in question.asked.iter_mut().enumerate() {
        asked.negative &= keys.iter().filter(|&key| *key == keys[at]).count() == 1;
    }
    question
}

/// Time passes: not at all, within a second, to a window's edge and around it, or by many windows.
fn later(random: &mut Random, now: u64) -> u64 {
    let unit_us = UNITS[random.below(7) as usize].1 * SECOND;
    let edge = now.next_multiple_of(unit_us);
    match random.below(24) {
        0..8 => now,
        8..16 => now + random.below(SECOND / 2),
        16..20 => now + random.below(20 * SECOND),
        20 => edge,
        21 => (edge - 1).max(now),
        22 => edge + 1,
        _ => now + random.below(2 * unit_us),
    }
}

fn asks(question: &Question) -> Vec<Ask> {
    let ask = |it: &Asked| Ask {
        entries: it.entries.clone(),
        hits: it.hits,
        refund: it.negative,
        limit: it.limit.map(|(requests_per_unit, unit)| LimitOverride {
            requests_per_unit,
            unit: Some(OURS[unit]),
            unit_multiplier: 1,
        }),
    };
    question.asked.iter().map(ask).collect()
}

fn said(answer: &Answer) -> Said {
    let status = |it: &ratekeeper::decision::Status| Status {
        over: it.over,
        limit: it.current_limit.as_ref().map(|limit| {
            assert_eq!(limit.unit_multiplier, None);
            let name = limit.name.as_deref().unwrap_or_default().to_owned();
            let unit = OURS.iter().position(|unit| *unit == limit.unit).unwrap();
            (limit.requests_per_unit, UNITS[unit].0, name)
        }),
        remaining: it.remaining,
        reset_s: it.reset_s,
    };
    let headers = &answer.response_headers;
    let names: Vec<&str> = headers.iter().map(|it| &*it.name).collect();
    assert!(
        names.is_empty() || names == ["limit", "left", "reset"],
        "{names:?}"
    );
    Said {
        over: answer.denied,
        statuses: answer.statuses.iter().map(status).collect(),
        headers: (!names.is_empty()).then(|| [0, 1, 2].map(|at: usize| headers[at].value.parse().unwrap())),
    }
}

/// The counters of all limits, by domain and name, without those that stand at zero.
fn stats(service: &Deciding) -> BTreeMap<(String, String), Stats> {
    let mut stats = BTreeMap::<_, Stats>::new();
    for line in service.telemetry.render().lines() {
        let Some(rest) = line.strip_prefix("ratekeeper_limit_") else {
            continue;
        };
        let (name, rest) = rest.split_once("{domain=\"").unwrap();
        let kinds = [
            "hits",
            "over_limit_hits",
            "near_limit_hits",
            "within_limit_hits",
            "shadow_mode_hits",
        ];
        let Some(kind) = kinds.iter().position(|kind| name == format!("{kind}_total")) else {
            continue;
        };
        let (domain, rest) = rest.split_once("\",limit=\"").unwrap();
        let (limit, value) = rest.split_once("\"} ").unwrap();
        stats.entry((domain.to_owned(), limit.to_owned())).or_default()[kind] = value.parse().unwrap();
    }
    stats.retain(|_, stats| *stats != Stats::default());
    stats
}

/// What came up, so that it can be seen that the test tests something.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    denied: u64,
    over: u64,
    over_in_allowed: u64,
    refunds: u64,
    overrides: u64,
    shared_counters: u64,
}

fn run(seed: u64, seen: &mut Seen, store: Arc<dyn Store>) {
    let mut random = Random::new(seed);
    let nodes = WORDS.level(&mut random, 1, &mut BTreeSet::new());
    let text = file(&mut random, "domain", &nodes);
    let mut reference = Reference::new("domain", &nodes);
    reference.shadow_mode = random.one_in(5);
    reference.quota_mode = random.one_in(4);
    let options = Options {
        defaults: Defaults {
            algorithm: Algorithm::FixedWindow,
            charge: ChargeRule::Always,
            ..DEFAULTS
        },
        shadow_mode: reference.shadow_mode,
        quota_mode: reference.quota_mode,
        ..with_headers()
    };
    let service = Deciding::with_store(&[&text], options, store);
    let mut now = NOW + random.below(SECOND);
    for step in 0..REQUESTS {
        now = later(&mut random, now);
        service.clock.set(now);
        let question = random_request(&mut random, &reference, &nodes, now);
        let mut keys: Vec<_> = reference.keys(&question, now).into_iter().flatten().collect();
        let expected = reference.ask(&question, now);
        let answer = ask(&service, &question.domain, question.hits, &asks(&question)).unwrap();
        let got = said(&answer);
        assert_eq!(
            got, expected,
            "seed {seed}, step {step}, {now} µs: {question:#?}\n{text}"
        );

        seen.requests += 1;
        seen.denied += u64::from(got.over);
        let over = got.statuses.iter().filter(|status| status.over).count() as u64;
        seen.over += over;
        seen.over_in_allowed += if got.over { 0 } else { over };
        seen.refunds += question.asked.iter().filter(|it| it.negative).count() as u64;
        seen.overrides += question.asked.iter().filter(|it| it.limit.is_some()).count() as u64;
        let all = keys.len();
        keys.sort();
        keys.dedup();
        seen.shared_counters += (all - keys.len()) as u64;
    }
    reference.stats.retain(|_, stats| *stats != Stats::default());
    assert_eq!(
        stats(&service),
        reference.stats,
        "seed {seed}: hits, over, near, within, shadow\n{text}"
    );
    let shadowed = metric(&service, "ratekeeper_global_shadow_mode_total", "");
    assert_eq!(
        shadowed, reference.global_shadow,
        "seed {seed}: denials that the global shadow mode let through"
    );
}

#[test]
fn every_answer_is_the_references() {
    compare(&|| Arc::new(MemoryStore::new(100_000, WhenFull::Evict)));
}

/// The same questions to the scripts of a real Redis.
#[test]
fn every_answer_of_redis_is_the_references() {
    let redis = Redis::start();
    compare(&|| Arc::new(ScriptStore::new(redis.connect())));
}

fn compare(store: &dyn Fn() -> Arc<dyn Store>) {
    let mut seen = Seen::default();
    for seed in seeds(POLICIES) {
        run(seed, &mut seen, store());
    }
    println!("{seen:?}");
    assert!(seen.requests >= 10_000);
    let least = seen.requests / 50;
    let rare = [
        seen.over_in_allowed,
        seen.refunds,
        seen.overrides,
        seen.shared_counters,
    ];
    assert!(
        seen.denied > seen.requests / 10 && rare.iter().all(|&count| count > least),
        "{seen:?}"
    );
}
