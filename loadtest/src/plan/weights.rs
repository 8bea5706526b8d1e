//! How many hits the next request asks for.

use std::str::FromStr;

use rand::{Rng, RngExt};

/// The request's `hits_addend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Left out of the request, which means 1.
    Unset,
    /// From the first to the second, evenly.
    Range(u32, u32),
}

impl Weights {
    /// What to put into the request.
    pub fn draw(self, random: &mut impl Rng) -> Option<u32> {
        match self {
            Self::Unset => None,
            Self::Range(min, max) if min == max => Some(min),
            Self::Range(min, max) => Some(random.random_range(min..=max)),
        }
    }
}

impl FromStr for Weights {
    type Err = String;

    /// `5`, or `1-10`. 0 is refused: the API takes it for 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if 1 <= min && min <= max => Ok(Self::Range(min, max)),
            _ => Err(format!(
                "{text}: expected HITS or MIN-MAX, each from 1 to {}",
                u32::MAX
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn ranges_are_inclusive() {
        let mut random = SmallRng::seed_from_u64(1);
        let weights: Weights = "2-4".parse().expect("valid");
        let mut seen = [false; 6];
        for _ in 0..200 {
            seen[weights.draw(&mut random).expect("a weight") as usize] = true;
        }
        assert_eq!(seen, [false, false, true, true, true, false]);
        assert_eq!(
            "7".parse::<Weights>().map(|weights| weights.draw(&mut random)),
            Ok(Some(7))
        );
        for bad in ["", "0", "0-3", "3-2", "-1", "1-", "x", "4294967296"] {
            assert!(bad.parse::<Weights>().is_err(), "{bad}");
        }
    }
}
