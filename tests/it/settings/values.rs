//! How values are read, and how malformed ones are answered.

use proptest::prelude::*;
use ratekeeper::settings::*;

use super::{error_of, file_error, load, settings_of};

#[test]
fn addresses_of_the_reference_server_are_read() {
    let prometheus = |value: &str| {
        settings_of(&[], &[&format!("PROMETHEUS_ADDR={value}")])
            .prometheus
            .addr
    };
    let text = |value: &str| prometheus(value).map(|addr| addr.to_string());
    assert_eq!(text(":19001").as_deref(), Some("0.0.0.0:19001"));
    assert_eq!(text("[::1]:9090").as_deref(), Some("[::1]:9090"));
    assert_eq!(text("localhost:0").as_deref(), Some("localhost:0"));
    assert_eq!(text(""), None);
    for bad in [
        "9090", "::1:9090", "h:", "h:65536", "h:+1", "a b:1", "[h]:1", "[]:1",
    ] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
    }
    let s = settings_of(&[], &["GRPC_HOST=[::]", "HOST=", "DEBUG_HOST=::1"]);
    assert_eq!(
        (s.grpc.host.as_str(), s.http.host.as_str(), s.debug.host.as_str()),
        ("::", "0.0.0.0", "::1")
    );
    assert_eq!(s.grpc.endpoint().to_string(), "[::]:8081");
}

#[test]
fn logrus_levels_are_read_in_any_case() {
    let level = |name: &str| settings_of(&[], &[&format!("LOG_LEVEL={name}")]).log.level;
    assert_eq!(
        (level("WARN"), level("Warning")),
        (LogLevel::Warn, LogLevel::Warn)
    );
    assert_eq!(
        (level("fatal"), level("PANIC")),
        (LogLevel::Error, LogLevel::Error)
    );
    assert_eq!(
        (level("trace"), level("Debug"), level("info")),
        (LogLevel::Trace, LogLevel::Debug, LogLevel::Info)
    );
}

#[test]
fn zero_connection_age_is_never() {
    let s = settings_of(
        &[],
        &["GRPC_MAX_CONNECTION_AGE=0", "GRPC_MAX_CONNECTION_AGE_GRACE=0s"],
    );
    assert_eq!(
        (s.grpc.max_connection_age, s.grpc.max_connection_age_grace),
        (None, None)
    );
}

/// Malformed values: the flag or variable, and the text that it is answered with.
#[test]
fn a_malformed_value_is_answered_with_its_place_and_what_is_allowed() {
    let cases = [
        (
            "GRPC_PORT=http",
            "variable GRPC_PORT: want a whole number from 0 to 65535, got \"http\"",
        ),
        (
            "GRPC_PORT=",
            "variable GRPC_PORT: want a whole number from 0 to 65535, got \"\"",
        ),
        (
            "RATEKEEPER_HTTP_PORT=65536",
            "variable RATEKEEPER_HTTP_PORT: want a whole number from 0 to 65535, got \"65536\"",
        ),
        (
            "SHADOW_MODE=yes",
            "variable SHADOW_MODE: want true or false, got \"yes\"",
        ),
        (
            "NEAR_LIMIT_RATIO=80",
            "variable NEAR_LIMIT_RATIO: want a number from 0 to 1, got \"80\"",
        ),
        (
            "NEAR_LIMIT_RATIO=NaN",
            "variable NEAR_LIMIT_RATIO: want a number from 0 to 1, got \"NaN\"",
        ),
        (
            "RATEKEEPER_SHUTDOWN_GRACE=5",
            "variable RATEKEEPER_SHUTDOWN_GRACE: want a duration from 0s to 1h such as 10s, 150us or 1h30m, got \"5\"",
        ),
        (
            "RATEKEEPER_SHUTDOWN_GRACE=-5s",
            "variable RATEKEEPER_SHUTDOWN_GRACE: want a duration from 0s to 1h such as 10s, 150us or 1h30m, got \"-5s\"",
        ),
        (
            "RATEKEEPER_DEFAULT_ALGORITHM=gcra",
            "variable RATEKEEPER_DEFAULT_ALGORITHM: want one of sliding_window, \
            fixed_window, token_bucket, got \"gcra\"",
        ),
        (
            "RATEKEEPER_DEFAULT_CHARGE=",
            "variable RATEKEEPER_DEFAULT_CHARGE: want one of auto, admitted, always, got \"\"",
        ),
        (
            "LOG_LEVEL=loud",
            "variable LOG_LEVEL: want one of trace, debug, info, warn, warning, error, fatal, panic, \
            got \"loud\"",
        ),
        (
            "HOST=localhost:8080",
            "variable HOST: want a host name or address without a port, got \"localhost:8080\"",
        ),
        (
            "PROMETHEUS_ADDR=9090",
            "variable PROMETHEUS_ADDR: want an address such as :9090 or 127.0.0.1:9090, got \"9090\"",
        ),
        (
            "PROMETHEUS_PATH={x}",
            "variable PROMETHEUS_PATH: want a path such as /metrics, got \"{x}\"",
        ),
        (
            "LIMIT_RESET_HEADER=x y",
            "variable LIMIT_RESET_HEADER: want the name of an HTTP header that is not reserved, got \"x y\"",
        ),
        (
            "EXTRA_TAGS=zone",
            "variable EXTRA_TAGS: want a map such as name:value,name:value, got \"zone\"",
        ),
        (
            "CONFIG_TYPE=file",
            "variable CONFIG_TYPE: want FILE, got \"file\"",
        ),
        (
            "CONFIG_TYPE=GRPC_XDS_SOTW",
            "variable CONFIG_TYPE: GRPC_XDS_SOTW is not supported yet: policies come from \
            files, by CONFIG_TYPE=FILE",
        ),
        (
            "BACKEND_TYPE=memcache",
            "variable BACKEND_TYPE: memcache is not supported: unset BACKEND_TYPE, and counters \
            live in memory while REDIS_URL is unset",
        ),
        (
            "BACKEND_TYPE=etcd",
            "variable BACKEND_TYPE: want redis, got \"etcd\"",
        ),
        ("GRPC_UDS=\n", ""),
    ];
    for (variable, text) in cases {
        match load(&[], &[variable]) {
            Ok(_) => assert_eq!(text, "", "{variable:?}"),
            Err(error) => assert_eq!(error.to_string(), text, "{variable:?}"),
        }
    }
    assert_eq!(
        error_of(&["--threads=x"], &[]),
        "flag --threads: want a whole number from 0 to 1024, got \"x\""
    );
    assert_eq!(
        error_of(&["--quota-mode=on"], &[]),
        "flag --quota-mode: want true or false, got \"on\""
    );
    let long = error_of(&[&format!("--threads={}", "é".repeat(1_000))], &[]);
    assert!(
        long.ends_with("é\"… (2000 bytes)") && long.chars().count() < 150,
        "{long}"
    );
}

