//! Domains that are there, are not, or are in error, and what a reload does to counters.

use std::fmt::Write as _;

use ratekeeper::decision::NotReady;

use super::*;

const BROKEN: &str = "domain: broken\ndescriptors: [{key: k, rate_limit: {unit: eon, requests_per_unit: 1}}]";

#[test]
fn before_the_first_load_there_is_no_answer() {
    let service = Deciding::new(&[]);
    assert_eq!(
        ask(&service, "d", 0, &asks(&["one"])).unwrap_err(),
        NotReady::NoPolicies
    );
    let _ = service.load(&[]);
    assert!(
        !ask(&service, "d", 0, &asks(&["one"])).unwrap().denied,
        "an empty directory limits nothing"
    );
}

#[test]
fn an_unknown_domain_is_allowed_and_counted() {
    let service = Deciding::new(&[POLICY]);
    let answer = ask(&service, "D", 0, &asks(&["zero", "one"])).unwrap();
    assert_eq!(row(&answer), (false, vec![(OK, 0), (OK, 0)]));
    assert!(
        answer
            .statuses
            .iter()
            .all(|status| status.current_limit.is_none() && status.reset_s.is_none())
    );
    assert_eq!(metric(&service, "ratekeeper_domain_not_found_total", ""), 1);
}

#[test]
fn a_domain_in_error_from_the_start_is_an_error_and_others_answer() {
    let service = Deciding::new(&[]);
    assert_eq!(service.load(&[POLICY, BROKEN]).files_in_error.len(), 1);
    assert_eq!(row(&decide(&service, &asks(&["one"]))), (false, vec![(OK, 0)]));
    let error = ask(&service, "broken", 0, &asks(&["k"])).unwrap_err();
    assert_eq!(error, NotReady::DomainInError("broken".to_owned()));
    // A repaired file ends it; a file that breaks later changes nothing.
    let good = BROKEN.replace("eon", "hour");
    let _ = service.load(&[POLICY, &good]);
    assert!(!ask(&service, "broken", 0, &asks(&["k"])).unwrap().denied);
    let _ = service.load(&[POLICY, BROKEN]);
    assert!(
        ask(&service, "broken", 0, &asks(&["k"])).unwrap().denied,
        "the last good version is in force"
    );
}

/// Known bug 22 of published limiters: a changed number let the old limit live on, or filled the bucket anew.
#[test]
fn bug_22_a_changed_number_keeps_the_counters() {
    for algorithm in ["sliding_window", "fixed_window"] {
        let policy = |requests: u32| {
            let limit = format!(
                "{{unit: day, requests_per_unit: {requests}, algorithm: {algorithm}, charge: admitted}}"
            );
            format!("domain: d\ndescriptors: [{{key: k, rate_limit: {limit}}}]")
        };
        let service = Deciding::new(&[&policy(10)]);
        let mut answers = vec![row(&decide(&service, &asks(&["k*8"])))];
        for (requests, hits) in [
            (20, "k*5"),
            (10, "k*1"),
            (13, "k*1"),
            (14, "k*1"),
            (300, "k*200"),
            (14, "k*1"),
        ] {
            let _ = service.load(&[&policy(requests)]);
            answers.push(row(&decide(&service, &asks(&[hits]))));
        }
        let expected = [
            (OK, 2),
            (OK, 7),
            (OVER, 0),
            (OVER, 0),
            (OK, 0),
            (OK, 86),
            (OVER, 0),
        ];
        let expected: Vec<Row> = expected
            .into_iter()
            .map(|status| (status.0, vec![status]))
            .collect();
        assert_eq!(answers, expected, "{algorithm}");
    }
    let bucket = |requests: u32| {
        let limit = format!("{{unit: day, requests_per_unit: {requests}, algorithm: token_bucket}}");
        format!("domain: d\ndescriptors: [{{key: k, rate_limit: {limit}}}]")
    };
    let service = Deciding::new(&[&bucket(10)]);
    let _ = decide(&service, &asks(&["k*5"]));
    let _ = service.load(&[&bucket(100)]);
    assert_eq!(left(&service, "k"), 50, "a bucket keeps its fraction");
}

#[test]
fn a_rule_that_moves_to_another_file_or_gets_a_name_keeps_its_counter() {
    let rule = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 2}}]";
    let other = "domain: d\ndescriptors: [{key: x}]";
    let service = Deciding::new(&[rule]);
    assert_eq!(row(&decide(&service, &asks(&["k"]))), (false, vec![(OK, 1)]));
    let named = rule.replace("unit: day", "unit: DAY, name: n");
    let _ = service.load(&[other, &named]);
    assert_eq!(row(&decide(&service, &asks(&["k"]))), (false, vec![(OK, 0)]));
}

/// Known bugs 18 and 19 of published limiters: two tenants on one counter, by a colliding hash or an unescaped delimiter.
#[test]
fn bug_18_19_tenants_whose_keys_look_alike_do_not_share() {
    let domains = ["d", "d_a", "d|a=b", "d}", "{d}"];
    let mut files = vec![];
    for domain in domains {
        let mut text = format!("domain: '{domain}'\ndescriptors:\n");
        let limit = "rate_limit: {unit: hour, requests_per_unit: 1}";
        for outer in ["a", "a_b", "a=b", "a|b", "c"] {
            writeln!(text, "  - {{key: '{outer}', {limit}, descriptors: [").unwrap();
            writeln!(
                text,
                "      {{key: a, {limit}}}, {{key: c, {limit}}}, {{key: 'b_c', {limit}}}]}}"
            )
            .unwrap();
        }
        files.push(text);
    }
    let texts: Vec<&str> = files.iter().map(String::as_str).collect();
    let service = Deciding::new(&texts);
    let values = [
        "",
        "b",
        "c",
        "_",
        "b_c",
        "b|c=c",
        "c|c",
        "=",
        "*",
        "%7C",
        "|",
        "%",
        "b%7Cc=c",
        "}:sw1:3600",
        "Aa",
        "BB",
        "\u{0}",
    ];
    let mut counters = 0;
    for domain in domains {
        for outer in ["a", "a_b", "a=b", "a|b", "c"] {
            for value in values {
                let outer = (outer.to_owned(), value.to_owned());
                let mut paths = vec![vec![outer.clone()]];
                for inner in ["a", "c", "b_c"] {
                    paths.extend(
                        values.map(|value| vec![outer.clone(), (inner.to_owned(), value.to_owned())]),
                    );
                }
                for entries in paths {
                    let asked = [Ask {
                        entries: entries.clone(),
                        ..Ask::default()
                    }];
                    let answer = ask(&service, domain, 0, &asked).unwrap();
                    counters += u64::from(answer.statuses[0].current_limit.is_some());
                    assert!(!answer.denied, "{domain} {entries:?} shares a counter");
                }
            }
        }
    }
    assert!(counters > 4_000, "hardly anything was counted: {counters}");
}
