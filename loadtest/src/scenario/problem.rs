//! Faults of a TOML file, with the line.

use std::ops::Range;

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{file}:{line}: {message}")]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, with the value.
    pub message: String,
}

/// A text and its name.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    /// `file` is its name in errors.
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// Reads the document's form; unknown keys and wrong types are faults.
    ///
    /// # Errors
    /// The first fault.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        toml::from_str(self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            self.at(&span, error.message().trim().replace('\n', ", "))
        })
    }

    /// A fault at these bytes.
    pub fn at(&self, span: &Range<usize>, message: String) -> Problem {
        let before = self.text.get(..span.start).unwrap_or_default();
        Problem {
            file: self.file.to_owned(),
            line: 1 + before.matches('\n').count(),
            message,
        }
    }

    /// What a check made of a value; its fault gets the value's line.
    ///
    /// # Errors
    /// The check's.
    pub fn check<V, T>(
        &self,
        value: &Spanned<V>,
        check: impl FnOnce(&V) -> Result<T, String>,
    ) -> Result<T, Problem> {
        check(value.get_ref()).map_err(|message| self.at(&value.span(), message))
    }
}