#[test]
fn header_names_must_be_usable() {
    for bad in [
        "",
        ":status",
        "a:b",
        "x\r\ny",
        "Host",
        "Transfer-Encoding",
        "grpc-status",
        "über",
        &"x".repeat(257),
    ] {
        let error = load(&[], &[&format!("LIMIT_LIMIT_HEADER={bad}")]);
        assert!(error.is_err(), "{bad:?}");
    }
    assert_eq!(
        settings_of(&[], &["LIMIT_LIMIT_HEADER=X-Limit"])
            .response
            .limit_header,
        "X-Limit"
    );
}

#[test]
fn a_bad_file_is_answered_with_the_key_or_the_line() {
    let number = "want a whole number from 0 to 65535, got";
    let cases = [
        (
            "[grpc]\nport = '8081'",
            format!("file rk.toml: grpc.port: {number} \"8081\""),
        ),
        (
            "grpc.port = 80.5",
            format!("file rk.toml: grpc.port: {number} 80.5"),
        ),
        (
            "grpc.port = [1]",
            format!("file rk.toml: grpc.port: {number} a list"),
        ),
        (
            "grpc.port.x = 1",
            format!("file rk.toml: grpc.port: {number} a table"),
        ),
        (
            "shadow_mode = 'true'",
            "file rk.toml: shadow_mode: want true or false, got \"true\"".to_owned(),
        ),
        (
            "grpc = 1",
            "file rk.toml: grpc: want a table, got a single value".to_owned(),
        ),
        (
            "extra_tags = { a = 1 }",
            "file rk.toml: extra_tags: want a map such as name:value,name:value, got a table".to_owned(),
        ),
        (
            "[memory]\nmax_key = 1",
            "file rk.toml: unknown key \"memory.max_key\", the keys of memory are max_keys, when_full"
                .to_owned(),
        ),
        (
            "[grpc.tls]\nca = 1",
            "file rk.toml: unknown key \"grpc.tls.ca\", the keys of grpc.tls are cert, client_ca, \
            client_san, enabled, key"
                .to_owned(),
        ),
        (
            "a = 1\nb = \n",
            "file rk.toml: line 2, column 5: string values must be quoted, expected literal string"
                .to_owned(),
        ),
        (
            "threads = 1\nthreads = 2\n",
            "file rk.toml: line 2, column 1: duplicate key".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file_error(text), expected, "{text:?}");
    }
    let unknown = file_error("config = 'x'");
    assert!(
        unknown.starts_with("file rk.toml: unknown key \"config\", the keys here are debug, default,"),
        "{unknown}"
    );
    let strange = file_error("\"a\\nb\" = 1");
    assert!(
        strange.starts_with("file rk.toml: unknown key \"a\\nb\", "),
        "{strange}"
    );
    assert!(file_error("threads = 99999999999999999999").starts_with("file rk.toml: "));
    let missing = error_of(&["--config=no/such.toml"], &[]);
    assert_eq!(
        missing,
        "file no/such.toml: no such file or directory (os error 2)"
    );
}

