//! Settings: precedence, defaults, and the texts made from the table.

mod reference;
mod values;

use std::{collections::BTreeSet, path::Path, time::Duration};

use ratekeeper::settings::{self, *};

/// Loads from flags and variables written `NAME=value`.
fn load(flags: &[&str], env: &[&str]) -> Result<Loaded, Error> {
    let command = settings::add_flags(clap::Command::new("serve"));
    let args = command
        .try_get_matches_from([&["serve"], flags].concat())
        .expect("flags");
    let env = env.iter().map(|pair| pair.split_once('=').expect("NAME=value"));
    settings::load(
        &args,
        env.map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
}

fn settings_of(flags: &[&str], env: &[&str]) -> Settings {
    load(flags, env)
        .unwrap_or_else(|error| panic!("{error}"))
        .settings
}

fn error_of(flags: &[&str], env: &[&str]) -> String {
    load(flags, env).expect_err("an error").to_string()
}

/// A settings file, the flag that names it, and its path.
fn file(text: &str) -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rk.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    (directory, format!("--config={path}"), path)
}

/// What a file is answered with, its path cut to `rk.toml`.
fn file_error(text: &str) -> String {
    let (_directory, flag, path) = file(text);
    error_of(&[&flag], &[]).replace(&path, "rk.toml")
}

#[test]
fn defaults_are_the_documented_ones() {
    let s = settings_of(&[], &[]);
    assert_eq!(
        (s.grpc.host.as_str(), s.grpc.port, s.grpc.uds),
        ("0.0.0.0", 8081, None)
    );
    assert_eq!(s.grpc.max_connection_age, Some(Duration::from_secs(86_400)));
    assert_eq!(s.grpc.max_connection_age_grace, Some(Duration::from_secs(3_600)));
    assert_eq!(
        (s.grpc.max_connections, s.grpc.max_message_bytes),
        (10_000, 4 << 20)
    );
    assert!(!s.grpc.tls.enabled);
    assert_eq!(
        (s.http.to_string(), s.debug.to_string()),
        ("0.0.0.0:8080".into(), "127.0.0.1:6070".into())
    );
    assert_eq!(
        (s.prometheus.addr, s.prometheus.path.as_str()),
        (None, "/metrics")
    );
    assert_eq!(
        s.policies.policies_dir(),
        Path::new("/srv/runtime_data/current/config")
    );
    assert_eq!(s.policies.poll_interval, Duration::from_secs(30));
    assert_eq!(
        (s.policies.max_file_bytes, s.policies.max_files),
        (64 << 20, 10_000)
    );
    assert_eq!(s.policies.max_nodes, 20_000_000);
    assert_eq!(
        (s.default.algorithm, s.default.charge),
        (DefaultAlgorithm::SlidingWindow, DefaultCharge::Auto)
    );
    assert_eq!(
        (s.memory.max_keys, s.memory.when_full),
        (4_000_000, WhenFull::Evict)
    );
    assert_eq!(s.local.max_keys, 1_000_000);
    assert_eq!((s.limits.max_descriptors, s.limits.max_entries), (1_000, 100));
    assert_eq!(
        (s.limits.max_key_bytes, s.limits.max_value_bytes),
        (1_024, 65_536)
    );
    assert!(!s.response.headers_enabled && !s.response.retry_after && !s.response.dynamic_metadata);
    assert_eq!(s.response.limit_header, "RateLimit-Limit");
    assert_eq!(s.response.remaining_header, "RateLimit-Remaining");
    assert_eq!(
        (s.response.reset_header.as_str(), s.response.denied_body),
        ("RateLimit-Reset", None)
    );
    assert!(!s.shadow_mode && !s.quota_mode);
    assert_eq!((s.near_limit_ratio.to_bits(), s.threads), (0.8_f32.to_bits(), 0));
    assert_eq!(
        (s.shutdown.drain_delay.as_secs(), s.shutdown.grace.as_secs()),
        (2, 5)
    );
    assert_eq!((s.log.level, s.log.format), (LogLevel::Info, LogFormat::Text));
    assert_eq!((s.metrics.max_series, s.extra_tags.len()), (10_000, 0));
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for setting in table::all().filter(|setting| !setting.default.is_empty()) {
        assert!(
            setting.kind.parse(setting.default).is_some(),
            "{}: {}",
            setting.key,
            setting.default
        );
    }
}

