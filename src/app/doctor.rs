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
    let mut levels = Levels::default();
    let mut pause = part_of(FIRST);
    loop {
        tokio::time::sleep(pause).await;
        let examination = examine_all(&subjects, Effort::LIGHT, &clock);
        match tokio::time::timeout(WITHIN, examination).await {
            Ok(report) => {
                levels.log(&report);
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
struct Levels {
    before: Option<BTreeMap<(Option<&'static str>, &'static str), Level>>,
}

impl Levels {
    fn log(&mut self, report: &Report) {
        if self.before.is_none() {
            tracing::info!("redis examined: {}", report.summary());
        }
        let before = self.before.take().unwrap_or_default();
        for check in &report.checks {
            let level = before.get(&(check.block, check.check)).copied();
            if level.unwrap_or(Level::Ok) != check.level {
                log(check);
            }
        }
        let now = report.checks.iter();
        let mut now: BTreeMap<_, _> = now.map(|it| ((it.block, it.check), it.level)).collect();
        if !report.reached() {
            // What could not be seen this time is as it was.
            for (check, level) in before {
                now.entry(check).or_insert(level);
            }
        }
        self.before = Some(now);
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
