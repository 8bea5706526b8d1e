//! Texts by their common beginnings, or ends: finds all of a set that a text begins (or ends) with in one walk along it.
//!
//! A radix tree: what only one text goes through is one node. A walk costs by the length of the text and the branches on its way,
//! not by the number of texts in the set.

/// A set of texts with a value each. `BACKWARD`: texts are compared from their ends.
#[derive(Debug)]
pub(super) struct Trie<T, const BACKWARD: bool> {
    /// The root is the first one, with an empty label.
    nodes: Vec<TrieNode<T>>,
}

#[derive(Debug)]
struct TrieNode<T> {
    /// The bytes between the node above and this one, in the direction of the walk.
    label: Box<[u8]>,
    /// The nodes below by the first byte of their labels, sorted.
    children: Vec<(u8, u32)>,
    /// Of the text that ends here.
    value: Option<T>,
}

impl<T> TrieNode<T> {
    fn new(label: &[u8]) -> Self {
        Self {
            label: label.into(),
            children: Vec::new(),
            value: None,
        }
    }

    fn child(&self, first: u8) -> Result<u32, usize> {
        self.children
            .binary_search_by_key(&first, |(byte, _)| *byte)
            .map(|place| self.children[place].1)
    }
}

impl<T, const BACKWARD: bool> Default for Trie<T, BACKWARD> {
    fn default() -> Self {
        Self {
            nodes: vec![TrieNode::new(&[])],
        }
    }
}

impl<T: Default, const BACKWARD: bool> Trie<T, BACKWARD> {
    /// The value of a text, which is added if it is not there.
    pub(super) fn entry(&mut self, text: &str) -> &mut T {
        let mut bytes = text.as_bytes().to_vec();
        if BACKWARD {
            bytes.reverse();
        }
        let mut rest = bytes.as_slice();
        let mut at = 0;
        while let Some(first) = rest.first() {
            at = match self.nodes[at].child(*first) {
                Ok(child) => {
                    let label = &self.nodes[child as usize].label;
                    let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    rest = &rest[common..];
                    if common < label.len() {
                        self.split(at, child, common)
                    } else {
                        child as usize
                    }
                }
                Err(place) => {
                    let leaf = self.push(TrieNode::new(rest));
                    self.nodes[at].children.insert(place, (*first, leaf));
                    rest = &[];
                    leaf as usize
                }
            };
        }
        self.nodes[at].value.get_or_insert_with(T::default)
    }

    /// Puts a node after the first `common` bytes of a child's label, and returns it.
    fn split(&mut self, parent: usize, child: u32, common: usize) -> usize {
        let label = std::mem::take(&mut self.nodes[child as usize].label);
        let middle = self.push(TrieNode::new(&label[..common]));
        self.nodes[middle as usize].children.push((label[common], child));
        self.nodes[child as usize].label = label[common..].into();
        if let Ok(place) = self.nodes[parent]
            .children
            .binary_search_by_key(&label[0], |(byte, _)| *byte)
        {
            self.nodes[parent].children[place].1 = middle;
        }
        middle as usize
    }

    fn push(&mut self, node: TrieNode<T>) -> u32 {
        self.nodes.push(node);
        // A policy has fewer characters than that.
        u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
    }

    /// Gives `found` the values of all texts that `text` begins (or ends) with, the shortest first.
    pub(super) fn walk<'t>(&'t self, text: &[u8], mut found: impl FnMut(&'t T)) {
        let mut rest = text;
        let mut at = &self.nodes[0];
        loop {
            if let Some(value) = &at.value {
                found(value);
            }
            let first = if BACKWARD { rest.last() } else { rest.first() };
            let Some(Ok(child)) = first.map(|first| at.child(*first)) else {
                return;
            };
            at = &self.nodes[child as usize];
            let length = at.label.len();
            if length > rest.len() {
                return;
            }
            let same;
            (same, rest) = if BACKWARD {
                let (before, end) = rest.split_at(rest.len() - length);
                (end.iter().rev().eq(at.label.iter()), before)
            } else {
                let (begin, after) = rest.split_at(length);
                (*begin == *at.label, after)
            };
            if !same {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn finds_what_trying_everything_finds(
            texts in proptest::collection::vec("[ab]{0,5}", 0..8),
            text in "[ab]{0,7}",
        ) {
            let mut forward: Trie<Vec<usize>, false> = Trie::default();
            let mut backward: Trie<Vec<usize>, true> = Trie::default();
            for (at, known) in texts.iter().enumerate() {
                forward.entry(known).push(at);
                backward.entry(known).push(at);
            }
            let (mut begins, mut ends): (Vec<usize>, Vec<usize>) = Default::default();
            forward.walk(text.as_bytes(), |found| begins.extend(found));
            backward.walk(text.as_bytes(), |found| ends.extend(found));
            begins.sort_unstable();
            ends.sort_unstable();
            let all = |holds: &dyn Fn(&str) -> bool| -> Vec<usize> {
                (0..texts.len()).filter(|at| holds(&texts[*at])).collect()
            };
            proptest::prop_assert_eq!(begins, all(&|known| text.starts_with(known)));
            proptest::prop_assert_eq!(ends, all(&|known| text.ends_with(known)));
        }
    }
}
