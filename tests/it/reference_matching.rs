//! Which rule a request meets, held against the reference server's description.

use std::collections::{BTreeMap, BTreeSet};

use crate::asking::{Ask, ask};
use crate::deciding::Deciding;
use crate::limiter_oracle::{Random, seeds};
use crate::reference_oracle::{Asked, Node, Question, Reference};
use crate::reference_random::{Words, entries, file};

const POLICIES: u64 = 250;
const REQUESTS: u64 = 100;

/// Words that collide: composites that are cut in several ways, patterns over patterns, text that looks like a pattern.
const WORDS: Words = Words {
    keys: &["a", "b", "a_b", "path", "a_", "k*", "*", "a*b"],
    values: &[
        "", "", "b", "c", "b_c", "_", "/api/*", "*", "*c", "b*", "x*y*z", "**", "ü", "ü*",
    ],
    depth: 4,
    width: 6,
    requests: &[0],
    replaces_one_in: 3,
    modes_one_in: 4,
};
const KEYS: &[&str] = &["a", "b", "a_b", "path", "a_", "kx", "k", "axb", "A", "other"];
const VALUES: &[&str] = &[
    "",
    "b",
    "c",
    "B",
    "b_c",
    "_",
    "/api/v1/x",
    "bc",
    "x1y2z",
    "*",
    "/api/*",
    "ü",
    "b c",
    "k*",
];

/// What a descriptor met.
#[derive(Debug, PartialEq)]
enum Met {
    Nothing,
    Unlimited,
    /// A rule, by its own number of requests and its name.
    Rule(u32, String),
}

/// Gives every rule a number of requests of its own.
fn number(nodes: &mut [Node], next: &mut u32) {
    for node in nodes {
        if let Some(limit) = &mut node.limit {
            *next += 1;
            limit.requests = *next;
        }
        number(&mut node.children, next);
    }
}

/// A domain in one to three files, merged in the order of their names.
fn random_domain(random: &mut Random) -> (Vec<String>, Vec<Node>) {
    let (mut taken, mut next) = (BTreeSet::new(), 1_000_000);
    let (mut files, mut all) = (vec![], vec![]);
    for _ in 0..=random.below(3) {
        let mut nodes = WORDS.level(random, 1, &mut taken);
        number(&mut nodes, &mut next);
        files.push(file(random, "domain", &nodes));
        all.extend(nodes);
    }
    (files, all)
}

#[test]
fn every_request_meets_the_rule_that_the_reference_would_find() {
    let mut met = BTreeMap::from([("nothing", 0), ("unlimited", 0), ("rule", 0)]);
    for seed in seeds(POLICIES) {
        let mut random = Random::new(seed);
        let (files, nodes) = random_domain(&mut random);
        let texts: Vec<&str> = files.iter().map(String::as_str).collect();
        let service = Deciding::new(&texts);
        let reference = Reference::new("domain", &nodes);
        for _ in 0..REQUESTS {
            let paths: Vec<_> = (0..=random.below(4))
                .map(|_| entries(&mut random, &nodes, KEYS, VALUES, true))
                .collect();
            let asks: Vec<_> = paths
                .iter()
                .map(|it| Ask {
                    entries: it.clone(),
                    ..Ask::default()
                })
                .collect();
            let answer = ask(&service, "domain", 1, &asks).unwrap();
            let got: Vec<_> = answer
                .statuses
                .iter()
                .map(|status| match &status.current_limit {
                    Some(limit) => Met::Rule(
                        limit.requests_per_unit,
                        limit.name.as_deref().unwrap_or_default().to_owned(),
                    ),
                    None if status.remaining == u32::MAX => Met::Unlimited,
                    None => Met::Nothing,
                })
                .collect();

            let asked = paths
                .iter()
                .map(|it| Asked {
                    entries: it.clone(),
                    ..Asked::default()
                })
                .collect();
            let question = Question {
                domain: "domain".to_owned(),
                hits: 1,
                asked,
            };
            let expected: Vec<_> = reference
                .met(&question)
                .into_iter()
                .map(|limit| match limit {
                    None => Met::Nothing,
                    Some((true, ..)) => Met::Unlimited,
                    Some((false, requests, name)) => Met::Rule(requests, name),
                })
                .collect();
            assert_eq!(
                got,
                expected,
                "seed {seed}, {paths:?} in\n{}",
                files.join("---\n")
            );
            for it in &expected {
                let kind = match it {
                    Met::Nothing => "nothing",
                    Met::Unlimited => "unlimited",
                    Met::Rule(..) => "rule",
                };
                *met.entry(kind).or_default() += 1;
            }
        }
    }
    println!("met {met:?}");
    assert!(
        met.values().all(|&count| count > 2_000),
        "one kind is hardly tested: {met:?}"
    );
}
