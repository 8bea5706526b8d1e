//! What the run ran on.

use std::fs;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, as far as figures depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// As `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// Main memory.
    pub memory_mib: u64,
}

impl Machine {
    /// This one; what can't be read is "unknown" or 0.
    pub fn read() -> Self {
        let cpu = field("/proc/cpuinfo", "model name");
        let memory = field("/proc/meminfo", "MemTotal");
        let memory_kib =
            memory.and_then(|line| line.split(' ').next().and_then(|number| number.parse().ok()));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cores: available_parallelism().map_or(0, usize::from),
            cpu_model: cpu.unwrap_or_else(unknown),
            kernel: kernel.map_or_else(|_| unknown(), |line| line.trim().to_owned()),
            memory_mib: memory_kib.unwrap_or(0u64) / 1_024,
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `name : value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let content = fs::read_to_string(path).ok()?;
    let lines = content.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned());
    values.next()
}

/// Milliseconds since the Unix epoch, to date a report.
#[expect(clippy::disallowed_methods, reason = "a date, no measurement")]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
