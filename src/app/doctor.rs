//! The examination that `ratekeeper doctor` prints.

use super::stores::Stores;
use crate::clock::Clock;
use crate::descriptor::KeyEncoder;
use crate::settings::Settings;
pub use crate::store::redis::doctor::{Check, Level, Report};

/// Examines the store that these settings name, as `serve` would reach it. Ends within 10 s.
///
/// # Errors
/// Settings that `serve` refuses, too.
pub fn examine(settings: &Settings) -> anyhow::Result<Report> {
    let prefix = settings.redis.key_prefix.as_deref().unwrap_or_default();
    KeyEncoder::new(prefix).map_err(anyhow::Error::msg)?;
    let stores = Stores::new(settings, &Clock::system(), 1)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(stores.examine(prefix));
    Ok(report.unwrap_or_else(Report::of_memory))
}
