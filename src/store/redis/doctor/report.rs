//! What was found, for people and as data.

use std::fmt;

use serde::Serialize;

/// The check that all others depend on.
pub(super) const CONNECTION: &str = "connection";

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Limits hold now; something makes them hold less, or slower, later. Also what could not be seen.
    Warning,
    /// Limits are not counted in this server, or would be lost.
    Problem,
}

impl Level {
    /// Its name, as in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is, a word or two.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; there is none for what is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Warning,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    pub(super) fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            ..Self::warning(check, found, advice)
        }
    }
}

/// All checks, in an order that puts causes before what follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst level.
    pub result: Level,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let result = checks.iter().map(|check| check.level).max();
        Self {
            result: result.unwrap_or(Level::Ok),
            checks,
        }
    }

    /// The report of a process that keeps its counters in memory.
    #[must_use]
    pub fn of_memory() -> Self {
        let found = "memory: redis.url is not set, so each instance counts for itself";
        Self::new(vec![Check::ok("store", found)])
    }

    /// Whether the server could be reached, so that there is more than a word about the connection.
    #[must_use]
    pub fn reached(&self) -> bool {
        let connection = self.checks.iter().find(|check| check.check == CONNECTION);
        connection.is_none_or(|check| check.level == Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.checks.iter().filter(|check| check.level == level).count()
    }
}

/// A line a check, what to do below it, and a line with the numbers.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.checks.iter().map(|check| check.check.len()).max();
        let width = widest.unwrap_or(0);
        for check in &self.checks {
            writeln!(
                f,
                "{:<7}  {:<width$}  {}",
                check.level.name(),
                check.check,
                check.found
            )?;
            if let Some(advice) = &check.advice {
                writeln!(f, "{:<7}  {:<width$}  -> {advice}", "", "")?;
            }
        }
        let counted = |level: Level, word: &str| {
            let count = self.count(level);
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        let (warnings, problems) = (
            counted(Level::Warning, "warning"),
            counted(Level::Problem, "problem"),
        );
        writeln!(f, "{} ok, {warnings}, {problems}", self.count(Level::Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_and_data_has_all_of_it() {
        let report = Report::new(vec![
            Check::ok("role", "primary"),
            Check::warning("eviction", "allkeys-lru", "set it"),
        ]);
        let lines = [
            "ok       role      primary",
            "warning  eviction  allkeys-lru",
            "                   -> set it",
            "1 ok, 1 warning, 0 problems",
        ];
        assert_eq!(report.to_string(), lines.join("\n") + "\n");
        assert_eq!(
            serde_json::to_value(&report).expect("plain data"),
            serde_json::json!({"result": "warning", "checks": [
                {"check": "role", "level": "ok", "found": "primary"},
                {"check": "eviction", "level": "warning", "found": "allkeys-lru", "advice": "set it"},
            ]})
        );
    }

    #[test]
    fn the_worst_check_is_the_result() {
        assert_eq!(Report::of_memory().result, Level::Ok);
        let worst = Report::new(vec![Check::problem("a", "b", "c"), Check::ok("d", "e")]);
        assert_eq!(worst.result, Level::Problem);
    }
}
