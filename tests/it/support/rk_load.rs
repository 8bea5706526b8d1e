//! The load generator of this repository, as a child process.

use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::built;

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
    LazyLock::force(&built::LOAD);
}

/// Starts a run with these arguments, when no other load is under way.
pub fn start(targets: &[u16], arguments: &[&str]) -> Run {
    let alone = alone();
    start_holding(alone, targets, arguments)
}

/// The same for who has the machine for itself already.
pub fn start_holding(alone: MutexGuard<'static, ()>, targets: &[u16], arguments: &[&str]) -> Run {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let mut command = Command::new(&*built::LOAD);
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
