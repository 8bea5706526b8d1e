//! Step 5 of a request: from verdicts to one answer.
//!
//! [`Decider::decide`] is the whole way of a request between the wire and the store: match, plan the charges, have them decided,
//! and say what came of it.

mod answer;
mod buffers;
mod decider;
mod headers;
mod metadata;
mod plan;

pub use answer::{Answer, CurrentLimit, Header, Status, Statuses};
pub use decider::{Decider, NotReady};
pub use headers::HeaderNames;

use crate::descriptor::LimitOverride;
use crate::policy::compile::limit_of;
use crate::policy::{Defaults, RuleLimit};

/// What is decided the same way for every request.
#[derive(Clone, Debug)]
pub struct Options {
    /// What overrides get that policies could say for themselves.
    pub defaults: Defaults,
    /// No limit stops anything; statuses still say what would have been denied.
    pub shadow_mode: bool,
    /// Every limit is a quota limit.
    pub quota_mode: bool,
    /// Names of the response headers about the limit; `None` sends none.
    pub limit_headers: Option<HeaderNames>,
    /// Denied answers carry `retry-after`.
    pub retry_after: bool,
    /// The body of a denied answer; empty for none.
    pub denied_body: String,
    /// The body is JSON, and a header says so.
    pub denied_body_is_json: bool,
    /// Answers carry dynamic metadata.
    pub dynamic_metadata: bool,
}

impl Options {
    /// Nothing beyond the statuses.
    #[must_use]
    pub fn plain(defaults: Defaults) -> Self {
        Self {
            defaults,
            shadow_mode: false,
            quota_mode: false,
            limit_headers: None,
            retry_after: false,
            denied_body: String::new(),
            denied_body_is_json: false,
            dynamic_metadata: false,
        }
    }
}

/// The numbers of a limit that is in force for one descriptor, of a rule or of an override.
type Numbers = RuleLimit;

/// What an override says, if it can be used.
fn numbers_of(it: &LimitOverride, defaults: Defaults) -> Option<Numbers> {
    let window_s = it.window_s()?;
    Some(Numbers {
        limit: limit_of(defaults.algorithm, it.requests_per_unit, window_s, None, false),
        requests_per_unit: it.requests_per_unit,
        unit: it.unit?,
        unit_multiplier: (it.unit_multiplier > 1).then_some(it.unit_multiplier),
        charge: defaults.charge,
        local: false,
        on_store_error: defaults.on_store_error,
    })
}
