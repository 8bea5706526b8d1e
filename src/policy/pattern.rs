//! `*` patterns over the text `key_value`.

/// A compiled pattern: `*` stands for any number of bytes, none included. A literal `*` can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    prefix: Box<str>,
    middle: Box<[Box<str>]>,
    suffix: Box<str>,
}

impl Pattern {
    /// Compiles a pattern; `None` if it holds no `*`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once('*')?;
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle
            .split('*')
            .filter(|part| !part.is_empty())
            .map(Box::from)
            .collect();
        Some(Self {
            prefix: prefix.into(),
            middle,
            suffix: suffix.into(),
        })
    }

    /// What stands before the first `*`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands behind the last `*`.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Whether the whole text matches. Prefix and suffix may not overlap; the parts between them are searched from the left,
    /// each at its first place, which finds a match whenever there is one.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        text.starts_with(&*self.prefix) && text.ends_with(&*self.suffix) && self.matches_between(text)
    }

    /// Whether a text matches that begins with the prefix and ends with the suffix.
    #[must_use]
    pub fn matches_between(&self, text: &str) -> bool {
        let end = text.len().saturating_sub(self.suffix.len());
        let Some(mut rest) = text.get(self.prefix.len()..end) else {
            return false;
        };
        for part in &self.middle {
            let Some(at) = rest.find(&**part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same question, answered by trying everything.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    #[test]
    fn table() {
        for (pattern, text, expected) in [
            ("path_/api/*", "path_/api/", true),
            ("path_/api/*", "path_/api/a/b", true),
            ("path_/api/*", "path_/apix", false),
            ("*_x", "_x", true),
            ("ab*ba", "aba", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("a**b", "ab", true),
        ] {
            let compiled = Pattern::new(pattern).expect("a pattern with a star");
            assert_eq!(compiled.matches(text), expected, "{pattern} on {text}");
        }
        assert_eq!(Pattern::new("plain"), None);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_trying_everything(pattern in "[ab*]{0,6}\\*[ab*]{0,6}", text in "[ab]{0,10}") {
            let compiled = Pattern::new(&pattern).expect("a pattern with a star");
            proptest::prop_assert_eq!(compiled.matches(&text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
