//! A piece of the log: charges of up to a quarter of a second, in memory of a size that never changes. Those on one key and limit
//! are one note, so that a hot key needs no more memory the hotter it is.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::limiter::{Limit, Micros};

/// The most notes of a chunk.
const NOTES_MAX: usize = 1_024;
/// The most distinct limits of a chunk.
const LIMITS_MAX: usize = 32;
/// Bytes of a chunk's keys, if none is longer: 48 for each note.
const TEXT_BYTES: usize = 48 * NOTES_MAX;
/// The longest time from a chunk's first charge to its last: what is too old is forgotten by chunks.
pub(super) const CHUNK_US: Micros = 250_000;

/// The charges on one key and limit, in 16 bytes. Its key begins where that of the one before ends.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// Of the latest, since the chunk's first.
    after_us: u32,
    key_end: u32,
    limit: u32,
    /// Less one: 2^32 hits fit as well.
    more_hits: u32,
}

/// The charges of some time.
#[derive(Debug)]
pub(super) struct Chunk {
    first: Micros,
    newest: Micros,
    text: String,
    notes: Vec<Note>,
    /// Places in `notes`, by key.
    index: HashTable<u32>,
    limits: Vec<Limit>,
    bytes: usize,
}

/// The charges of a chunk on one key and limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted<'a> {
    /// When the last of them was confirmed.
    pub at: Micros,
    /// Its counter.
    pub key: &'a str,
    pub limit: &'a Limit,
    /// The sum, at least 1 and at most 2^32.
    pub hits: u64,
}

/// What the index of a chunk takes: a power of two of slots, of which seven eighths are in use at most, with a byte of each.
const INDEX_BYTES: usize = (NOTES_MAX * 8 / 7).next_power_of_two() * (size_of::<u32>() + 1);

impl Chunk {
    /// An empty chunk with room for this key, whose first charge is confirmed at `first`.
    pub fn new(first: Micros, key: &str) -> Self {
        Self {
            first,
            newest: first,
            text: String::with_capacity(TEXT_BYTES.max(key.len())),
            notes: Vec::with_capacity(NOTES_MAX),
            index: HashTable::with_capacity(NOTES_MAX),
            limits: Vec::with_capacity(LIMITS_MAX),
            bytes: Self::bytes_for(key),
        }
    }

    /// An empty chunk of another time, in the memory of this one.
    pub fn anew(mut self, first: Micros) -> Self {
        (self.first, self.newest) = (first, first);
        self.text.clear();
        self.notes.clear();
        self.index.clear();
        self.limits.clear();
        self
    }

    /// An empty chunk of the same time, which has room for all notes of this one from this key's on.
    pub fn successor(&self, key: &str) -> Self {
        Self::new(self.first, key)
    }

    /// The memory of a chunk made for this key.
    pub fn bytes_for(key: &str) -> usize {
        size_of::<Self>()
            + TEXT_BYTES.max(key.len())
            + NOTES_MAX * size_of::<Note>()
            + INDEX_BYTES
            + LIMITS_MAX * size_of::<Limit>()
    }

    /// The memory of this one.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the last was confirmed.
    pub fn newest(&self) -> Micros {
        self.newest
    }

    /// Adds 1 to 2^32 hits; false if there is no room. What was confirmed before the chunk's first counts as if it had been then.
    pub fn push(&mut self, at: Micros, key: &str, limit: &Limit, hits: u64) -> bool {
        let after_us = at.saturating_sub(self.first);
        if after_us > CHUNK_US {
            return false;
        }
        let known = self.limits.iter().rposition(|known| known == limit);
        let hash = FixedState::default().hash_one(key);
        let same = known.and_then(|limit| self.find(hash, key, limit));
        let small = (
            u32::try_from(after_us),
            u32::try_from(hits.saturating_sub(1)),
            u32::try_from(self.text.len() + key.len()),
            u32::try_from(known.unwrap_or(self.limits.len())),
            u32::try_from(self.notes.len()),
        );
        let (Ok(after_us), Ok(more_hits), Ok(key_end), Ok(limit_place), Ok(place)) = small else {
            return false;
        };
        if let Some(place) = same {
            let note = &mut self.notes[place];
            // The sum stops at 2^32, as one charge does.
            note.more_hits = note.more_hits.saturating_add(more_hits).saturating_add(1);
            note.after_us = note.after_us.max(after_us);
            self.newest = self.newest.max(at);
            return true;
        }
        if self.notes.len() == NOTES_MAX
            || self.text.len() + key.len() > self.text.capacity()
            || known.is_none() && self.limits.len() == LIMITS_MAX
        {
            return false;
        }
        if known.is_none() {
            self.limits.push(*limit);
        }
        self.text.push_str(key);
        self.notes.push(Note {
            after_us,
            key_end,
            limit: limit_place,
            more_hits,
        });
        let (text, notes) = (&self.text, &self.notes);
        let hash_of = |place: &u32| FixedState::default().hash_one(key_at(text, notes, *place as usize));
        self.index.insert_unique(hash, place, hash_of);
        self.newest = self.newest.max(at);
        true
    }

    /// The place of the note on this key and limit.
    fn find(&self, hash: u64, key: &str, limit: usize) -> Option<usize> {
        let is_same = |place: &u32| {
            let place = *place as usize;
            self.notes[place].limit as usize == limit && key_at(&self.text, &self.notes, place) == key
        };
        self.index.find(hash, is_same).map(|place| *place as usize)
    }

    /// The notes, by their first charges, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Noted<'_>> {
        self.notes.iter().enumerate().map(|(place, note)| Noted {
            at: self.first + Micros::from(note.after_us),
            key: key_at(&self.text, &self.notes, place),
            limit: &self.limits[note.limit as usize],
            hits: u64::from(note.more_hits) + 1,
        })
    }
}

fn key_at<'a>(text: &'a str, notes: &[Note], place: usize) -> &'a str {
    let start = place
        .checked_sub(1)
        .map_or(0, |before| notes[before].key_end as usize);
    &text[start..notes[place].key_end as usize]
}
