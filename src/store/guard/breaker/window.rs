//! The outcomes of the last second, forgotten an eighth of a second at a time.

use crate::limiter::Micros;

/// Parts of the second.
const SLOTS: usize = 8;
/// The length of a part: the window reaches back between 7 and 8 of them, 0.875 to 1 s.
const SLOT_US: Micros = 125_000;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// Requests that were answered.
    pub succeeded: u32,
    /// Requests that were not.
    pub failed: u32,
    /// Moments in which they failed.
    pub moments: u32,
}

/// The counts by part, in a ring.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: [Outcomes; SLOTS],
    /// The present part, counted from the clock's origin.
    tick: u64,
}

impl Window {
    /// Forgets what is too old at `now`. An earlier time than the last is taken for that.
    pub fn advance(&mut self, now: Micros) {
        let tick = (now / SLOT_US).max(self.tick);
        for gone in self.tick + 1..=tick.min(self.tick + SLOTS as u64) {
            *self.slot(gone) = Outcomes::default();
        }
        self.tick = tick;
    }

    /// Adds to the present part.
    pub fn count(&mut self, succeeded: u32, failed: u32, moments: u32) {
        let slot = self.slot(self.tick);
        slot.succeeded = slot.succeeded.saturating_add(succeeded);
        slot.failed = slot.failed.saturating_add(failed);
        slot.moments = slot.moments.saturating_add(moments);
    }

    /// All that is kept.
    pub fn sum(&self) -> Outcomes {
        self.slots.iter().fold(Outcomes::default(), |sum, slot| Outcomes {
            succeeded: sum.succeeded.saturating_add(slot.succeeded),
            failed: sum.failed.saturating_add(slot.failed),
            moments: sum.moments.saturating_add(slot.moments),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "below 8")]
    fn slot(&mut self, tick: u64) -> &mut Outcomes {
        &mut self.slots[(tick % SLOTS as u64) as usize]
    }
}
