//! How long to wait between attempts.

use std::time::Duration;

use super::node::random;

/// The first pause after an attempt that failed; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Pauses between attempts: doubled each time, with a random part, so that instances do not come all at once.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    attempts: u32,
}

impl Pauses {
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    pub fn next(&mut self) -> Duration {
        let full = PAUSE_MIN
            .saturating_mul(1 << self.attempts.min(10))
            .min(PAUSE_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let random = random() % 512;
        full.mul_f64(0.5)
            + full
                .mul_f64(0.5)
                .mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut pauses = Pauses::default();
        let first = pauses.next();
        assert!(first >= PAUSE_MIN / 2 && first <= PAUSE_MIN);
        let last = (0..50).map(|_| pauses.next()).last().unwrap_or_default();
        assert!(last >= PAUSE_MAX / 2 && last <= PAUSE_MAX);
        pauses.reset();
        assert!(pauses.next() <= PAUSE_MIN);
    }
}
