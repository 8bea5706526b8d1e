//! Memory of one request, kept for the next one on the same thread: so that a decision in memory allocates nothing.

use std::cell::RefCell;

use crate::store::Batch;

/// Requests of one thread that wait for a store at the same time and find their memory again.
const SPARE_MAX: usize = 128;
/// What a large request took is not kept: charges of a batch, and bytes of texts.
const KEPT_CHARGES_MAX: usize = 256;
const KEPT_TEXT_BYTES_MAX: usize = 16_384;

thread_local! {
    #[expect(clippy::vec_box, reason = "they are moved into futures and back, which is cheaper for a pointer")]
    static SPARE: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// What is written while a request is decided. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffers(Option<Box<Parts>>);

#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Where texts are put together.
    pub text: String,
    /// The charges of the shared store.
    pub global: Batch,
    /// The charges of this instance alone.
    pub local: Batch,
}

impl Buffers {
    /// Memory of an earlier request, or new.
    pub fn take() -> Self {
        let spare = SPARE.with(|spare| spare.try_borrow_mut().ok()?.pop());
        Self(Some(spare.unwrap_or_default()))
    }

    /// The parts, which a request begins anew before it uses them.
    pub fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }
}

impl Parts {
    fn is_small(&self) -> bool {
        let small = |batch: &Batch| {
            batch.charges.capacity() <= KEPT_CHARGES_MAX && batch.keys.text_bytes() <= KEPT_TEXT_BYTES_MAX
        };
        self.text.capacity() <= KEPT_TEXT_BYTES_MAX && small(&self.global) && small(&self.local)
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let Some(parts) = self.0.take().filter(|parts| parts.is_small()) else {
            return;
        };
        // A thread that ends has nothing to keep any more.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < SPARE_MAX
            {
                spare.push(parts);
            }
        });
    }
}
