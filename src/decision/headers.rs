//! Response headers that describe the limit.

use std::sync::Arc;

use super::answer::{Header, Status};

/// Names of the three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderNames {
    /// Carries the limit.
    pub limit: Arc<str>,
    /// Carries what is left.
    pub remaining: Arc<str>,
    /// Carries the seconds until the reset.
    pub reset: Arc<str>,
}

/// The headers of the limit that matters most: the last one that is over and denies by itself, else the first one with the
/// least left.
pub(super) fn limit_headers(names: &HeaderNames, statuses: &[Status]) -> Vec<Header> {
    let limited = || statuses.iter().filter(|status| status.current_limit.is_some());
    let shown = limited()
        .rev()
        .find(|status| status.over && !status.quota)
        .or_else(|| limited().min_by_key(|status| status.remaining));
    let Some((status, limit)) = shown.and_then(|status| Some((status, status.current_limit.as_ref()?)))
    else {
        return Vec::new();
    };
    let header = |name: &Arc<str>, value: u64| Header {
        name: Arc::clone(name),
        value: value.to_string(),
    };
    vec![
        header(&names.limit, limit.requests_per_unit.into()),
        header(&names.remaining, status.remaining.into()),
        header(&names.reset, status.reset_s.unwrap_or_default()),
    ]
}

/// `retry-after`, at least a second: the longest wait of the limits that deny by themselves; if only quota limits are over, the
/// shortest of theirs, since one with room is enough.
pub(super) fn retry_after(statuses: &[Status]) -> Header {
    let waits = |quota| {
        let over = statuses
            .iter()
            .filter(move |status| status.over && status.quota == quota);
        over.filter_map(|status| status.reset_s)
    };
    let wait_s = waits(false)
        .max()
        .or_else(|| waits(true).min())
        .unwrap_or(1)
        .max(1);
    Header {
        name: "retry-after".into(),
        value: wait_s.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::CurrentLimit;
    use crate::descriptor::Unit;

    fn status(over: bool, requests_per_unit: u32, remaining: u32, reset_s: u64) -> Status {
        let unit = Unit::Minute;
        let current_limit = Some(CurrentLimit {
            requests_per_unit,
            unit,
            unit_multiplier: None,
            name: None,
        });
        Status {
            over,
            quota: false,
            current_limit,
            remaining,
            reset_s: Some(reset_s),
        }
    }

    fn shown(statuses: &[Status]) -> Vec<String> {
        let names = HeaderNames {
            limit: "l".into(),
            remaining: "r".into(),
            reset: "s".into(),
        };
        limit_headers(&names, statuses)
            .into_iter()
            .map(|header| header.value)
            .collect()
    }

    #[test]
    fn the_last_limit_that_is_over_is_shown() {
        let statuses = [
            status(true, 1, 0, 3),
            status(true, 2, 0, 4),
            status(false, 3, 0, 5),
        ];
        assert_eq!(shown(&statuses), ["2", "0", "4"]);
    }

    #[test]
    fn else_the_first_with_the_least_left() {
        let statuses = [
            Status::default(),
            status(false, 9, 5, 3),
            status(false, 8, 2, 4),
            status(false, 7, 2, 5),
        ];
        assert_eq!(shown(&statuses), ["8", "2", "4"]);
        assert!(shown(&[Status::default()]).is_empty());
    }

    #[test]
    fn retry_after_is_the_longest_wait_and_never_zero() {
        assert_eq!(
            retry_after(&[
                status(true, 1, 0, 3),
                status(true, 1, 0, 9),
                status(false, 1, 1, 60)
            ])
            .value,
            "9"
        );
        assert_eq!(retry_after(&[status(true, 1, 0, 0)]).value, "1");
        let quota = |over, reset_s| Status {
            quota: true,
            ..status(over, 1, 0, reset_s)
        };
        assert_eq!(retry_after(&[quota(true, 90), quota(true, 7)]).value, "7");
        assert_eq!(retry_after(&[quota(true, 90), status(true, 1, 0, 3)]).value, "3");
    }
}
