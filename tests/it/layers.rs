//! The architecture's rules about who may use whom, held by reading the `use` lines and paths of the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of a request, with what each may use of the project.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limiter", &[]),
    ("descriptor", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("settings", &[]),
    ("policy", &["descriptor", "limiter", "telemetry"]),
    ("store", &["clock", "limiter"]),
    (
        "decision",
        &["clock", "descriptor", "limiter", "policy", "store", "telemetry"],
    ),
    ("wire", &["decision", "descriptor", "policy", "telemetry"]),
    ("admin", &["policy", "store", "telemetry", "wire"]),
    ("cli", &["app", "policy", "settings", "telemetry"]),
];

/// Crates that only some modules may name.
const HOMES: &[(&str, &[&str])] = &[
    ("tonic", &["wire", "app"]),
    ("tonic_health", &["wire", "app"]),
    ("prost", &["wire"]),
    ("prost_types", &["wire"]),
    ("prost_reflect", &["wire"]),
    ("tokio_rustls", &["wire", "store"]),
    ("rustls_native_certs", &["store"]),
    ("base64", &["store"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("governor", &["limiter"]),
    ("granit_parser", &["policy"]),
    ("config", &["settings"]),
    ("axum", &["admin"]),
    ("hyper", &["admin"]),
    ("h2", &["wire"]),
    ("http", &["wire"]),
    ("http_body", &["wire"]),
    ("rustix", &["clock", "policy"]),
    ("redis", &["store"]),
    ("deadpool_redis", &["store"]),
    ("hashbrown", &["policy", "store"]),
    ("crc16", &["store"]),
];

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned()
    };
    found
        .into_iter()
        .map(|path| (module(&path), path.clone(), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The code without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

#[test]
fn dependencies_point_one_way() {
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, path, text) in sources() {
        let Some(allowed) = may_use.get(module.as_str()) else {
            assert!(
                ["lib", "main", "app"].contains(&module.as_str()),
                "{module} has no rule"
            );
            continue;
        };
        for (line, code) in code_lines(&text) {
            for (at, _) in code.match_indices("crate::") {
                let used: String = code[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                seen += 1;
                if used != module && may_use.contains_key(used.as_str()) && !allowed.contains(&used.as_str())
                {
                    wrong.push(format!("{}:{line}: {module} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(
        seen > 50,
        "only {seen} uses were found: this test reads the wrong thing"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_are_named_only_in_their_homes() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        for (line, code) in code_lines(&text) {
            for (name, homes) in HOMES {
                let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !homes.contains(&module.as_str()) {
                    wrong.push(format!("{}:{line}: {name} in {module}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let sizes = |text: &str| {
        text.lines()
            .take_while(|line| !line.contains("#[cfg(test)]"))
            .count()
    };
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, text)| sizes(text) > 500)
        .map(|(_, path, _)| path)
        .collect();
    assert!(long.is_empty(), "longer than 500 lines: {long:?}");
}
