//! Release binaries of this repository, built by Cargo when a test wants one. Cargo says what it made, and makes nothing if
//! nothing has changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// The load generator.
pub static LOAD: LazyLock<PathBuf> = LazyLock::new(|| build("loadtest/Cargo.toml", "rk-load"));

/// The service.
pub static SERVICE: LazyLock<PathBuf> = LazyLock::new(|| build("Cargo.toml", "ratekeeper"));

fn build(manifest: &str, name: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let mut cargo = Command::new(env!("CARGO"));
    // What Cargo tells a test about its package would look like a change to build scripts that watch such variables, and
    // everything that depends on them would be built again.
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "OUT_DIR"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(&variable);
        }
    }
    let output = cargo
        .args(["build", "--release", "--bin", name])
        .args(["--message-format=json", "--manifest-path"])
        .arg(&manifest)
        .stderr(Stdio::inherit())
        .output()
        .expect("can't start cargo");
    assert!(
        output.status.success(),
        "{name} does not build: cargo build --release --manifest-path {}",
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
}
