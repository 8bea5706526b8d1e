//! The rules in force, in the reference server's line format.

use std::fmt::Write as _;

use crate::policy::Snapshot;

/// One line a rule: `domain.key_value.key: unit=MINUTE requests_per_unit=3, shadow_mode: false, quota_mode: false`, and what we
/// know more behind it.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    for domain in snapshot.domains() {
        for rule in domain.rules() {
            let (unit, requests) = rule.limit.as_ref().map_or(("UNKNOWN", 0), |limit| {
                (limit.unit.wire_name(), limit.requests_per_unit)
            });
            // Writing into a String can't fail.
            let _ = write!(
                page,
                "{}.{}: unit={unit} requests_per_unit={requests}, shadow_mode: {}, quota_mode: {}",
                domain.name(),
                rule.path,
                rule.shadow,
                rule.quota
            );
            if let Some(limit) = &rule.limit {
                let _ = write!(
                    page,
                    ", algorithm: {}, window_s: {}",
                    limit.limit.algorithm().name(),
                    limit.window_s()
                );
            }
            let _ = writeln!(page, " # {}:{}", rule.file, rule.line);
        }
    }
    page
}
