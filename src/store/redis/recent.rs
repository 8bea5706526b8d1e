//! stub
use super::call::{Call, Reply};
use crate::limiter::{Charge, Limit, Micros, Mode};
/// How long.
pub const KEEP_US: Micros = 2_000_000;
/// Stub.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Key.
    pub key: String,
    /// Limit.
    pub limit: Limit,
    /// Hits.
    pub hits: u64,
}
impl Replayed {
    /// Charge.
    #[must_use]
    pub fn charge(&self) -> Charge {
        Charge { counter: 0, limit: self.limit, hits: self.hits, mode: Mode::Record, shadow: false, quota: false }
    }
}
/// Stub.
#[derive(Debug, Default)]
pub struct Recent {}
impl Recent {
    /// Stub.
    pub fn note(&mut self, _: Micros, _: Call, _: &Reply) {}
    /// Stub.
    pub fn replay(&mut self, _: impl Fn(&str) -> bool) -> Vec<Replayed> { Vec::new() }
    /// Stub.
    pub fn forget(&mut self, _: Micros) {}
}