#[test]
fn no_two_settings_share_a_name() {
    let mut names = BTreeSet::new();
    for setting in table::all() {
        let variables = setting.variables();
        for name in variables.iter().chain([&setting.flag()]) {
            assert!(names.insert(name.clone()), "{name} of {}", setting.key);
        }
    }
}

/// Each step up the ladder wins, for a number, a truth value, a duration, a name, a map and a text.
#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let text = "shadow_mode = true\nextra_tags = { zone = 'file', only = 'file' }\nretry_after = true\n\
                [grpc]\nport = 1\nmax_connection_age = '1m'\n[memory]\nwhen_full = 'overflow'\n\
                [response]\nlimit_header = 'x-file'\n";
    let (_directory, config, path) = file(text);
    let steps = |s: &Settings| {
        let tags: Vec<_> = s
            .extra_tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let age = s.grpc.max_connection_age.map_or(0, |age| age.as_secs());
        let header = s.response.limit_header.clone();
        (
            s.grpc.port,
            s.shadow_mode,
            age,
            s.memory.when_full,
            tags.join(","),
            header,
        )
    };
    let expect = |port, shadow, age, full, tags: &str, header: &str| {
        (port, shadow, age, full, tags.to_owned(), header.to_owned())
    };

    let from_file = settings_of(&[&config], &[]);
    let file_values = expect(1, true, 60, WhenFull::Overflow, "only=file,zone=file", "x-file");
    assert_eq!(steps(&from_file), file_values);
    assert!(from_file.response.retry_after);
    assert_eq!(
        settings_of(&[], &[&format!("RATEKEEPER_CONFIG={path}")]),
        from_file
    );

    let reference = [
        "GRPC_PORT=2",
        "SHADOW_MODE=f",
        "GRPC_MAX_CONNECTION_AGE=2m",
        "EXTRA_TAGS=zone:ref",
        "LIMIT_LIMIT_HEADER=x-ref",
    ];
    let reference_values = expect(2, false, 120, WhenFull::Overflow, "zone=ref", "x-ref");
    assert_eq!(steps(&settings_of(&[&config], &reference)), reference_values);

    let own = [
        "RATEKEEPER_GRPC_PORT=3",
        "RATEKEEPER_SHADOW_MODE=T",
        "RATEKEEPER_GRPC_MAX_CONNECTION_AGE=3m",
        "RATEKEEPER_EXTRA_TAGS=zone:own",
        "RATEKEEPER_RESPONSE_LIMIT_HEADER=x-own",
        "RATEKEEPER_MEMORY_WHEN_FULL=Evict",
    ];
    let both = [&own[..], &reference[..]].concat();
    let own_values = expect(3, true, 180, WhenFull::Evict, "zone=own", "x-own");
    assert_eq!(steps(&settings_of(&[&config], &both)), own_values);

    let flags = [
        config.as_str(),
        "--grpc-port=4",
        "--shadow-mode=false",
        "--grpc-max-connection-age",
        "4m",
        "--extra-tags=",
        "--response-limit-header=x-flag",
        "--memory-when-full=overflow",
    ];
    assert_eq!(
        steps(&settings_of(&flags, &both)),
        expect(4, false, 240, WhenFull::Overflow, "", "x-flag")
    );
}

#[test]
fn an_empty_value_unsets_what_a_lower_place_has() {
    let (_directory, config, _path) = file("denied_body = 'no'\ngrpc.uds = '/run/rk.sock'\n");
    assert_eq!(
        settings_of(&[&config], &[]).response.denied_body.as_deref(),
        Some("no")
    );
    let s = settings_of(&[&config, "--denied-body="], &["GRPC_UDS="]);
    assert_eq!((s.response.denied_body, s.grpc.uds), (None, None));
}

#[test]
fn a_truth_flag_needs_no_value() {
    assert!(settings_of(&["--shadow-mode"], &[]).shadow_mode);
    assert!(settings_of(&["--shadow-mode", "--quota-mode=0"], &["SHADOW_MODE=0"]).shadow_mode);
    assert!(!settings_of(&["--shadow-mode=F"], &["SHADOW_MODE=1"]).shadow_mode);
}

