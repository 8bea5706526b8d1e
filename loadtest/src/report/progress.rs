//! A bar on a terminal, nothing elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::measure::Series;

/// How far the run is.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for a run of this length, on the standard error if that is a terminal.
    pub fn new(length: Duration) -> Self {
        if !stderr().is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// So much has passed; the message is the newest second's.
    pub fn show(&self, passed: Duration, series: &Series) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar
            .set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        if let Some(second) = series.newest() {
            let counts = &second.counts;
            let bad = counts.errors + counts.unanswered;
            self.bar.set_message(format!(
                "{} ok, {} over, {bad} bad /s",
                counts.ok, counts.over_limit
            ));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
