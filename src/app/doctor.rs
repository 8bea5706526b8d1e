//! The examination that `ratekeeper doctor` prints, and that `serve` repeats while it serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::deployments;
use crate::admin::Health;
use crate::clock::Clock;
use crate::descriptor::KeyEncoder;
use crate::settings::Settings;
use crate::store::redis::deployment::{Deployment, Listed};
pub use crate::store::redis::doctor::{Check, Level, Report};
use crate::store::redis::doctor::{Effort, Examined, Subject, examine as examine_all};

/// How often the store is examined while it is used.
const EVERY: Duration = Duration::from_secs(300);
/// The same while something could not be reached.
const SOONER: Duration = Duration::from_secs(30);
/// The longest pause before the first time, so that instances that start together do not come together.
const FIRST: Duration = Duration::from_secs(1);
/// More than an examination takes.
const WITHIN: Duration = Duration::from_secs(12);

/// Examines the store that these settings name, as `serve` would reach it. Ends within 10 s.
///
/// # Errors
/// Settings that `serve` refuses, too.
pub fn examine(settings: &Settings) -> anyhow::Result<Report> {
    let subjects = subjects(settings)?;
    if subjects.is_empty() {
        return Ok(Report::of_memory());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(examine_all(&subjects, Effort::THOROUGH, &Clock::system()));
    // A look-up of a name that still blocks must not keep the process.
    runtime.shutdown_background();
    Ok(report)
}

/// What there is to examine: nothing where counters live in memory.
///
/// # Errors
/// Addresses that are none, files that can't be used, a prefix that no key can have.
pub(super) fn subjects(settings: &Settings) -> anyhow::Result<Vec<Subject>> {
    let prefix = settings.redis.key_prefix.as_deref().unwrap_or_default();
    KeyEncoder::new(prefix).map_err(anyhow::Error::msg)?;
    let redis = &settings.redis;
    let mut subjects = Vec::new();
    if let Some(listed) = deployments::main(settings) {
        subjects.push(Subject {
            deployment: checked(&listed)?,
            per_second: false,
            prefix: prefix.to_owned(),
            op_timeout: redis.op_timeout,
            connect_timeout: redis.timeout,
        });
    }
    if let (Some(listed), Some(second)) = (deployments::per_second(settings), &redis.per_second) {
        subjects.push(Subject {
            deployment: checked(&listed).context("redis.per_second")?,
            per_second: true,
            prefix: prefix.to_owned(),
            op_timeout: second.op_timeout,
            connect_timeout: second.timeout,
        });
    }
    Ok(subjects)
}

fn checked(listed: &Listed) -> anyhow::Result<Deployment> {
    let deployment = Deployment::of(listed)?;
    deployment.check()?;
    Ok(deployment)
}

/// Examines the store soon and then again and again, on the current runtime, over connections of its own. The last report is
/// shown by `health`; what is new in it is logged. Ends at once where there is nothing to examine, else never.
pub(super) async fn keep_examining(subjects: Vec<Subject>, clock: Clock, health: Arc<Health>) {
    if subjects.is_empty() {
        return;
    }
    let (mut levels, mut first) = (Levels::default(), true);
    let mut pause = part_of(FIRST);
    loop {
        tokio::time::sleep(pause).await;
        let examination = examine_all(&subjects, Effort::LIGHT, &clock);
        match tokio::time::timeout(WITHIN, examination).await {
            Ok(report) => {
                if first {
                    tracing::info!("redis examined: {}", report.summary());
                    first = false;
                }
                levels.changed(&report).into_iter().for_each(log);
                let every = if report.reached() { EVERY } else { SOONER };
                pause = every + part_of(every / 10);
                health.set_examined(Examined::now(report, &clock));
            }
            Err(_) => {
                tracing::warn!(within = ?WITHIN, "redis could not be examined in time");
                pause = SOONER + part_of(SOONER / 10);
            }
        }
    }
}

/// What was found last, by check, so that nothing is said twice.
#[derive(Debug, Default)]
struct Levels(BTreeMap<(Option<&'static str>, &'static str), Level>);

impl Levels {
    /// The checks whose level is another one than before; at first those that are not ok.
    fn changed<'a>(&mut self, report: &'a Report) -> Vec<&'a Check> {
        let mut changed = Vec::new();
        for check in &report.checks {
            // What could not be seen this time is as it was: its entry stays.
            let before = self.0.insert((check.block, check.check), check.level);
            if before.unwrap_or(Level::Ok) != check.level {
                changed.push(check);
            }
        }
        changed
    }
}

fn log(check: &Check) {
    let Check {
        check: name, found, ..
    } = check;
    let redis = check.block.unwrap_or("redis");
    let advice = check.advice.as_deref().unwrap_or_default();
    match check.level {
        Level::Ok => tracing::info!(redis, "doctor: {name} is ok now: {found}"),
        Level::Warning => tracing::warn!(redis, advice, "doctor: {name}: {found}"),
        Level::Problem => tracing::error!(redis, advice, "doctor: {name}: {found}"),
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    use std::hash::BuildHasher as _;
    let random = std::hash::RandomState::new().hash_one(0) % 1_024;
    time.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(checks: &[(&'static str, Level)]) -> Report {
        let checks = checks.iter().map(|(check, level)| Check {
            block: None,
            check,
            level: *level,
            found: "found".to_owned(),
            advice: None,
        });
        Report {
            result: Level::Ok,
            checks: checks.collect(),
        }
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let mut levels = Levels::default();
        let mut said = |checks: &[(&'static str, Level)]| {
            let report = report(checks);
            let changed = levels.changed(&report).into_iter().map(|check| check.check);
            changed.collect::<Vec<_>>()
        };
        let (fine, bad) = (("role", Level::Ok), ("memory", Level::Warning));
        assert_eq!(said(&[fine, bad]), ["memory"]);
        assert!(said(&[fine, bad]).is_empty());
        assert_eq!(said(&[("connection", Level::Problem)]), ["connection"]);
        // What could not be seen meanwhile is as it was.
        assert_eq!(said(&[("connection", Level::Ok), fine, bad]), ["connection"]);
        assert_eq!(said(&[fine, ("memory", Level::Problem)]), ["memory"]);
        assert_eq!(said(&[fine, ("memory", Level::Ok)]), ["memory"]);
    }

    #[test]
    fn pauses_are_jittered_and_bounded() {
        for _ in 0..100 {
            assert!(part_of(EVERY) < EVERY);
        }
        let some: std::collections::BTreeSet<_> = (0..100).map(|_| part_of(EVERY)).collect();
        assert!(some.len() > 10, "{some:?}");
    }
}
