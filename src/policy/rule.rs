//! A rule as it is in force.

use std::sync::{Arc, OnceLock};

use super::schema::ChargeRule;
use crate::descriptor::Unit;
use crate::limiter::{Limit, OnStoreError};
use crate::telemetry::LimitSeries;

/// Free data of a rule, handed to the caller with the decision.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// What a matched descriptor is subject to.
#[derive(Debug)]
pub struct Rule {
    /// The limit; `None` for an unlimited rule.
    pub limit: Option<RuleLimit>,
    /// The name that `replaces` of other rules refers to; empty if there is none.
    pub name: Arc<str>,
    /// Names of rules that this one puts out of force within a request.
    pub replaces: Box<[Arc<str>]>,
    /// The limit is counted, but stops nothing.
    pub shadow: bool,
    /// The limit denies only together with all the other quota limits of a request.
    pub quota: bool,
    /// Metrics carry all keys and values of the request.
    pub detailed_metric: bool,
    /// Free data for the caller.
    pub metadata: Option<Arc<Metadata>>,
    /// Where it stands in the policy's tree: `key_value.key…`, without the domain.
    pub path: Box<str>,
    /// Tells rules apart; the same for the same domain and path after a reload.
    pub id: u64,
    /// The file it comes from.
    pub file: Arc<str>,
    /// The line in that file.
    pub line: u32,
    /// The metrics of the rule, looked up when it is first used.
    pub series: OnceLock<Arc<LimitSeries>>,
}

/// The numbers of a rule, as written and as computed.
#[derive(Clone, Debug)]
pub struct RuleLimit {
    /// The numbers as the algorithms want them.
    pub limit: Limit,
    /// Requests in a window, as written.
    pub requests_per_unit: u32,
    /// The unit, as written.
    pub unit: Unit,
    /// The window is this many units; `None` if it was not written.
    pub unit_multiplier: Option<u32>,
    /// Which hits are charged.
    pub charge: ChargeRule,
    /// Counted on this instance alone.
    pub local: bool,
    /// What it does while the store is away.
    pub on_store_error: OnStoreError,
}

impl RuleLimit {
    /// The window in seconds.
    #[must_use]
    pub fn window_s(&self) -> u64 {
        self.limit.window_us() / 1_000_000
    }
}
