//! The patterns of one level: the first one, in the files' order, that a text matches.
//!
//! They are found by what stands before their first `*`, and among those by what stands behind their last one. So a look-up costs
//! by the length of the text. Only patterns that have both in common are tried one after the other.

use super::pattern::Pattern;
use super::trie::Trie;

/// Places of patterns in the level's order, ascending.
type Places = Vec<u32>;

/// The patterns of one level.
#[derive(Debug, Default)]
pub(super) struct Wildcards {
    /// In the files' order, with the node that each leads to.
    patterns: Vec<(Pattern, u32)>,
    by_prefix: Trie<Trie<Places, true>, false>,
}

impl Wildcards {
    /// Adds a pattern behind the others.
    pub(super) fn push(&mut self, pattern: Pattern, node: u32) {
        let place = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
        self.by_prefix
            .entry(pattern.prefix())
            .entry(pattern.suffix())
            .push(place);
        self.patterns.push((pattern, node));
    }

    /// The node of the first pattern that matches.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        let mut first = u32::MAX;
        self.by_prefix.walk(text.as_bytes(), |by_suffix| {
            by_suffix.walk(text.as_bytes(), |places| {
                let earlier = places.iter().take_while(|place| **place < first);
                let matching = |place: &&u32| self.patterns[**place as usize].0.matches_between(text);
                if let Some(place) = earlier.copied().find(|place| matching(&place)) {
                    first = place;
                }
            });
        });
        self.patterns.get(first as usize).map(|(_, node)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_first_in_the_files_order_wins(
            patterns in proptest::collection::vec("[ab]{0,3}\\*[ab*]{0,4}", 0..12),
            text in "[ab]{0,8}",
        ) {
            let mut level = Wildcards::default();
            let mut expected = None;
            for (at, written) in (0..).zip(&patterns) {
                let pattern = Pattern::new(written).expect("a pattern with a star");
                if expected.is_none() && pattern.matches(&text) {
                    expected = Some(at);
                }
                level.push(pattern, at);
            }
            proptest::prop_assert_eq!(level.find(&text), expected);
        }
    }
}
