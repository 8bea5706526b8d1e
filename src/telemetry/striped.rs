//! Counts that several threads add to without waiting for each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Copies of each count. More threads than that share some.
const STRIPES: usize = 4;

/// `N` counts, at most 8. Each thread adds to a copy of its own, on a cache line of its own: two that add to one line wait for
/// each other longer than a whole decision takes.
#[derive(Debug)]
pub(super) struct Striped<const N: usize>([Line<N>; STRIPES]);

#[derive(Debug)]
#[repr(align(64))]
struct Line<const N: usize>([AtomicU64; N]);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl<const N: usize> Default for Striped<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            Line(std::array::from_fn(|_| AtomicU64::new(0)))
        }))
    }
}

impl<const N: usize> Striped<N> {
    /// Adds to each of the counts given by their places.
    pub(super) fn add<const M: usize>(&self, counts: [(usize, u64); M]) {
        let line = &self.0[stripe()].0;
        for (place, count) in counts {
            if count > 0 {
                line[place].fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The counts.
    pub(super) fn sums(&self) -> [u64; N] {
        std::array::from_fn(|place| {
            self.0.iter().fold(0, |sum: u64, line| {
                sum.wrapping_add(line.0[place].load(Ordering::Relaxed))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_is_summed() {
        let counts = Striped::<3>::default();
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let counts = &counts;
                scope.spawn(move || (0..1_000).for_each(|_| counts.add([(0, 1), (2, thread)])));
            }
        });
        assert_eq!(counts.sums(), [6_000, 0, 15_000]);
    }
}
