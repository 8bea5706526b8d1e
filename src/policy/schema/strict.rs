//! What may not stand beside `strict: true`: what lets requests pass without the store, and what does not use it.
//!
//! Only what stands at the same limit, or both at the top of the file, contradicts itself. A limit that says something else
//! than its file is an exception from it.

use super::raw::{Field, RawRateLimit};
use super::{OnStoreError, Scope};
use crate::policy::diagnostic::{Place, Report};

/// The keys at the top of a file.
pub(super) fn check_file(
    strict: &Field<bool>,
    on_store_error: Option<OnStoreError>,
    report: &mut Report<'_>,
) {
    if let (true, Some(place)) = (strict.is_true(), strict.place) {
        check_outage(place, on_store_error, report);
    }
}

/// The keys of a limit.
pub(super) fn check_limit(
    raw: &RawRateLimit,
    scope: Option<Scope>,
    on_store_error: Option<OnStoreError>,
    report: &mut Report<'_>,
) {
    let (true, Some(place)) = (raw.strict.is_true(), raw.strict.place) else {
        return;
    };
    check_outage(place, on_store_error, report);
    if scope == Some(Scope::Local) {
        let text = "'strict: true' beside 'scope: local', which is counted without a store";
        report.error(place, text);
    }
    if raw.unlimited.is_true() {
        let text = "'strict: true' beside 'unlimited: true', which counts nothing";
        report.error(place, text);
    }
}

fn check_outage(place: Place, on_store_error: Option<OnStoreError>, report: &mut Report<'_>) {
    let word = match on_store_error {
        Some(OnStoreError::Local) => "local",
        Some(OnStoreError::Allow) => "allow",
        Some(OnStoreError::Deny | OnStoreError::Strict) | None => return,
    };
    report.error(
        place,
        format_args!(
            "'strict: true' beside 'on_store_error: {word}', but a strict limit denies without the store"
        ),
    );
}
