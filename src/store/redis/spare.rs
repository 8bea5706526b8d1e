//! Memory of calls that are over, for those to come: a call of a few requests costs less than growing its dozen of buffers anew, and
//! buffers of ever other sizes scatter what an allocator has free.

use std::sync::Mutex;

use redis::Cmd;

use super::call::{CHARGES_MAX, Call, Reply};
use super::node::lock;

/// As many as a lane has under way.
const SPARES_MAX: usize = 4;
/// Bytes of the keys of a call that is kept.
const KEYS_MAX: usize = 16 << 10;

/// A call on its way: what is asked, as it is sent, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub call: Call,
    pub command: Cmd,
    pub reply: Reply,
}

/// What a lane keeps. Its calls are on one thread, so nobody waits for the lock.
#[derive(Debug, Default)]
pub(super) struct Spares(
    #[expect(clippy::vec_box, reason = "they are handed over whole, and are large")]
    Mutex<Vec<Box<Exchange>>>,
);

impl Spares {
    /// An empty call.
    pub fn take(&self) -> Box<Exchange> {
        lock(&self.0).pop().unwrap_or_default()
    }

    /// Takes one back. That of a very large request, or of very long keys, is not kept.
    pub fn put(&self, mut exchange: Box<Exchange>) {
        if exchange.call.charges() > CHARGES_MAX || exchange.call.key_bytes() > KEYS_MAX {
            return;
        }
        exchange.call.clear();
        let mut spares = lock(&self.0);
        if spares.len() < SPARES_MAX {
            spares.push(exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::{Algorithm, Charge, Limit, Prior};
    use crate::store::Keys;

    /// An exchange of a request of so many charges on a key of so many bytes.
    fn of(charges: usize, key_bytes: usize) -> Box<Exchange> {
        let mut keys = Keys::default();
        keys.add(0, |text| text.push_str(&"k".repeat(key_bytes)));
        let limit = Limit::new(Algorithm::FixedWindow, 5, 1_000_000, None);
        let charge = Charge::consume(0, limit, 1);
        let mut exchange = Box::<Exchange>::default();
        let pushed = exchange
            .call
            .push(&keys, &vec![charge; charges], Prior::default(), 0);
        assert_eq!(pushed, Ok(()));
        exchange
    }

    #[test]
    fn some_are_kept_but_no_large_ones() {
        let spares = Spares::default();
        spares.put(of(CHARGES_MAX + 1, 1));
        spares.put(of(1, KEYS_MAX + 1));
        assert!(lock(&spares.0).is_empty());
        for _ in 0..2 * SPARES_MAX {
            spares.put(of(CHARGES_MAX, KEYS_MAX));
        }
        assert_eq!(lock(&spares.0).len(), SPARES_MAX);
        assert!(spares.take().call.is_empty());
    }
}
