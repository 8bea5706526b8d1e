//! CPU time and memory of processes, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::num;

/// CPU time this process used so far, all threads.
pub fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// What a process had used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all threads, to the kernel's tick (10 ms).
    pub cpu: Duration,
    /// The most memory it ever held resident, in KiB.
    pub peak_rss_kib: u64,
    /// What it holds resident at this moment, in KiB.
    pub rss_kib: u64,
}

impl Usage {
    /// Reads it; an error if there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let odd = || io::Error::other(format!("/proc/{pid}: unexpected format"));
        let ticks = cpu_ticks(&stat).ok_or_else(odd)?;
        let cpu = Duration::from_millis(ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1));
        Ok(Self {
            cpu,
            peak_rss_kib: kib(&status, "VmHWM:").unwrap_or(0),
            rss_kib: kib(&status, "VmRSS:").unwrap_or(0),
        })
    }
}

/// `utime + stime` of `/proc/PID/stat`: fields 14 and 15, counted after the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// A line of `/proc/PID/status`.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// What a process used for the measured requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessUse {
    /// The process id.
    pub pid: u32,
    /// CPU time during the measurement, all threads.
    pub cpu_s: f64,
    /// CPU time for each answered request, of all servers together.
    pub cpu_us_per_request: f64,
    /// CPU time / time: 1 is one core.
    pub cores: f64,
    /// The most memory it held resident, since it was started.
    pub peak_rss_mib: f64,
}

impl ProcessUse {
    /// From the CPU time during a measurement of `seconds` in which `requests` were answered.
    pub fn new(pid: u32, cpu: Duration, peak_rss_kib: u64, requests: u64, seconds: f64) -> Self {
        let cpu_s = cpu.as_secs_f64();
        Self {
            pid,
            cpu_s: num::rounded(cpu_s, 3),
            cpu_us_per_request: num::rounded(num::ratio(cpu_s * 1e6, num::fraction(requests)), 3),
            cores: num::rounded(num::ratio(cpu_s, seconds), 3),
            peak_rss_mib: num::rounded(num::fraction(peak_rss_kib) / 1_024.0, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_brackets() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(kib("Name:\ta\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2_048));
    }

    #[test]
    fn this_process() {
        let before = own_cpu();
        let usage = Usage::of(std::process::id()).expect("this process exists");
        assert!(usage.peak_rss_kib > 500, "{usage:?}");
        assert!(own_cpu() >= before);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
