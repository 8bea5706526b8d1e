//! Rules of one level that no request can meet, because a wildcard takes all that they match.
//!
//! On a level the first wildcard that matches wins, and any wildcard wins over a rule without a value. Only what is
//! certain is reported.

use crate::policy::diagnostic::{Place, Quoted, Report};

/// The most wildcards of a level that others are compared with, so that a level costs its number of rules only.
const COMPARED_MAX: usize = 256;

/// Stands for any text that a wildcard matches; no pattern can hold it, since patterns with it are left out.
const ANY: &str = "\0";

/// A rule of the level.
pub(super) struct Pattern {
    /// `key` or `key_value`.
    pub composite: String,
    /// Whether it has no value.
    pub key_only: bool,
    pub place: Place,
}

/// The rules of a level which wildcards may hide, and the wildcards.
#[derive(Default)]
pub(super) struct Level {
    wildcards: Vec<Pattern>,
    key_only: Vec<Pattern>,
}

impl Level {
    /// Adds the next rule of the level.
    pub fn add(&mut self, pattern: Pattern) {
        if pattern.composite.contains(ANY) {
            return;
        }
        if pattern.composite.contains('*') {
            self.wildcards.push(pattern);
        } else if pattern.key_only && !pattern.composite.contains('_') {
            // A key with an underscore can also be met as a key and its value, which comes before wildcards.
            self.key_only.push(pattern);
        }
    }

    /// Warns of every rule that is hidden.
    pub fn report_unreachable(&self, report: &mut Report<'_>) {
        let first = &self.wildcards[..self.wildcards.len().min(COMPARED_MAX)];
        let split: Vec<Vec<&str>> = first
            .iter()
            .map(|pattern| pattern.composite.split('*').collect())
            .collect();
        for (at, pattern) in self.wildcards.iter().enumerate() {
            // With a text of its own in place of each `*`, only a `*` can match what stands for any text: then every
            // text of this pattern is one of the other, too.
            let sample = pattern.composite.replace('*', ANY);
            let earlier = &split[..at.min(split.len())];
            if let Some(hides) = earlier.iter().position(|parts| matches(parts, &sample)) {
                warn(report, pattern, &first[hides], "comes first and");
            }
        }
        for pattern in &self.key_only {
            let sample = format!("{}_{ANY}", pattern.composite);
            // The empty value is looked up as `key_`.
            let empty = format!("{}_", pattern.composite);
            if let Some(hides) = split
                .iter()
                .position(|parts| matches(parts, &sample) && matches(parts, &empty))
            {
                warn(
                    report,
                    pattern,
                    &first[hides],
                    "comes before rules without a value and",
                );
            }
        }
    }
}

fn warn(report: &mut Report<'_>, hidden: &Pattern, hides: &Pattern, why: &str) {
    let line = hides.place.line;
    let (hidden_key, hides) = (Quoted(&hidden.composite), Quoted(&hides.composite));
    report.warning(
        hidden.place,
        format_args!("{hidden_key} is never reached: {hides} on line {line} {why} matches all that it does"),
    );
}

/// Whether `text` matches the pattern whose parts between the `*` are `parts`.
fn matches(parts: &[&str], text: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return parts == [text];
    };
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}
