//! Scenario files: what they say, and what is wrong with them by line.

use std::path::Path;

use rk_load::plan::{Distribution, Weights};
use rk_load::scenario::{Drive, Scenario};

use crate::encoding::{Request, decode};
use crate::stub::{Answer, Stub};
use crate::support::load;

fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    Scenario::parse_all("f.toml", text).map_err(|problem| problem.to_string())
}

#[test]
fn everything_can_be_said() {
    let text = r#"
[[scenario]]
name = "a"
mix = [{ descriptors = ["id={key}"] }]

[[scenario]]
name = "b"
title = "B"
domain = "d"
rate_of_max = 0.5
max_of = "a"
connections = 8
in_flight = 2
busy_poll = true
threads = 2
instances = 3
pinned = false
servers = ["x"]
quick = true
mix = [
    { share = 3, descriptors = ["x=1", "id={key:4}-{n:2}"], repeat = 2, keys = 7, distribution = "zipf:1.1", weights = "2-3" },
    { descriptors = ["id={key}"], distribution = "sequence" },
]
"#;
    let scenarios = parse(text).expect("valid");
    let [a, b] = scenarios.as_slice() else {
        panic!("{scenarios:?}")
    };
    assert_eq!(
        (a.title.as_str(), &a.drive, a.threads, a.pinned),
        ("a", &Drive::Closed, 1, true)
    );
    assert_eq!(
        (a.parts[0].keys, a.parts[0].distribution),
        (10_000, Distribution::Uniform)
    );
    assert!(a.is_for("y") && b.is_for("x") && !b.is_for("y"));
    let of_max = Drive::OfMax {
        share: 0.5,
        of: "a".to_owned(),
    };
    assert_eq!(
        (&b.drive, b.connections, b.in_flight, b.busy_poll),
        (&of_max, Some(8), Some(2), true)
    );
    assert_eq!(
        (b.domain.as_str(), b.threads, b.instances, b.pinned),
        ("d", 2, 3, false)
    );
    assert_eq!(b.parts[0].descriptors.len(), 4);
    assert_eq!((b.parts[0].share, b.parts[0].weights), (3, Weights::Range(2, 3)));
    assert_eq!(b.parts[1].distribution, Distribution::Sequence);
}

#[test]
fn faults_name_line_and_value() {
    let good = "[[scenario]]\nname = \"a\"\nmix = [{ descriptors = [\"id={key}\"] }]\n";
    let table = [
        ("[[scenario]]\nname = \"a\"\n", 1, "mix"),
        ("[[scenario]]\nname = \"a\"\nmix = []\n", 3, "an empty mix"),
        ("[[scenario]]\nname = \"a\"\nmxi = []\n", 3, "mxi"),
        (
            "[[scenario]]\nname = \"a\"\nmix = [{ descriptors = [\"id={kee}\"] }]\n",
            3,
            "{kee}",
        ),
        (
            "[[scenario]]\nname = \"a\"\nmix = [\n{ descriptors = [\"id=1\"] },\n{ descriptors = [\"id=1\"], keys = 0 },\n]\n",
            5,
            "0: expected 1 to",
        ),
        (
            "[[scenario]]\nname = \"a\"\nmix = [{ descriptors = [\"id=1\"], weights = \"3-1\" }]\n",
            3,
            "3-1",
        ),
        (
            "[[scenario]]\nname = \"a\"\nmix = [{ descriptors = [\"id=1\"], distribution = \"normal\" }]\n",
            3,
            "normal",
        ),
        (
            "[[scenario]]\nname = \"a\"\nthreads = 0\nmix = [{ descriptors = [\"id=1\"] }]\n",
            3,
            "at least 1",
        ),
        (
            "[[scenario]]\nname = \"a\"\nrate = -2.0\nmix = [{ descriptors = [\"id=1\"] }]\n",
            3,
            "-2",
        ),
        (
            "[[scenario]]\nname = \"a\"\nrate = 1.0\nmax_of = \"b\"\nmix = [{ descriptors = [\"id=1\"] }]\n",
            2,
            "rate_of_max",
        ),
        (
            "[[scenario]]\nname = \"a\"\nrate_of_max = 0.5\nmax_of = \"b\"\nmix = [{ descriptors = [\"id=1\"] }]\n",
            4,
            "b is no scenario",
        ),
        (
            "[[scenario]]\nname = \"\"\nmix = [{ descriptors = [\"id=1\"] }]\n",
            2,
            "without a name",
        ),
        ("\n\nscenario = 3\n", 3, ""),
        ("[[scenario]\n", 1, ""),
    ];
    for (text, line, part) in table {
        let error = parse(text).expect_err(text);
        assert!(
            error.starts_with(&format!("f.toml:{line}: ")) && error.contains(part),
            "{text}\n{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(parse(good).is_ok());
    let twice = format!("{good}{good}");
    assert_eq!(parse(&twice), Err("f.toml:5: a second scenario a".to_owned()));
}

#[test]
fn the_files_of_this_repository_are_valid() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
    let scenarios = Scenario::read_all(&dir.join("scenarios.toml")).expect("valid");
    assert!(scenarios.len() > 10 && scenarios.iter().any(|scenario| scenario.quick));
    let servers = rk_load::compare::Server::read_all(&dir.join("servers.toml")).expect("valid");
    for scenario in &scenarios {
        for name in &scenario.servers {
            assert!(servers.iter().any(|server| server.name == *name), "{name}");
        }
    }
}

#[test]
fn a_run_sends_the_mix_of_its_scenario() {
    let text = r#"
[[scenario]]
name = "other"
mix = [{ descriptors = ["never=sent"] }]

[[scenario]]
name = "mixed"
domain = "d"
connections = 2
in_flight = 4
mix = [
    { share = 3, descriptors = ["id=user-{key}"], keys = 5, weights = "2" },
    { share = 1, descriptors = ["a=1", "b={n}"], repeat = 2 },
]
"#;
    let path = std::env::temp_dir().join(format!("rk-load-scenario-{}.toml", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    // Over limit for the second kind, so that the report says how often each came.
    let stub = Stub::start(|message| {
        let request: Request = decode(message);
        match (
            request.domain.as_str(),
            request.descriptors.len(),
            request.hits_addend,
        ) {
            ("d", 1, 2) => Answer::Ok,
            ("d", 4, 0) => Answer::OverLimit,
            _ => Answer::Status(3),
        }
    });
    let line = format!(
        "--duration 500ms --scenario {} --scenario-name mixed",
        path.display()
    );
    let report = load(&[&stub], &line);
    std::fs::remove_file(&path).expect("it was written");
    let counts = &report.totals.counts;
    assert_eq!((counts.errors, report.connections.opened), (0, 2), "{counts:?}");
    let share = counts.over_limit * 1_000 / counts.sent().max(1);
    assert!(counts.sent() > 400 && (150..350).contains(&share), "{counts:?}");
}
