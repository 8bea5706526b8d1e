//! What was seen of a server.

use std::collections::BTreeMap;
use std::fmt;

use redis::{ErrorKind, RedisError};

use crate::limiter::Micros;
use crate::store::redis::deployment::Kind;
use crate::store::redis::script::Dialect;

/// Codes that a server gives inside the text of a script's error, before Redis 7.
const IN_SCRIPTS: &[&str] = &[
    "OOM",
    "READONLY",
    "NOPERM",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
];

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The server's code, such as `NOPERM`; else one of ours in lower case: `timeout`, `unreachable`, `wrong`.
    pub code: String,
    pub text: String,
}

impl Fault {
    pub fn new(code: &str, text: &str) -> Self {
        Self {
            code: code.to_owned(),
            text: text.to_owned(),
        }
    }

    pub fn timeout() -> Self {
        Self::new("timeout", "no answer in time")
    }

    /// No text of an error names the address or the password.
    pub fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::timeout();
        }
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Self::new("WRONGPASS", "the server does not take user and password");
        }
        if error.is_io_error() {
            return Self::new("unreachable", &error.to_string());
        }
        let text = error.detail().unwrap_or_else(|| error.category());
        let text = text.lines().next().unwrap_or_default();
        // Redis 7 adds the script's hash and line.
        let text = text.split(" script: ").next().unwrap_or_default();
        match error.code() {
            Some(code) if code != "ERR" => Self::new(code, &format!("{code} {text}")),
            code => {
                let (inside, text) = in_script(text).unwrap_or((code.unwrap_or("wrong"), text));
                Self::new(inside, &format!("{inside} {text}"))
            }
        }
    }
}

/// The code inside the text of a script's error, and what follows it, before Redis 7.
fn in_script(text: &str) -> Option<(&'static str, &str)> {
    let (_, last) = text.rsplit_once(": ")?;
    if last.starts_with("The user executing the script can't") {
        return Some(("NOPERM", last));
    }
    let last = last.strip_prefix('-')?;
    let codes = IN_SCRIPTS.iter();
    codes
        .copied()
        .find_map(|code| Some((code, last.strip_prefix(code)?.trim_start())))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An answer, or why there is none.
pub(super) type Answer<T> = Result<T, Fault>;

/// Names and values, of `INFO` or of `CONFIG GET`.
pub(super) type Values = BTreeMap<String, String>;

/// The lines `name:value` of an answer such as that of `INFO`.
pub(super) fn lines(text: &str) -> Values {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Times of calls that were made one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrips {
    pub count: usize,
    pub p50_us: Micros,
    pub p99_us: Micros,
    /// The server's clock less ours, by the fastest call.
    pub clock_ahead_us: i64,
}

/// Commands that scripts use, tried one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    pub user: String,
    pub missing: Vec<&'static str>,
}

/// Some of the keys that begin with our prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub keys: usize,
    /// Whether those are all.
    pub all: bool,
    pub without_ttl: usize,
    /// One of them.
    pub example: Option<String>,
}

/// All that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub op_timeout_us: Micros,
    /// What it should be a part of.
    pub kind: Kind,
    /// How long it took to connect.
    pub connected: Answer<Micros>,
    /// `master` or `slave`.
    pub role: Answer<String>,
    pub info: Answer<Values>,
    pub config: Answer<Values>,
    pub rights: Answer<Rights>,
    /// A script that reads the time and then writes.
    pub time_and_write: Answer<()>,
    /// How our own scripts were loaded, if they were.
    pub dialect: Option<Dialect>,
    /// The same, loaded and run.
    pub scripts: Answer<()>,
    pub round_trips: Answer<RoundTrips>,
    pub sample: Answer<Sample>,
}

impl Facts {
    /// Nothing seen but why.
    pub fn unreachable(op_timeout_us: Micros, kind: Kind, fault: &Fault) -> Self {
        Self {
            op_timeout_us,
            kind,
            connected: Err(fault.clone()),
            role: Err(fault.clone()),
            info: Err(fault.clone()),
            config: Err(fault.clone()),
            rights: Err(fault.clone()),
            time_and_write: Err(fault.clone()),
            dialect: None,
            scripts: Err(fault.clone()),
            round_trips: Err(fault.clone()),
            sample: Err(fault.clone()),
        }
    }

    /// A value of `INFO`.
    pub fn info(&self, name: &str) -> Option<&str> {
        self.info.as_ref().ok()?.get(name).map(String::as_str)
    }

    /// A value of `CONFIG GET`.
    pub fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref().ok()?.get(name).map(String::as_str)
    }

    /// A number of `INFO`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.info(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::in_script;

    #[test]
    fn errors_in_scripts_have_codes_before_redis_7_too() {
        let script = "Error running script (call to f_0): @user_script:2: @user_script: 2: ";
        for (last, expected) in [
            ("-OOM command not allowed", Some(("OOM", "command not allowed"))),
            ("-READONLY You can't write", Some(("READONLY", "You can't write"))),
            (
                "The user executing the script can't run this command or subcommand",
                Some((
                    "NOPERM",
                    "The user executing the script can't run this command or subcommand",
                )),
            ),
            ("attempt to index a nil value", None),
        ] {
            assert_eq!(in_script(&format!("{script}{last}")), expected, "{last}");
        }
    }
}
