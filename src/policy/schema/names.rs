//! The words of a policy file that are one of a few.

use std::fmt;

pub use crate::descriptor::Unit;
pub use crate::limiter::OnStoreError;

/// How a limit is counted, where the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Never more than the limit in any window.
    SlidingWindow,
    /// The reference server's windows, aligned to the epoch.
    FixedWindow,
    /// A steady rate and a burst.
    TokenBucket,
}

/// Who counts a limit together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All instances.
    #[default]
    Global,
    /// Each instance alone, always as a token bucket.
    Local,
}

/// Which hits a limit is charged with, where the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChargeRule {
    /// Admitted hits, and explicit hits in full.
    Auto,
    /// Admitted hits only.
    Admitted,
    /// All hits, denied ones too.
    Always,
}

/// A word that stands for a value, as it is written in a policy file.
pub(super) trait Named: Copy + 'static {
    /// All words, with what they stand for.
    const WORDS: &'static [(&'static str, Self)];

    /// What `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|&(_, value)| value)
    }
}

impl Named for Algorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("sliding_window", Self::SlidingWindow),
        ("fixed_window", Self::FixedWindow),
        ("token_bucket", Self::TokenBucket),
    ];
}

impl Named for Scope {
    const WORDS: &'static [(&'static str, Self)] = &[("global", Self::Global), ("local", Self::Local)];
}

/// [`OnStoreError::Strict`] has no word: it is a key of its own.
impl Named for OnStoreError {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("local", Self::Local),
        ("allow", Self::Allow),
        ("deny", Self::Deny),
    ];
}

impl Named for ChargeRule {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("admitted", Self::Admitted),
        ("always", Self::Always),
    ];
}

/// Displays `, did you mean 'x'?` if a candidate is close to what was written, else nothing.
pub(super) struct DidYouMean<'a, I>(pub &'a str, pub I);

impl<I: Iterator<Item = &'static str> + Clone> fmt::Display for DidYouMean<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(written, candidates) = self;
        // Longer words than any candidate and its typing errors need not be measured.
        if written.len() > 32 {
            return Ok(());
        }
        let measured = candidates.clone().map(|name| (distance(written, name), name));
        match measured.min_by_key(|&(distance, _)| distance) {
            Some((distance, name)) if distance <= 1 + name.len() / 5 => write!(f, ", did you mean '{name}'?"),
            _ => Ok(()),
        }
    }
}

/// How many characters must be inserted, removed or replaced to make `b` of `a`, which may differ in case
/// (Wagner and Fischer 1974, keeping one row).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