#[test]
fn go_durations() {
    let cases: [(&str, Option<u64>); 29] = [
        ("0", Some(0)),
        ("0s", Some(0)),
        ("10s", Some(10_000_000_000)),
        ("+5s", Some(5_000_000_000)),
        ("150us", Some(150_000)),
        ("150\u{b5}s", Some(150_000)),
        ("150\u{3bc}s", Some(150_000)),
        ("7ns", Some(7)),
        ("1h30m", Some(5_400_000_000_000)),
        ("1.5h", Some(5_400_000_000_000)),
        (".5s", Some(500_000_000)),
        ("1.25s", Some(1_250_000_000)),
        ("0.0000000019s", Some(1)),
        ("1.s", Some(1_000_000_000)),
        ("1m1m", Some(120_000_000_000)),
        ("0.1ns", Some(0)),
        ("9223372036854775807ns", Some(go::DURATION_MAX_NS)),
        ("9223372036854775808ns", None),
        ("2562048h", None),
        ("", None),
        ("10", None),
        ("s", None),
        (".s", None),
        ("1 s", None),
        ("1S", None),
        ("-5s", None),
        ("1d", None),
        ("1h-5m", None),
        ("99999999999999999999s", None),
    ];
    for (text, ns) in cases {
        assert_eq!(go::parse_duration(text), ns, "{text:?}");
    }
    assert_eq!(go::format_duration(5_400_000_000_000), "1h30m");
}

#[test]
fn go_numbers_truth_values_and_maps() {
    for (text, number) in [
        ("8081", Some(8081)),
        ("+7", Some(7)),
        ("-7", Some(-7)),
        ("0x1F", Some(31)),
        ("0b11", Some(3)),
        ("0o17", Some(15)),
        ("017", Some(15)),
        ("1_000", Some(1000)),
        ("0x_f", Some(15)),
        ("0_7", Some(7)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("", None),
        ("-", None),
        ("09", None),
        ("1__0", None),
        ("_1", None),
        ("1_", None),
        ("0x", None),
        ("--1", None),
        ("0x-1", None),
        (" 1", None),
        ("1.0", None),
        ("é", None),
    ] {
        assert_eq!(go::parse_int(text), number, "{text:?}");
    }
    for text in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(go::parse_bool(text), Some(true), "{text}");
    }
    for text in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(go::parse_bool(text), Some(false), "{text}");
    }
    for text in ["", "yes", "on", "tRUE", " true"] {
        assert_eq!(go::parse_bool(text), None, "{text:?}");
    }
    let pairs = |text: &str| go::parse_map(text).map(|pairs| pairs.len());
    assert_eq!(
        (pairs(" "), pairs("a:b"), pairs("a:,b:c")),
        (Some(0), Some(1), Some(2))
    );
    assert_eq!(
        (pairs("a"), pairs("a:b,"), pairs("a:b:c"), pairs(":b")),
        (None, None, None, None)
    );
}

proptest! {
    /// Whatever is printed is read back the same, and equals the sum of its parts.
    #[test]
    fn go_durations_read_back(ns in 0..=go::DURATION_MAX_NS) {
        prop_assert_eq!(go::parse_duration(&go::format_duration(ns)), Some(ns));
    }

    /// Parts in any order and number add up.
    #[test]
    fn go_durations_add_up(parts in prop::collection::vec((0_u64..1_000, 0_usize..6), 1..8)) {
        let units = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
            ("h", 3_600_000_000_000)];
        let text: String = parts.iter().map(|(n, unit)| format!("{n}{}", units[*unit].0)).collect();
        let sum = parts.iter().map(|(n, unit)| n * units[*unit].1).sum();
        prop_assert_eq!(go::parse_duration(&text), Some(sum));
    }
}

proptest! {
    // Each case loads once for every setting.
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// No text makes a parser or an error text panic, and no error takes more than a line.
    #[test]
    fn no_value_is_too_strange(value in "\\PC{0,40}|[-+0-9a-z._:,\\[\\]]{0,12}|(?s).{0,12}") {
        for setting in table::all() {
            let variable = format!("{}={value}", setting.variables()[0]);
            if let Err(error) = load(&[], &[&variable]) {
                let text = error.to_string();
                prop_assert!(text.starts_with(&format!("variable {}: ", setting.variables()[0])), "{}", text);
                // TLS by itself lacks two files.
                let tls = setting.key == "grpc.tls.enabled" && text.contains("TLS needs");
                prop_assert_eq!(text.lines().count(), if tls { 2 } else { 1 });
            }
        }
    }
}
