//! The program itself: output, files, exit codes.

use std::process::{Command, Output};

use serde_json::Value;

use crate::stub::{Answer, Stub};
use crate::support::words;

fn rk_load(arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rk-load"));
    command.args(arguments).output().expect("the program starts")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn everything_is_in_the_json() {
    let stub = Stub::start(|_| Answer::Ok);
    let pid = std::process::id();
    let line = format!(
        "--duration 1s --warmup 1s --keys 9 --rate 900 --server-pid {pid} --json - \
                        --audit --limit 1000000 --window 1"
    );
    let output = rk_load(&words(&[&stub], &line));
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert!(
        json["command"]
            .as_array()
            .is_some_and(|command| command.len() > 10)
    );
    assert!(json["machine"]["cores"].as_u64() > Some(0));
    assert!(json["totals"]["ok"].as_u64() > Some(500));
    assert!(json["latency"]["decided"]["p99_us"].as_f64() > Some(0.0));
    assert!(
        json["latency_curve"]
            .as_array()
            .is_some_and(|curve| curve.len() > 5)
    );
    assert_eq!(json["servers"][0]["pid"], pid);
    assert!(json["servers"][0]["peak_rss_mib"].as_f64() > Some(1.0));
    let series = json["series"].as_array().expect("a list");
    assert_eq!(
        series.iter().map(|row| &row["warmup"]).collect::<Vec<_>>()[..2],
        [true, false]
    );
    assert_eq!(json["audit"]["broken_keys"], 0);
    assert_eq!(json["audit"]["keys"], 9);
    let summary = text(&output.stderr);
    assert!(
        summary.contains("requests") && summary.contains("9 keys, 0 broken"),
        "{summary}"
    );
}

#[test]
fn a_broken_window_and_errors_fail_the_run() {
    let generous = Stub::start(|_| Answer::Ok);
    let output = rk_load(&words(
        &[&generous],
        "--duration 300ms --keys 1 --audit --limit 10 --window 1",
    ));
    assert_eq!(code(&output), Some(1));
    assert!(
        text(&output.stdout).contains("BROKEN"),
        "{}",
        text(&output.stdout)
    );
    let failing = Stub::start(|_| Answer::Status(14));
    assert_eq!(code(&rk_load(&words(&[&failing], "--duration 300ms"))), Some(0));
    let output = rk_load(&words(&[&failing], "--duration 300ms --fail-on-error"));
    assert_eq!(code(&output), Some(1));
    assert!(
        text(&output.stdout).contains("UNAVAILABLE"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn limits_come_from_a_file() {
    let stub = Stub::start(|_| Answer::Ok);
    let path = std::env::temp_dir().join(format!("rk-load-limits-{}.json", std::process::id()));
    std::fs::write(
        &path,
        r#"{"0": {"limit": 1000000, "window": 1}, "1": {"limit": 1, "window": 1}}"#,
    )
    .expect("a temporary file");
    let line = format!(
        "--duration 300ms --keys 3 --audit --audit-limits {}",
        path.display()
    );
    let output = rk_load(&words(&[&stub], &line));
    std::fs::remove_file(&path).expect("it was written");
    assert_eq!(code(&output), Some(1), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    assert!(
        summary.contains("2 keys, 1 broken") && summary.contains("without a limit"),
        "{summary}"
    );
}

#[test]
fn no_result_is_an_exit_code_of_its_own() {
    let wrong = rk_load(&["--rate".to_owned(), "-3".to_owned()]);
    assert_eq!(code(&wrong), Some(2));
    let nobody = Stub::start(|_| Answer::Ok);
    let output = rk_load(&words(&[&nobody], "--server-pid 4000000000"));
    assert_eq!(code(&output), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--server-pid 4000000000"));
}
