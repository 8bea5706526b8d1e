//! How many instances share the limits, and which of them this one is.
//!
//! Each instance puts its name on a list in the store once a second and reads the whole list ([`Membership`]). What came of it
//! is remembered here while the store is away ([`Instances`]), for that is when it is needed.
//!
//! Errors are made to the safe side: the number grows at once, and shrinks only when the list has stayed the same for
//! [`SETTLE_US`]; until then no instance takes a part of what can't be divided evenly.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limiter::Micros;

/// A name on the list that was not renewed for this long is of an instance that has ended: four missed heartbeats.
pub const STALE_US: Micros = 4_000_000;
/// A list that was the same for this long is what all instances have seen: each looks once a second.
pub const SETTLE_US: Micros = 3_000_000;
/// Answers further apart than this say nothing about the time between them.
const GAP_US: Micros = 2_500_000;

/// Where a number of instances comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A setting: the list was never read.
    Set,
    /// The list, which has changed a moment ago.
    Changing,
    /// The list.
    Counted,
}

/// The number of instances that share the limits, and this one's place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How many there are, at least 1.
    pub count: u32,
    /// This one's place in an order that all of them know, below `count`; `None` while they may not agree.
    pub rank: Option<u32>,
    /// Where `count` comes from.
    pub source: Source,
}

/// The last [`View`], which any thread may read.
#[derive(Debug)]
pub struct Instances {
    /// The count in the upper half; in the lower 0 as long as it is a setting, 1 while it changes, else the rank plus 2. In
    /// one word, because a count and a rank that are not of the same list would give too much.
    packed: AtomicU64,
}

impl Instances {
    /// What a setting says, until more is known.
    #[must_use]
    pub fn set_to(count: u32) -> Self {
        Self {
            packed: AtomicU64::new(u64::from(count.max(1)) << 32),
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> View {
        let packed = self.packed.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        let (rank, source) = match half(packed & u64::from(u32::MAX)) {
            0 => (None, Source::Set),
            1 => (None, Source::Changing),
            rank => (Some(rank - 2), Source::Counted),
        };
        View {
            count: half(packed >> 32),
            rank,
            source,
        }
    }

    /// Notes what the list says.
    pub fn note(&self, view: View) {
        let low = match (view.source, view.rank) {
            (Source::Set, _) => 0,
            (_, None) => 1,
            (_, Some(rank)) => u64::from(rank) + 2,
        };
        self.packed
            .store(u64::from(view.count.max(1)) << 32 | low, Ordering::Relaxed);
    }
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match self.source {
            Source::Set => "set",
            Source::Changing => "changing",
            Source::Counted => "counted",
        };
        write!(f, "instances: {} ({source})", self.count)
    }
}

/// What follows from the lists that one instance has read. No I/O and no clock here.
#[derive(Debug)]
pub struct Membership {
    own: String,
    count: u32,
    /// The last list that had settled, in order.
    settled: Vec<String>,
    /// The last list.
    listed: Vec<String>,
    listed_since: Micros,
    /// Since when answers have come without a gap, and the last one.
    answers: Option<(Micros, Micros)>,
}

impl Membership {
    /// An instance called `own`, one of `count` until a list says more.
    #[must_use]
    pub fn new(own: String, count: u32) -> Self {
        Self {
            own,
            count: count.max(1),
            settled: Vec::new(),
            listed: Vec::new(),
            listed_since: 0,
            answers: None,
        }
    }

    /// The name of this instance.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Takes in the list as it was at `server_now` of the store's clock, read at `now` of ours: names, and when each was
    /// renewed. Returns what follows, and the names to be removed.
    pub fn heard(
        &mut self,
        entries: Vec<(String, Micros)>,
        server_now: Micros,
        now: Micros,
    ) -> (View, Vec<String>) {
        let since = match self.answers {
            Some((since, last)) if now.saturating_sub(last) <= GAP_US => since,
            _ => {
                self.listed.clear();
                now
            }
        };
        self.answers = Some((since, now));
        // After a store that stood still every name is old, and each instance has to have had the time to renew its own.
        let may_forget = now.saturating_sub(since) >= STALE_US;
        let (gone, live): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(name, renewed)| {
            may_forget && *name != self.own && renewed.abs_diff(server_now) > STALE_US
        });
        let mut live: Vec<String> = live.into_iter().map(|(name, _)| name).collect();
        live.sort_unstable();
        let gone = gone.into_iter().map(|(name, _)| name).collect();
        (self.follow(live, now), gone)
    }

    /// Notes that the store did not answer. What is known stays as it is.
    pub fn missed(&mut self) {
        self.answers = None;
    }

