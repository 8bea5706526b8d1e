//! Machine, date, command: what a figure is worth depends on them.

use std::fs;

use crate::machine::{Machine, unix_ms};

/// The head of a report.
#[derive(Debug, Clone)]
pub struct Head {
    /// What was started.
    pub command: String,
    /// The machine in one line.
    pub machine: String,
    /// In UTC, to the minute.
    pub date: String,
    /// Load average when it began: above some 0.3 other work was in the way.
    pub busy: String,
    /// The caller's remark.
    pub note: Option<String>,
}

impl Head {
    /// Of this moment.
    pub fn read(note: Option<String>) -> Self {
        let machine = Machine::read();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let busy: Vec<_> = load.split(' ').take(3).collect();
        let words: Vec<_> = std::env::args_os().collect();
        let words = words.iter().enumerate().map(|(index, word)| match index {
            0 => "rk-compare".to_owned(),
            _ => quoted(&word.to_string_lossy()),
        });
        Self {
            command: words.collect::<Vec<_>>().join(" "),
            machine: format!(
                "{}, {} cores, {} GiB, Linux {}",
                machine.cpu_model,
                machine.cores,
                machine.memory_mib.div_ceil(1_024),
                machine.kernel
            ),
            date: date(unix_ms() / 1_000),
            busy: busy.join(" "),
            note,
        }
    }

    /// Names and values.
    pub fn lines(&self) -> Vec<(&'static str, &str)> {
        let mut lines = vec![
            ("machine", self.machine.as_str()),
            ("date", &self.date),
            ("command", &self.command),
            ("load average at the start", &self.busy),
        ];
        if let Some(note) = &self.note {
            lines.push(("note", note));
        }
        lines
    }
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '{', '$', '*']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

/// Seconds of the Unix epoch as `2026-11-20 20:30 UTC`.
///
/// Days to a civil date as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(seconds: u64) -> String {
    let (days, in_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        in_day / 3_600,
        in_day / 60 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_795_206_600), "2026-11-20 20:30 UTC");
    }
}
