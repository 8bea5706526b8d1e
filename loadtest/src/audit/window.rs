//! The fullest rolling window of one key.

use super::Admission;
use crate::clock::Nanos;

/// A window and the least it can have held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fullest {
    /// It begins just before this moment.
    pub begin: Nanos,
    /// Hits that were charged inside it, beyond doubt.
    pub hits: u64,
}

/// The window `(t, t + length]` that must have held the most hits.
///
/// An admission surely lies in a window only if both its beginning and its end do: the server decided somewhere in
/// between. So slow answers can hide an excess but never make one up. The fullest window can always be moved right until
/// it begins just before an admission, so only those are looked at, in one sweep: O(n log n).
///
/// `admissions` are of one key, sorted by their beginning.
pub fn fullest_window(admissions: &[Admission], length: Nanos) -> Fullest {
    let mut by_end: Vec<usize> = (0..admissions.len()).collect();
    by_end.sort_unstable_by_key(|index| admissions[*index].end);
    let mut entering = by_end.into_iter().peekable();
    let mut inside = vec![false; admissions.len()];
    let (mut leaving, mut hits, mut fullest) = (0, 0, Fullest::default());
    for first in admissions {
        // Those that began before the window are out of it, also if they have not ended yet.
        while admissions[leaving].begin < first.begin {
            if inside[leaving] {
                hits -= u64::from(admissions[leaving].hits);
            }
            leaving += 1;
        }
        // Ends before `begin + length`, as the window itself begins before `begin`.
        while let Some(index) = entering.next_if(|index| admissions[*index].end < first.begin + length) {
            if index >= leaving {
                inside[index] = true;
                hits += u64::from(admissions[index].hits);
            }
        }
        if hits > fullest.hits {
            fullest = Fullest {
                begin: first.begin,
                hits,
            };
        }
    }
    fullest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(begin: Nanos, end: Nanos, hits: u32) -> Admission {
        Admission {
            key: 0,
            hits,
            begin,
            end,
        }
    }

    fn sorted(mut admissions: Vec<Admission>) -> Vec<Admission> {
        admissions.sort_by_key(|admission| admission.begin);
        admissions
    }

    /// All windows with whole-numbered begins, straight from the definition.
    fn naive(admissions: &[Admission], length: Nanos) -> u64 {
        let last = admissions
            .iter()
            .map(|admission| admission.end)
            .max()
            .unwrap_or(0);
        let held = |start: Nanos| {
            // The window (start - 1/2, start - 1/2 + length], doubled to stay whole.
            let (from, to) = (2 * start, 2 * start + 2 * length);
            let inside = admissions
                .iter()
                .filter(|each| 2 * each.begin + 1 > from && 2 * each.end < to);
            inside.map(|each| u64::from(each.hits)).sum()
        };
        (0..=last).map(held).max().unwrap_or(0)
    }

    #[test]
    fn by_hand() {
        assert_eq!(fullest_window(&[], 1_000), Fullest::default());
        // Across the boundary of an aligned window.
        let across = [at(900, 910, 1), at(1_000, 1_010, 2), at(1_890, 1_899, 4)];
        assert_eq!(fullest_window(&across, 1_000), Fullest { begin: 900, hits: 7 });
        // Exactly one window apart is apart.
        assert_eq!(fullest_window(&[at(0, 0, 1), at(1_000, 1_000, 1)], 1_000).hits, 1);
        // The last may have been decided after the window, the first of the second case before it.
        assert_eq!(
            fullest_window(&[at(0, 10, 1), at(500, 510, 1), at(990, 1_000, 1)], 1_000).hits,
            2
        );
        assert_eq!(
            fullest_window(&[at(0, 600, 1), at(500, 510, 1), at(1_100, 1_110, 1)], 1_000).hits,
            2
        );
        // An answer that took longer than a window says nothing.
        assert_eq!(fullest_window(&[at(0, 5_000, 9)], 1_000).hits, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn like_the_naive_one(
            times in prop::collection::vec((0u64..300, 0u64..80, 1u32..5), 0..40),
            length in 1u64..150,
        ) {
            let admissions = times.into_iter().map(|(begin, took, hits)| at(begin, begin + took, hits));
            let admissions = sorted(admissions.collect());
            prop_assert_eq!(fullest_window(&admissions, length).hits, naive(&admissions, length));
        }

        /// A limiter that decides at one moment and keeps the promise is never accused.
        #[test]
        fn a_strict_limiter_passes(
            requests in prop::collection::vec((0u64..20, 0u64..30, 0u64..30, 1u32..4), 1..200),
            limit in 3u64..10,
            length in 20u64..100,
        ) {
            let (mut now, mut charged) = (100, Vec::<(Nanos, u32)>::new());
            let mut admissions = Vec::new();
            for (gap, before, after, hits) in requests {
                now += gap;
                let held = charged.iter().filter(|(at, _)| at + length > now);
                if held.map(|(_, hits)| u64::from(*hits)).sum::<u64>() + u64::from(hits) <= limit {
                    charged.push((now, hits));
                    admissions.push(at(now - before, now + after, hits));
                }
            }
            prop_assert!(fullest_window(&sorted(admissions), length).hits <= limit);
        }

        /// One hit too many in a window is found, if the answers were quick.
        #[test]
        fn a_broken_window_is_found(
            times in prop::collection::vec(0u64..10_000, 0..100),
            start in 0u64..9_000,
            limit in 1usize..10,
        ) {
            let length = 1_000;
            let gap = (length - 50) / limit as u64;
            let excess = (0..=limit as u64).map(|index| start + index * gap);
            let admissions = times.into_iter().chain(excess).map(|begin| at(begin, begin + 40, 1)).collect();
            prop_assert!(fullest_window(&sorted(admissions), length).hits > limit as u64);
        }
    }
}