#[test]
fn policies_come_from_one_path_or_from_three_parts() {
    let dir = |flags: &[&str], env: &[&str]| {
        settings_of(flags, env)
            .policies
            .policies_dir()
            .display()
            .to_string()
    };
    let parts = [
        "RUNTIME_ROOT=/data",
        "RUNTIME_SUBDIRECTORY=/ratelimit",
        "RUNTIME_APPDIRECTORY=cfg",
    ];
    assert_eq!(dir(&[], &parts), "/data/ratelimit/cfg");
    assert_eq!(
        dir(&[], &["RUNTIME_ROOT=/data", "RUNTIME_SUBDIRECTORY="]),
        "/data/config"
    );
    assert_eq!(dir(&["--policies", "a"], &parts), "a");
    assert_eq!(dir(&["--policies-path", "b"], &parts), "b");
    assert_eq!(dir(&[], &["RATEKEEPER_POLICIES=c"]), "c");
    assert_eq!(
        dir(&[], &["RATEKEEPER_POLICIES=c", "RATEKEEPER_POLICIES_PATH=d"]),
        "d"
    );
    let (_directory, config, _path) = file("[policies]\npath = 'e'\n");
    assert_eq!(dir(&[&config], &parts), "e");
}

/// Nobody mends ten settings in ten starts: all problems are told at once, overridden values included.
#[test]
fn all_problems_are_told_at_once() {
    let (_directory, config, path) = file("threads = 'x'\n");
    let error = error_of(
        &[&config, "--threads=1", "--grpc-port=a"],
        &["PORT=b", "CONFIG_TYPE=c"],
    );
    let lines: Vec<_> = error.lines().collect();
    let starts = [
        &format!("file {path}: threads: "),
        "variable PORT: ",
        "variable CONFIG_TYPE: ",
        "flag --grpc-port: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{error}");
    assert!(
        lines
            .iter()
            .zip(starts)
            .all(|(line, start)| line.starts_with(start)),
        "{error}"
    );
}

/// Every key of the table works in a file, in a variable and as a flag, with its own default as the value.
#[test]
fn every_setting_can_be_given_everywhere() {
    let plain = settings_of(&[], &[]);
    for setting in table::all() {
        let value = setting.default;
        assert_eq!(
            settings_of(&[&format!("--{}={value}", setting.flag())], &[]),
            plain,
            "{}",
            setting.key
        );
        for name in setting.variables() {
            assert_eq!(settings_of(&[], &[&format!("{name}={value}")]), plain, "{name}");
        }
        let toml = match setting.kind {
            Kind::Bool | Kind::Integer(..) | Kind::Ratio => value.to_owned(),
            _ => format!("'{value}'"),
        };
        let (_directory, config, _path) = file(&format!("{} = {toml}\n", setting.key));
        assert_eq!(settings_of(&[&config], &[]), plain, "{}", setting.key);
    }
}

/// After a change of the table: `RATEKEEPER_UPDATE_DOCS=1 cargo test settings` writes the page anew.
#[test]
fn the_reference_page_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
    let page = settings::reference_markdown();
    if std::env::var_os("RATEKEEPER_UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/settings.md is out of date: run the tests with RATEKEEPER_UPDATE_DOCS=1"
    );
    for setting in table::all() {
        assert!(page.contains(&format!("`{}`", setting.key)), "{}", setting.key);
    }
}

#[test]
fn help_lists_every_flag_with_its_variables() {
    let help = settings::add_flags(clap::Command::new("serve").term_width(400))
        .render_long_help()
        .to_string();
    for setting in table::all() {
        assert!(help.contains(&format!("--{}", setting.flag())), "{}", setting.key);
        assert!(
            help.contains(&format!("[env: {}]", setting.variables().join(", "))),
            "{}",
            setting.key
        );
    }
    assert!(help.contains("--config <FILE>"), "{help}");
}

#[test]
fn the_environment_of_the_process_is_read() {
    let directory = settings::process_environment().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    assert_eq!(
        directory.map(|(_, value)| value).as_deref(),
        Some(env!("CARGO_MANIFEST_DIR"))
    );
}
