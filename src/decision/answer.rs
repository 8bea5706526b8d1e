//! The answer to a request, before it is put on a wire.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::descriptor::Unit;
use crate::policy::Metadata;

/// Statuses in the request's order; up to two take no allocation.
pub type Statuses = SmallVec<[Status; 2]>;

/// What the caller is told.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The request must not go on.
    pub denied: bool,
    /// One status for each descriptor, in the request's order.
    pub statuses: Statuses,
    /// Headers for the downstream response.
    pub response_headers: Vec<Header>,
    /// The body of the denied response; empty for none.
    pub denied_body: String,
    /// Data for the caller's own use.
    pub dynamic_metadata: Option<Metadata>,
}

/// What became of one descriptor.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The descriptor is over its limit.
    pub over: bool,
    /// The limit denies only together with the request's other quota limits.
    pub quota: bool,
    /// The limit; `None` if none matched, or an unlimited one.
    pub current_limit: Option<CurrentLimit>,
    /// Hits left after this charge; [`u32::MAX`] for an unlimited rule.
    pub remaining: u32,
    /// Whole seconds, rounded up: denied, until the same hits fit; else until the counter is empty.
    pub reset_s: Option<u64>,
}

/// The limit that a descriptor matched, as configured.
#[derive(Clone, Debug)]
pub struct CurrentLimit {
    /// Requests in a window.
    pub requests_per_unit: u32,
    /// The unit.
    pub unit: Unit,
    /// The window is this many units; `None` if it was not said.
    pub unit_multiplier: Option<u32>,
    /// The rule's name; may be empty.
    pub name: Option<Arc<str>>,
}

/// A header to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: String,
}