    fn follow(&mut self, live: Vec<String>, now: Micros) -> View {
        if self.listed != live {
            self.listed.clone_from(&live);
            self.listed_since = now;
        }
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX).max(1);
        let rank = live.iter().position(|name| *name == self.own);
        if now.saturating_sub(self.listed_since) >= SETTLE_US {
            self.settled = live;
        }
        match rank.and_then(|rank| u32::try_from(rank).ok()) {
            Some(rank) if self.settled == self.listed => {
                self.count = count;
                View {
                    count,
                    rank: Some(rank),
                    source: Source::Counted,
                }
            }
            _ => {
                self.count = self.count.max(count);
                View {
                    count: self.count,
                    rank: None,
                    source: Source::Changing,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    /// The store's clock is another one.
    const AHEAD: Micros = 1_000 * SECOND;

    /// A list whose names were renewed so many seconds ago.
    fn list(names: &[(&str, Micros)], now: Micros) -> Vec<(String, Micros)> {
        names
            .iter()
            .map(|(name, ago)| ((*name).to_owned(), now + AHEAD - ago * SECOND))
            .collect()
    }

    /// The list, once a second, until the second `to`.
    fn beats(it: &mut Membership, names: &[(&str, Micros)], from: Micros, to: Micros) -> (u32, Option<u32>) {
        let mut last = (0, None);
        for second in from..=to {
            let now = second * SECOND;
            let (view, _) = it.heard(list(names, now), now + AHEAD, now);
            last = (view.count, view.rank);
        }
        last
    }

    const THREE: [(&str, Micros); 3] = [("c", 0), ("a", 1), ("b", 0)];

    #[test]
    fn a_view_is_what_was_noted() {
        let instances = Instances::set_to(0);
        let view = |count, rank, source| View { count, rank, source };
        assert_eq!(instances.view(), view(1, None, Source::Set));
        for noted in [
            view(7, None, Source::Changing),
            view(7, Some(0), Source::Counted),
            view(100_000, Some(99_999), Source::Counted),
        ] {
            instances.note(noted);
            assert_eq!(instances.view(), noted);
        }
    }

    #[test]
    fn more_count_at_once_and_ranks_when_all_agree() {
        let mut it = Membership::new("b".to_owned(), 2);
        assert_eq!(
            beats(&mut it, &[("b", 0)], 10, 10),
            (2, None),
            "the setting, first"
        );
        assert_eq!(beats(&mut it, &THREE, 11, 13), (3, None));
        assert_eq!(beats(&mut it, &THREE, 14, 14), (3, Some(1)));
    }

    #[test]
    fn fewer_count_when_the_list_has_settled() {
        let mut it = Membership::new("b".to_owned(), 1);
        assert_eq!(beats(&mut it, &THREE, 10, 20), (3, Some(1)));
        let two = [("b", 0), ("c", 0)];
        assert_eq!(beats(&mut it, &two, 21, 23), (3, None));
        assert_eq!(beats(&mut it, &two, 24, 24), (2, Some(0)));
    }

    #[test]
    fn names_that_are_not_renewed_are_forgotten() {
        let mut it = Membership::new("b".to_owned(), 1);
        beats(&mut it, &THREE, 10, 20);
        let now = 21 * SECOND;
        let (_, gone) = it.heard(list(&[("b", 0), ("c", 4), ("a", 5)], now), now + AHEAD, now);
        assert_eq!(gone, ["a"]);
    }

    /// A frozen store has old names only, a new one none: neither means that instances have ended.
    #[test]
    fn a_store_that_was_away_lowers_nothing() {
        let mut it = Membership::new("b".to_owned(), 1);
        beats(&mut it, &THREE, 10, 20);
        it.missed();
        let old = [("c", 20), ("a", 20), ("b", 0)];
        assert_eq!(
            beats(&mut it, &old, 40, 43),
            (3, Some(1)),
            "none is forgotten yet"
        );

        beats(&mut it, &THREE, 44, 50);
        it.missed();
        assert_eq!(beats(&mut it, &[("b", 0)], 60, 61), (3, None));
        let back = beats(&mut it, &THREE, 62, 62);
        assert_eq!(back, (3, Some(1)), "the list of before is back");
    }

    /// Nobody was there to miss a beat: the process itself stood still.
    #[test]
    fn an_instance_that_stood_still_forgets_nobody_at_once() {
        let mut it = Membership::new("b".to_owned(), 1);
        beats(&mut it, &THREE, 10, 20);
        assert_eq!(beats(&mut it, &[("b", 0)], 60, 62), (3, None));
    }
}
