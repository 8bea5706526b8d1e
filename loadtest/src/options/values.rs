//! Values of options.

use std::time::Duration;

use crate::wire::{Descriptor, Text};

const DAY_S: f64 = 86_400.0;
/// Above this a schedule is no use: one thread sends some 300,000 a second.
const RATE_MAX: f64 = 100e6;

/// `500us`, `20ms`, `1.5s`, `10m`, `1h`; a bare number is seconds. At most a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => {
            return Err(format!(
                "{text}: unknown unit {unit:?}, expected us, ms, s, m or h"
            ));
        }
    };
    match number.parse::<f64>().map(|number| number * scale) {
        // To the microsecond: 0.02 s and 20 ms should be the same.
        Ok(seconds) if seconds <= DAY_S => Ok(Duration::from_secs_f64((seconds * 1e6).round() / 1e6)),
        Ok(_) => Err(format!("{text}: longer than a day")),
        Err(_) => Err(format!("{text}: expected a number and a unit, e.g. 20ms")),
    }
}

/// Requests per second, above 0.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err(format!(
            "{text}: expected a number above 0, at most {RATE_MAX:.0}"
        )),
    }
}

/// `key=value,key=value`: the entries in order. A value can't hold a comma.
pub fn descriptor(text: &str) -> Result<Descriptor, String> {
    let entry = |entry: &str| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        if key.is_empty() {
            return Err(format!("{text}: an entry without a key"));
        }
        Ok((Text::parse(key)?, Text::parse(value)?))
    };
    text.split(',').map(entry).collect()
}

/// The value of `grpc-timeout`: at most 8 digits and a unit, as fine as fits.
pub fn grpc_timeout(timeout: Duration) -> String {
    let micros = timeout.as_micros();
    let units = [(1, 'u'), (1_000, 'm'), (1_000_000, 'S')];
    let exact = units
        .iter()
        .rev()
        .find(|(scale, _)| micros.is_multiple_of(*scale));
    let fits = |(scale, _): &&(u128, char)| micros / scale < 100_000_000;
    let (scale, unit) = exact
        .filter(fits)
        .or_else(|| units.iter().find(fits))
        .unwrap_or(&units[2]);
    format!("{}{unit}", micros / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("20ms", 20_000),
            ("1.5s", 1_500_000),
            ("2", 2_000_000),
            ("3m", 180_000_000),
            ("7us", 7),
        ];
        for (text, micros) in table {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.2.3s", "5d", "25h", "1 s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grpc_timeouts() {
        let table = [
            (20_000, "20m"),
            (1_500, "1500u"),
            (5_000_000, "5S"),
            (123_456_789_000, "123456S"),
        ];
        for (micros, value) in table {
            assert_eq!(grpc_timeout(Duration::from_micros(micros)), value);
        }
    }

    #[test]
    fn descriptors() {
        assert_eq!(descriptor("a=1,b={key}").map(|entries| entries.len()), Ok(2));
        assert!(descriptor("flag").is_ok());
        for bad in ["", "=x", "a=1,", "a={x}"] {
            assert!(descriptor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["", "0", "-1", "NaN", "inf", "1e12"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
