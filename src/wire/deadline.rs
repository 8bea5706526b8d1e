//! How long a caller waits: the `grpc-timeout` header.

use std::time::Duration;

use http::HeaderMap;

/// Left for the way back to the caller, at most; of a short time, a quarter.
const MARGIN_MAX: Duration = Duration::from_millis(2);
/// Timers wake up to this much late.
const TIMER: Duration = Duration::from_millis(1);

/// How long the caller waits in all; `None` if for ever.
#[must_use]
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// The part of a time-out in which an answer is of use.
#[must_use]
pub fn budget_of(timeout: Duration) -> Duration {
    (timeout - (timeout / 4).min(MARGIN_MAX)).saturating_sub(TIMER)
}

/// At most 8 digits and a unit. What is no timeout is no bound: the service's own holds.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header value"));
        timeout(&headers).map(budget_of)
    }

    #[test]
    fn a_margin_is_left_for_the_way_back() {
        assert_eq!(of("20m"), Some(Duration::from_millis(17)));
        assert_eq!(of("19700u"), Some(Duration::from_micros(16_700)));
        assert_eq!(of("5m"), Some(Duration::from_micros(2_750)));
        assert_eq!(of("1m"), Some(Duration::ZERO));
        assert_eq!(
            of("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3_600) - MARGIN_MAX - TIMER)
        );
        assert_eq!(of("0S"), Some(Duration::ZERO));
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_no_timeout_is_no_bound() {
        for text in ["", "m", "20", "-1m", "1.5S", "999999999m", "20x", "é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
