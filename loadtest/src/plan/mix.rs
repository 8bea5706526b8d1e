//! What kinds of requests there are, and how often each comes.

use rand::{Rng, RngExt};

use super::{Distribution, Keys, Template, Weights};

/// One kind of request.
#[derive(Debug, Clone)]
pub struct Kind {
    /// So many of all shares of the mix.
    pub share: u32,
    /// The requests' bytes.
    pub template: Template,
    /// How many keys.
    pub keys: u32,
    /// Which of them.
    pub distribution: Distribution,
    /// How many hits.
    pub weights: Weights,
}

/// Draws the next request's kind.
#[derive(Debug, Clone)]
pub struct Mix {
    kinds: Vec<(Kind, Keys)>,
    shares: u32,
}

impl Mix {
    /// The mix as one of `of` threads draws it. Kinds without a share never come.
    pub fn new(kinds: &[Kind], index: usize, of: usize) -> Self {
        let with_keys = |kind: &Kind| {
            let keys = Keys::new(kind.distribution, kind.keys).for_thread(index, of);
            (kind.clone(), keys)
        };
        Self {
            kinds: kinds.iter().map(with_keys).collect(),
            shares: kinds.iter().map(|kind| kind.share).sum(),
        }
    }

    /// The next request: its key, its hits and its bytes. `None` if there are no kinds.
    pub fn draw(&mut self, random: &mut impl Rng) -> Option<(u32, Option<u32>, bytes::Bytes)> {
        let mut ticket = if self.kinds.len() > 1 && self.shares > 0 {
            random.random_range(0..self.shares)
        } else {
            0
        };
        let drawn = self.kinds.iter_mut().find(|(kind, _)| {
            let hit = ticket < kind.share;
            ticket = ticket.saturating_sub(kind.share);
            hit
        });
        let (kind, keys) = drawn?;
        let key = keys.draw(random);
        let hits = kind.weights.draw(random);
        Some((key, hits, kind.template.message(key, hits)))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn kinds_come_by_their_shares() {
        let kind = |share, domain: &str| Kind {
            share,
            template: Template::new(domain, &[]),
            keys: 1,
            distribution: Distribution::One,
            weights: Weights::Unset,
        };
        let mut mix = Mix::new(&[kind(1, "a"), kind(0, "bb"), kind(3, "ccc")], 0, 1);
        let mut random = SmallRng::seed_from_u64(3);
        let mut counts = [0u32; 4];
        for _ in 0..10_000 {
            let (_, _, message) = mix.draw(&mut random).expect("there are kinds");
            counts[message.len() - 7] += 1; // 5 bytes of prefix, tag, length, domain
        }
        assert_eq!((counts[0], counts[2]), (0, 0), "{counts:?}");
        assert!((2_300..2_700).contains(&counts[1]), "{counts:?}");
        assert_eq!(counts[1] + counts[3], 10_000);
    }
}
