//! What the policy under test promises, by key.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Nanos, SECOND_NS};
use crate::num;

/// A century, as in policies.
const WINDOW_S_MAX: f64 = 3_155_760_000.0;

/// A limit of so many hits in any window of that many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLimit {
    /// Hits, from 0.
    pub limit: u64,
    /// Seconds, above 0.
    pub window: f64,
}

impl KeyLimit {
    /// The window in nanoseconds.
    pub fn window_ns(&self) -> Nanos {
        num::whole(self.window * num::fraction(SECOND_NS))
    }

    fn check(self, name: &str) -> Result<Self, String> {
        let valid = self.window > 0.0 && self.window <= WINDOW_S_MAX && self.window_ns() > 0;
        if valid {
            Ok(self)
        } else {
            Err(format!("{name}: a window of {} s", self.window))
        }
    }
}

/// The limits of all keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    uniform: Option<KeyLimit>,
    by_key: HashMap<u32, KeyLimit>,
}

impl Limits {
    /// The same limit for every key.
    pub fn uniform(limit: KeyLimit) -> Result<Self, String> {
        Ok(Self {
            uniform: Some(limit.check("--window")?),
            by_key: HashMap::new(),
        })
    }

    /// Adds limits from JSON: `{"0": {"limit": 10, "window": 1}, …}`, by the key's number.
    pub fn with_file(mut self, json: &str) -> Result<Self, String> {
        let parsed: HashMap<String, KeyLimit> =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        for (name, limit) in parsed {
            let key: u32 = name.parse().map_err(|_| format!("{name}: a key is a number"))?;
            self.by_key.insert(key, limit.check(&name)?);
        }
        Ok(self)
    }

    /// The limit of this key, if it is to be audited.
    pub fn of(&self, key: u32) -> Option<KeyLimit> {
        self.by_key.get(&key).copied().or(self.uniform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_its_own_wins() {
        let uniform = KeyLimit {
            limit: 10,
            window: 1.0,
        };
        let limits = Limits::uniform(uniform)
            .and_then(|limits| limits.with_file(r#"{"3": {"limit": 5, "window": 0.5}}"#));
        let limits = limits.expect("valid");
        assert_eq!(limits.of(0), Some(uniform));
        assert_eq!(limits.of(3).map(|limit| limit.window_ns()), Some(500_000_000));
        assert_eq!(Limits::default().of(0), None);
    }

    #[test]
    fn what_is_refused() {
        let bad = [
            "",
            "[]",
            r#"{"a": {"limit": 5, "window": 1}}"#,
            r#"{"1": {"limit": -5, "window": 1}}"#,
            r#"{"1": {"limit": 5, "window": 0}}"#,
            r#"{"1": {"limit": 5, "window": 1e-12}}"#,
            r#"{"1": {"limit": 5, "window": 1e300}}"#,
            r#"{"1": {"limit": 5}}"#,
            r#"{"1": {"limit": 5, "window": 1, "unit": "second"}}"#,
        ];
        for json in bad {
            assert!(Limits::default().with_file(json).is_err(), "{json}");
        }
    }
}
