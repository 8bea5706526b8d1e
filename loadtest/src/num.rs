//! Conversions between whole numbers and fractions, each with the reason why it loses nothing that matters.

/// For ratios and averages of counts and nanoseconds: exact up to 2^53, i.e. 104 days in nanoseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and times of a run stay far below 2^53"
)]
pub fn fraction(value: u64) -> f64 {
    value as f64
}

/// The whole part; negative and undefined values are 0, too large ones the maximum (what `as` does).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and that is meant"
)]
pub fn whole(value: f64) -> u64 {
    value as u64
}

/// Nanoseconds as microseconds with one decimal, for people.
pub fn micros(nanos: u64) -> f64 {
    (fraction(nanos) / 100.0).round() / 10.0
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: u64) -> f64 {
    fraction(nanos) / 1e9
}

/// `part / whole`, 0 if there is no whole.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Rounded to so many decimals: figures in a report need not pretend to be more exact.
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
