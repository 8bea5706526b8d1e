//! What is wrong with the settings, and where it was said.

use std::fmt;

/// The place that a value came from. Later variants win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The table of settings itself.
    Default,
    /// The TOML file: its path as given, and the key.
    File {
        /// Path as the user wrote it.
        path: String,
        /// The key inside the file, `a.b`.
        key: String,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A command-line flag, by its name without the dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, key } => write!(f, "file {path}: {key}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// One reason why the settings cannot be used. Its text is one line, and never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value that its setting does not take.
    #[error("{origin}: want {want}, got {got}")]
    Value {
        /// Where the value stands.
        origin: Origin,
        /// What is allowed there.
        want: String,
        /// The value, quoted, or a note in its place when it may be a secret.
        got: String,
    },
    /// A well-formed value that this version cannot honour, or that does not go with another one.
    #[error("{origin}: {reason}")]
    Refused {
        /// Where the value stands.
        origin: Origin,
        /// Why it is refused and what to do.
        reason: String,
    },
    /// The settings file cannot be read.
    #[error("file {path}: {reason}")]
    File {
        /// Path as the user wrote it.
        path: String,
        /// What the system, or the TOML parser with its line and column, says.
        reason: String,
    },
    /// A key in the settings file that no setting has.
    #[error("file {path}: unknown key {key:?}, the keys {place} are {known}")]
    UnknownKey {
        /// Path as the user wrote it.
        path: String,
        /// The whole key, `a.b`.
        key: String,
        /// The part of the file that `known` speaks of: `here` or `of a`.
        place: String,
        /// The names that could stand there, separated by commas.
        known: String,
    },
    /// The table of settings and [`super::Settings`] do not fit together. A test shows that this cannot happen.
    #[error("settings do not fit their types: {0}")]
    Internal(String),
}

/// All that is wrong with the settings; at least one [`Problem`]. Displayed with one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The problems: of the file first, then of variables, flags, and of values that do not go together.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// How many characters of a bad value an error text repeats.
const SHOWN_CHARS: usize = 64;

/// A value for an error text: quoted, on one line, cut if it is long.
pub(super) fn quoted(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &value[..end], value.len()),
        None => format!("{value:?}"),
    }
}
