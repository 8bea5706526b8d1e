//! What was found, for people and as data.

use std::fmt;

use serde::Serialize;

/// The checks that all others depend on: of a server, of sentinels, of a cluster's nodes.
pub(super) const CONNECTION: &str = "connection";
pub(super) const SENTINELS: &str = "sentinels";
pub(super) const NODES: &str = "nodes";

/// The two that there may be.
const MAIN: &str = "redis";
const PER_SECOND: &str = "redis.per_second";

/// Names of settings, each with that for limits of one second. A name comes before the ones that it begins with.
const SETTINGS: &[(&str, &str)] = &[
    ("redis.op_timeout", "redis.per_second.op_timeout"),
    ("REDIS_OP_TIMEOUT", "REDIS_PERSECOND_OP_TIMEOUT"),
    ("redis.timeout", "redis.per_second.timeout"),
    ("REDIS_TIMEOUT", "REDIS_PERSECOND_TIMEOUT"),
    ("redis.sentinel_auth", "redis.per_second.sentinel_auth"),
    ("REDIS_SENTINEL_AUTH", "REDIS_PERSECOND_SENTINEL_AUTH"),
    ("redis.auth", "redis.per_second.auth"),
    ("REDIS_AUTH", "REDIS_PERSECOND_AUTH"),
    ("redis.type", "redis.per_second.type"),
    ("REDIS_TYPE", "REDIS_PERSECOND_TYPE"),
    ("redis.url", "redis.per_second.url"),
    ("REDIS_URL", "REDIS_PERSECOND_URL"),
];

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
    /// Which Redis was looked at, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<&'static str>,
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
            block: None,
            check,
            level: Level::Ok,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            block: None,
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

/// The checks of one of two, with the settings' names that it has.
pub(super) fn in_block(mut checks: Vec<Check>, per_second: bool) -> Vec<Check> {
    for check in &mut checks {
        check.block = Some(if per_second { PER_SECOND } else { MAIN });
        for text in check
            .advice
            .iter_mut()
            .chain([&mut check.found])
            .filter(|_| per_second)
        {
            for (name, other) in SETTINGS {
                *text = text.replace(name, other);
            }
        }
    }
    checks
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

    /// Whether all could be reached, so that there is more than a word about the connection.
    #[must_use]
    pub fn reached(&self) -> bool {
        let first = |check: &Check| [CONNECTION, SENTINELS, NODES].contains(&check.check);
        !self
            .checks
            .iter()
            .any(|check| first(check) && check.level == Level::Problem)
    }

    /// How many checks are on a level that is not ok, in words.
    pub(super) fn counted(&self, level: Level) -> String {
        let count = self.count(level);
        format!("{count} {}{}", level.name(), if count == 1 { "" } else { "s" })
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.checks.iter().filter(|check| check.level == level).count()
    }
}

/// A line a check, what to do below it, and a line with the numbers.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.checks.iter().map(|check| check.check.len()).max();
        let width = widest.unwrap_or(0);
        let mut block = None;
        for check in &self.checks {
            if check.block != block {
                block = check.block;
                writeln!(f, "{}", block.unwrap_or_default())?;
            }
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
        let (warnings, problems) = (self.counted(Level::Warning), self.counted(Level::Problem));
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
    fn two_have_blocks_and_names_of_their_own() {
        let checks = || {
            vec![
                Check::ok("role", "primary"),
                Check::warning(
                    "x",
                    "redis.op_timeout",
                    "redis.url (REDIS_URL), see docs/redis.md",
                ),
            ]
        };
        let all = [in_block(checks(), false), in_block(checks(), true)].concat();
        let report = Report::new(all);
        let lines = [
            "redis",
            "ok       role  primary",
            "warning  x     redis.op_timeout",
            "               -> redis.url (REDIS_URL), see docs/redis.md",
            "redis.per_second",
            "ok       role  primary",
            "warning  x     redis.per_second.op_timeout",
            "               -> redis.per_second.url (REDIS_PERSECOND_URL), see docs/redis.md",
            "2 ok, 2 warnings, 0 problems",
        ];
        assert_eq!(report.to_string(), lines.join("\n") + "\n");
        let data = serde_json::to_value(&report).expect("plain data");
        assert_eq!(data["checks"][2]["block"], "redis.per_second");
    }

    #[test]
    fn what_was_not_reached_is_known() {
        for name in [CONNECTION, SENTINELS, NODES] {
            assert!(!Report::new(vec![Check::problem(name, "gone", "see")]).reached());
            assert!(Report::new(vec![Check::warning(name, "one is gone", "see")]).reached());
        }
        assert!(Report::new(vec![Check::problem("role", "replica", "see")]).reached());
        assert!(Report::of_memory().reached());
    }

    #[test]
    fn the_worst_check_is_the_result() {
        assert_eq!(Report::of_memory().result, Level::Ok);
        let worst = Report::new(vec![Check::problem("a", "b", "c"), Check::ok("d", "e")]);
        assert_eq!(worst.result, Level::Problem);
    }
}
