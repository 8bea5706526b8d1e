//! A piece of the log: charges of up to a quarter of a second, in memory of a size that never changes.

use crate::limiter::{Limit, Micros};

/// The most charges of a chunk.
const NOTES_MAX: usize = 1_024;
/// The most distinct limits of a chunk.
const LIMITS_MAX: usize = 32;
/// Bytes of a chunk's keys, if none is longer: 48 for each charge.
const TEXT_BYTES: usize = 48 * NOTES_MAX;
/// The longest time from a chunk's first charge to its last: what is too old is forgotten by chunks.
const CHUNK_US: Micros = 250_000;

/// One charge, in 16 bytes. Its key begins where that of the one before ends.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// Since the chunk's first.
    after_us: u32,
    key_end: u32,
    limit: u32,
    /// Less one: 2^32 hits fit as well.
    more_hits: u32,
}

/// Some charges in the order of their time.
#[derive(Debug)]
pub(super) struct Chunk {
    first: Micros,
    text: String,
    notes: Vec<Note>,
    limits: Vec<Limit>,
    bytes: usize,
}

/// A charge of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted<'a> {
    /// When it was confirmed.
    pub at: Micros,
    /// Its counter.
    pub key: &'a str,
    pub limit: &'a Limit,
    /// At least 1.
    pub hits: u64,
}

impl Chunk {
    /// An empty chunk with room for this key, whose first charge is confirmed at `first`.
    pub fn new(first: Micros, key: &str) -> Self {
        Self {
            first,
            text: String::with_capacity(TEXT_BYTES.max(key.len())),
            notes: Vec::with_capacity(NOTES_MAX),
            limits: Vec::with_capacity(LIMITS_MAX),
            bytes: Self::bytes_for(key),
        }
    }

    /// The memory of a chunk made for this key.
    pub fn bytes_for(key: &str) -> usize {
        size_of::<Self>()
            + TEXT_BYTES.max(key.len())
            + NOTES_MAX * size_of::<Note>()
            + LIMITS_MAX * size_of::<Limit>()
    }

    /// The memory of this one.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the last was confirmed.
    pub fn newest(&self) -> Micros {
        self.first + self.notes.last().map_or(0, |note| note.after_us.into())
    }

    /// Adds 1 to 2^32 hits, confirmed no earlier than the ones before; false if there is no room.
    pub fn push(&mut self, at: Micros, key: &str, limit: &Limit, hits: u64) -> bool {
        let after_us = at.saturating_sub(self.first);
        let key_end = self.text.len() + key.len();
        if after_us > CHUNK_US || self.notes.len() == NOTES_MAX || key_end > self.text.capacity() {
            return false;
        }
        let known = self.limits.iter().rposition(|known| known == limit);
        if known.is_none() && self.limits.len() == LIMITS_MAX {
            return false;
        }
        let limit = known.unwrap_or_else(|| {
            self.limits.push(*limit);
            self.limits.len() - 1
        });
        let small = (
            u32::try_from(after_us),
            u32::try_from(key_end),
            u32::try_from(limit),
            u32::try_from(hits.saturating_sub(1)),
        );
        let (Ok(after_us), Ok(key_end), Ok(limit), Ok(more_hits)) = small else {
            return false;
        };
        self.text.push_str(key);
        self.notes.push(Note {
            after_us,
            key_end,
            limit,
            more_hits,
        });
        true
    }

    /// The charges, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Noted<'_>> {
        let mut start = 0;
        self.notes.iter().map(move |note| {
            let end = note.key_end as usize;
            let key = &self.text[start..end];
            start = end;
            Noted {
                at: self.first + Micros::from(note.after_us),
                key,
                limit: &self.limits[note.limit as usize],
                hits: u64::from(note.more_hits) + 1,
            }
        })
    }
}
