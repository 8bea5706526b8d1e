//! The load generator of this repository, as a child process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Built once for all tests; Cargo says what it made.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("loadtest/Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--message-format=json", "--manifest-path"])
        .arg(&manifest)
        .stderr(Stdio::inherit())
        .output()
        .expect("can't start cargo");
    assert!(
        output.status.success(),
        "rk-load does not build: cargo build --manifest-path {}",
        manifest.display()
    );
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let made = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let binary = made
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    binary.expect("cargo made no binary")
});

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// The whole report.
    pub json: Value,
    /// The summary for people.
    pub summary: String,
    /// Whether it ended with 0.
    pub success: bool,
}

/// Loads want the machine for themselves: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps other loads from starting.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run under way; `finish` waits for it.
#[derive(Debug)]
pub struct Run {
    _alone: MutexGuard<'static, ()>,
    child: Option<std::process::Child>,
    dir: tempfile::TempDir,
}

/// Builds the generator if need be, so that a test's time does not contain that.
pub fn prepare() {
    LazyLock::force(&BINARY);
}

/// Starts a run with these arguments.
pub fn start(targets: &[u16], arguments: &[&str]) -> Run {
    let alone = alone();
    let dir = tempfile::tempdir().expect("no temporary directory");
    let mut command = Command::new(&*BINARY);
    for port in targets {
        command.arg("--target").arg(format!("127.0.0.1:{port}"));
    }
    command
        .args(arguments)
        .arg("--json")
        .arg(dir.path().join("report.json"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let child = command.spawn().expect("can't start rk-load");
    Run {
        _alone: alone,
        child: Some(child),
        dir,
    }
}

impl Run {
    /// Waits for the end, which comes by itself.
    pub fn finish(mut self) -> Report {
        let child = self.child.take().expect("it is waited for once");
        let output = child.wait_with_output().expect("can't wait for rk-load");
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = std::fs::read_to_string(self.dir.path().join("report.json"));
        let text = text.unwrap_or_else(|error| panic!("no report ({error}):\n{summary}"));
        let json = serde_json::from_str(&text).expect("the report is not JSON");
        Report {
            json,
            summary,
            success: output.status.success(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Report {
    /// A number of the totals.
    pub fn total(&self, name: &str) -> u64 {
        self.json["totals"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no total {name}:\n{}", self.summary))
    }

    /// Panics if any request was left without a decision.
    pub fn assert_all_decided(&self) {
        let lost = (self.total("errors"), self.total("unanswered"));
        assert_eq!(
            lost,
            (0, 0),
            "errors and unanswered requests\n{}\n{}",
            self.summary,
            self.json["failures"]
        );
    }
}
