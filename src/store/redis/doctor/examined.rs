//! A report in a line, and how old it is: what a process that serves keeps of its examinations.

use std::fmt;

use super::report::{Check, Level, Report};
use crate::clock::Clock;
use crate::limiter::Micros;

/// Checks and characters of each in a summary.
const SUMMARY_CHECKS: usize = 3;
const SUMMARY_CHARS: usize = 80;

impl Check {
    /// Its name and the beginning of what was found.
    fn short(&self) -> String {
        let block = self.block.map(|block| format!("{block} ")).unwrap_or_default();
        let mut found: String = self.found.chars().take(SUMMARY_CHARS).collect();
        if found.len() < self.found.len() {
            found.push('…');
        }
        format!("{block}{}: {found}", self.check)
    }
}

impl Report {
    /// All of it in a line: the numbers, and what is not ok.
    #[must_use]
    pub fn summary(&self) -> String {
        let of = |level: Level| {
            let checks: Vec<&Check> = self.checks.iter().filter(|check| check.level == level).collect();
            let mut texts: Vec<String> = checks
                .iter()
                .take(SUMMARY_CHECKS)
                .map(|check| check.short())
                .collect();
            if checks.len() > SUMMARY_CHECKS {
                texts.push(format!("{} more", checks.len() - SUMMARY_CHECKS));
            }
            let inside = if texts.is_empty() {
                String::new()
            } else {
                format!(" ({})", texts.join("; "))
            };
            format!("{}{inside}", self.counted(level))
        };
        let ok = self.count(Level::Ok);
        format!("{ok} ok, {}, {}", of(Level::Warning), of(Level::Problem))
    }
}

/// The last report of a process that serves.
#[derive(Clone, Debug)]
pub struct Examined {
    report: Report,
    at: Micros,
    clock: Clock,
}

impl Examined {
    /// A report as of now.
    #[must_use]
    pub fn now(report: Report, clock: &Clock) -> Self {
        Self {
            report,
            at: clock.now_us(),
            clock: clock.clone(),
        }
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// [`Report::summary`], and how long ago that was.
impl fmt::Display for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.clock.now_us().saturating_sub(self.at) / 1_000_000;
        write!(f, "{}, {age} s ago", self.report.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::in_block;
    use super::*;

    #[test]
    fn a_summary_is_a_line_however_much_was_found() {
        let mut checks = vec![
            Check::ok("role", "primary"),
            Check::warning("eviction", "allkeys-lru", "set it"),
        ];
        let clock = Clock::manual(1_000_000);
        let examined = Examined::now(Report::new(checks.clone()), &clock);
        clock.set(13_900_000);
        assert_eq!(
            examined.to_string(),
            "1 ok, 1 warning (eviction: allkeys-lru), 0 problems, 12 s ago"
        );
        checks.extend((0..9).map(|_| Check::problem("keys", "ä".repeat(500), "see")));
        let summary = Report::new(in_block(checks, true)).summary();
        assert!(
            summary.contains("1 warning (redis.per_second eviction: ") && summary.ends_with("…; 6 more)"),
            "{summary}"
        );
        assert!(summary.chars().count() < 500 && !summary.contains('\n'));
    }
}
