//! A request as the rest of the service sees it.

use std::ops::Range;

use smallvec::SmallVec;

use super::{Bounds, Invalid, Unit};

/// One level of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The kind of thing, such as `remote_address`; never empty.
    pub key: &'a str,
    /// Its value; may be empty.
    pub value: &'a str,
}

/// How much a descriptor is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// The number of hits.
    pub count: u64,
    /// Whether the descriptor itself carried the number (then it is a measured cost or, at 0, a look without a charge).
    pub explicit: bool,
    /// Whether the hits are given back instead of charged.
    pub refund: bool,
}

/// A limit that came with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// Requests in a window; 0 blocks.
    pub requests_per_unit: u32,
    /// `None` for a unit that is unknown.
    pub unit: Option<Unit>,
    /// The window is this many units, at least 1.
    pub unit_multiplier: u32,
}

impl LimitOverride {
    /// The window in seconds; `None` if the unit is unknown or the window is above 100 years: such an override is ignored.
    #[must_use]
    pub fn window_s(&self) -> Option<u64> {
        self.unit?.window_s(self.unit_multiplier)
    }
}

/// One descriptor: a range of the request's entries, and how it is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Where its entries stand in [`Request::entries`].
    pub entries: Range<usize>,
    /// How much it is charged.
    pub hits: Hits,
    /// The limit that it brought along.
    pub limit: Option<LimitOverride>,
}

/// A whole request. Entries of all descriptors stand in one list; a small request allocates nothing, any other one twice.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    domain: &'a str,
    hits_addend: u32,
    entries: SmallVec<[Entry<'a>; 6]>,
    descriptors: SmallVec<[Descriptor; 2]>,
}

impl<'a> Request<'a> {
    /// Begins a request with room for `descriptors` descriptors.
    ///
    /// # Errors
    /// An empty domain, no descriptors, or a number above the bound.
    pub fn begin(
        domain: &'a str,
        hits_addend: u32,
        descriptors: usize,
        bounds: &Bounds,
    ) -> Result<Self, Invalid> {
        bounds.check_domain(domain)?;
        bounds.check_descriptors(descriptors)?;
        Ok(Self {
            domain,
            hits_addend,
            entries: SmallVec::with_capacity(descriptors.saturating_mul(2)),
            descriptors: SmallVec::with_capacity(descriptors),
        })
    }

    /// Adds a descriptor.
    ///
    /// # Errors
    /// No entries, too many of them, an empty key, or a key or value above its bound; the error names the field.
    pub fn push(
        &mut self,
        entries: impl ExactSizeIterator<Item = Entry<'a>>,
        hits_addend: Option<u64>,
        refund: bool,
        limit: Option<LimitOverride>,
        bounds: &Bounds,
    ) -> Result<(), Invalid> {
        let descriptor = self.descriptors.len();
        bounds.check_entries(descriptor, entries.len())?;
        let start = self.entries.len();
        for (index, entry) in entries.enumerate() {
            bounds.check_entry(descriptor, index, entry)?;
            self.entries.push(entry);
        }
        let count = hits_addend.unwrap_or_else(|| u64::from(self.hits_addend.max(1)));
        self.descriptors.push(Descriptor {
            entries: start..self.entries.len(),
            hits: Hits {
                count,
                explicit: hits_addend.is_some(),
                refund,
            },
            limit,
        });
        Ok(())
    }

    /// The set of policies to look in; never empty.
    #[must_use]
    pub fn domain(&self) -> &'a str {
        self.domain
    }

    /// The request's own number of hits as sent; 0 means unset.
    #[must_use]
    pub fn hits_addend(&self) -> u32 {
        self.hits_addend
    }

    /// The descriptors in the request's order; never empty.
    #[must_use]
    pub fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// A descriptor's entries; never empty.
    #[must_use]
    pub fn entries(&self, descriptor: &Descriptor) -> &[Entry<'a>] {
        &self.entries[descriptor.entries.clone()]
    }
}
