//! Memory that a thread has at hand before it needs it.

use std::hint::black_box;

/// Bytes of a thread.
const HEADROOM: usize = 2 << 20;
const CHUNK: usize = 8 << 10;

/// Touches some memory and gives it back to the allocator, all but a little on top that is returned: while that is held, the rest
/// stays with the thread. What a thread with a few connections uses (one megabyte and a half) and what bursts scatter come from
/// there, without page faults in the middle of requests, and the process does not grow under way: an outage of the store is to need
/// no more memory than the quiet before it.
#[must_use]
pub(super) fn headroom() -> Vec<u8> {
    let chunks: Vec<Vec<u8>> = (0..HEADROOM / CHUNK).map(|_| vec![1; CHUNK]).collect();
    let lid = vec![1; CHUNK];
    drop(black_box(chunks));
    lid
}
