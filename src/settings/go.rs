//! Values as Go programs write them. The reference server is one, and its environments have to work here unchanged.
//!
//! Source: the documentation of Go's `time.ParseDuration`, `strconv.ParseBool`, `strconv.ParseInt` (base 0) and
//! `strconv.ParseFloat`, and of `kelseyhightower/envconfig` for maps. Every function answers `None` for text that
//! Go would refuse; the caller knows which words to use for it.

use std::fmt::Write as _;

/// Go's duration units, each with its nanoseconds. A longer name stands before one that it starts with.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The longest Go duration in nanoseconds, about 292 years.
pub const DURATION_MAX_NS: u64 = i64::MAX as u64;

/// A duration such as `10s`, `1h30m`, `1.5h` or `150us`, in nanoseconds, at most [`DURATION_MAX_NS`].
///
/// Go also reads negative durations. No setting has a use for one, so they are refused (`-0` with them).
#[must_use]
pub fn parse_duration(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(unit_end);
        let unit_ns = UNITS.iter().find(|(unit, _)| *unit == name)?.1;
        let whole = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().ok()?
        };
        let part = whole
            .checked_mul(unit_ns)?
            .checked_add(fraction_ns(fraction, unit_ns))?;
        total = total
            .checked_add(part)
            .filter(|total| *total <= DURATION_MAX_NS)?;
        if after.is_empty() {
            return Some(total);
        }
        rest = after;
    }
}

/// The leading decimal digits of a text, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The nanoseconds of a decimal fraction of a unit, cut to whole ones. 18 digits are more than any unit needs.
fn fraction_ns(fraction: &str, unit_ns: u64) -> u64 {
    let mut ns = 0_u128;
    let mut scale = 1_u128;
    for digit in fraction.bytes().take(18) {
        ns = ns * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(ns * u128::from(unit_ns) / scale).unwrap_or(0)
}

/// Nanoseconds as a Go duration without parts that are zero: `24h`, `1h30m`, `150us`. The inverse of
/// [`parse_duration`].
#[must_use]
pub fn format_duration(ns: u64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    let mut rest = ns;
    for unit in ["h", "m", "s", "ms", "us", "ns"] {
        let unit_ns = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map_or(1, |(_, ns)| *ns);
        if rest >= unit_ns {
            let _ = write!(text, "{}{unit}", rest / unit_ns);
            rest %= unit_ns;
        }
    }
    text
}

/// A truth value: 1, t, T, TRUE, true, True and their opposites, nothing else.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go writes it: decimal, `0x1f`, `0o17`, `017` (octal too), `0b1`, with `_` between digits.
#[must_use]
pub fn parse_int(text: &str) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = text.get(..2).unwrap_or("").to_ascii_lowercase();
    let (radix, body) = match prefix.as_str() {
        "0x" => (16, &text[2..]),
        "0o" => (8, &text[2..]),
        "0b" => (2, &text[2..]),
        _ if text.len() > 1 && text.starts_with('0') => (8, &text[1..]),
        _ => (10, text),
    };
    // An underscore may follow a base prefix (the 0 of an octal number is one), and stands between digits elsewhere.
    let body = if radix == 10 {
        body
    } else {
        body.strip_prefix('_').unwrap_or(body)
    };
    if body.starts_with(['_', '+', '-']) || body.ends_with('_') || body.contains("__") {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(&body.replace('_', ""), radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// A finite number of 32 bits, in decimal or with an exponent.
#[must_use]
pub fn parse_float32(text: &str) -> Option<f32> {
    text.parse::<f32>().ok().filter(|number| number.is_finite())
}

/// A map written `key:value,key:value`. Only blanks is the empty map. As in Go, nothing is trimmed, a pair has
/// exactly one colon and of two equal keys the last one wins; unlike there, a key may not be empty.
#[must_use]
pub fn parse_map(text: &str) -> Option<Vec<(String, String)>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|pair| {
            let (key, value) = pair.split_once(':')?;
            let usable = !key.is_empty() && !value.contains(':');
            usable.then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}
