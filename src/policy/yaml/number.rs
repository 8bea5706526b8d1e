//! Numbers as yaml.v2 takes them: Go's integer literals, and YAML's floats.

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// One that fits.
    Signed(i64),
    /// One that is too large to be signed.
    Large(u64),
}

/// A whole number of `text`, from which underscores were removed: decimal, `0x`, `0b`, `0o`, or octal by a leading 0.
pub(super) fn whole(text: &str) -> Option<Whole> {
    let (negative, signed, digits) = sign(text);
    let (radix, digits) = radix(digits);
    // A bare "0" has become octal without digits.
    let magnitude = if digits.is_empty() && radix == 8 {
        0
    } else {
        magnitude(digits, radix)?
    };
    match (signed_value(negative, magnitude), signed) {
        (Some(value), _) => Some(Whole::Signed(value)),
        (None, false) => Some(Whole::Large(magnitude)),
        (None, true) => None,
    }
}

/// `0b` and a sign after it, which Go does not take but yaml.v2 does.
pub(super) fn binary_with_inner_sign(text: &str) -> Option<i64> {
    let (negative, _, digits) = sign(text.strip_prefix("0b")?);
    signed_value(negative, magnitude(digits, 2)?)
}

/// A finite float of `text`, from which underscores were removed.
pub(super) fn float(text: &str) -> Option<f64> {
    let (_, _, unsigned) = sign(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let well_formed = digits(before)
        && digits(after)
        && (!before.is_empty() || !after.is_empty())
        && exponent.is_none_or(|e| !sign(e).2.is_empty() && digits(sign(e).2));
    if !well_formed {
        return None;
    }
    // Beyond the range Go reports an error, and yaml.v2 then takes the text as a string.
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `text` without underscores, if each of them stands between two digits.
pub(super) fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let well_placed = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    let all = bytes
        .iter()
        .enumerate()
        .all(|(at, &b)| b != b'_' || well_placed(at));
    all.then(|| text.replace('_', ""))
}

/// Whether it is negative, whether it has a sign at all, and what follows the sign.
fn sign(text: &str) -> (bool, bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, true, &text[1..]),
        Some(b'+') => (false, true, &text[1..]),
        _ => (false, false, text),
    }
}

fn radix(digits: &str) -> (u32, &str) {
    let bytes = digits.as_bytes();
    match (bytes.first(), bytes.get(1).map(u8::to_ascii_lowercase)) {
        (Some(b'0'), Some(b'x')) if bytes.len() > 2 => (16, &digits[2..]),
        (Some(b'0'), Some(b'b')) if bytes.len() > 2 => (2, &digits[2..]),
        (Some(b'0'), Some(b'o')) if bytes.len() > 2 => (8, &digits[2..]),
        (Some(b'0'), _) => (8, &digits[1..]),
        _ => (10, digits),
    }
}

fn magnitude(digits: &str, radix: u32) -> Option<u64> {
    // The check keeps a second sign out, which `from_str_radix` would take.
    let well_formed = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if well_formed {
        u64::from_str_radix(digits, radix).ok()
    } else {
        None
    }
}

fn signed_value(negative: bool, magnitude: u64) -> Option<i64> {
    if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}
