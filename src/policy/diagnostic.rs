//! What is wrong with a policy file, and where.
//!
//! A file is never judged by its first fault alone: everything that is found is reported, in the order of the file. An
//! [`Severity::Error`] keeps the file's domain as it was; a [`Severity::Warning`] is loaded, but `check` fails on it.

use std::fmt;
use std::sync::Arc;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The first character of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// What a diagnostic does to the file it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused: the reference server refuses it too, or one of our own keys is wrong.
    Error,
    /// The file is loaded, read as the reference server reads it; it hardly says what its author meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One fault of a policy file.
///
/// Displayed as `PATH:LINE:COLUMN: SEVERITY: TEXT`, as compilers do, then the line and a marker below the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub path: Arc<str>,
    /// Where the fault begins.
    pub place: Place,
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub text: String,
    /// The part of the line around the place.
    pub excerpt: Excerpt,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            place: Place { line, column },
            severity,
            text,
            excerpt,
        } = self;
        writeln!(f, "{path}:{line}:{column}: {severity}: {text}")?;
        let excerpt_text = if excerpt.text.is_empty() {
            ""
        } else {
            &format!(" {}", excerpt.text)
        };
        writeln!(f, "{line:>5} |{excerpt_text}")?;
        write!(f, "      | {:marker$}^", "", marker = excerpt.marker)
    }
}

/// At most [`Excerpt::WIDTH`] characters of a source line, safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The characters; tabs are spaces, and where the line was cut there is an ellipsis.
    pub text: String,
    /// How many characters of `text` stand before the marked one.
    pub marker: usize,
}

impl Excerpt {
    /// The most characters of a line that are shown, ellipses not counted.
    pub const WIDTH: usize = 100;
    /// How many of them may stand before the marker.
    const BEFORE: usize = 60;

    /// The line around the byte `at`, which must lie on a character boundary of `source`.
    fn around(source: &str, at: usize) -> Self {
        let (head, tail) = source.split_at(at);
        let mut before: Vec<char> = head
            .chars()
            .rev()
            .take_while(|&c| !is_break(c))
            .take(Self::BEFORE + 1)
            .collect();
        before.reverse();
        let after_max = Self::WIDTH - before.len().min(Self::BEFORE);
        let after: Vec<char> = tail
            .chars()
            .take_while(|&c| !is_break(c))
            .take(after_max + 1)
            .collect();

        let mut text = String::with_capacity(Self::WIDTH);
        let mut shown = before.as_slice();
        if shown.len() > Self::BEFORE {
            text.push('…');
            shown = &shown[1..];
        }
        let marker = shown.len() + usize::from(!text.is_empty());
        text.extend(shown.iter().copied().map(printable));
        text.extend(after.iter().take(after_max).copied().map(printable));
        if after.len() > after_max {
            text.push('…');
        } else {
            text.truncate(text.trim_end().len());
        }
        Self { text, marker }
    }
}

/// Collects the diagnostics of one file, bounded however broken the file is.
#[derive(Debug)]
pub struct Report<'a> {
    path: Arc<str>,
    source: &'a str,
    found: Vec<(Place, Severity, String)>,
    errors: usize,
    warnings: usize,
}

impl<'a> Report<'a> {
    /// The most diagnostics of each severity that are kept; further ones are only counted.
    pub const KEPT_MAX: usize = 1_000;

    /// An empty report on `source`, the text of the file at `path`.
    pub fn new(path: Arc<str>, source: &'a str) -> Self {
        Self {
            path,
            source,
            found: Vec::new(),
            errors: 0,
            warnings: 0,
        }
    }

    /// Adds what refuses the file.
    pub fn error(&mut self, place: Place, text: impl fmt::Display) {
        self.errors += 1;
        if self.errors <= Self::KEPT_MAX {
            self.found.push((place, Severity::Error, text.to_string()));
        }
    }

    /// Adds what is loaded, but hardly meant.
    pub fn warning(&mut self, place: Place, text: impl fmt::Display) {
        self.warnings += 1;
        if self.warnings <= Self::KEPT_MAX {
            self.found.push((place, Severity::Warning, text.to_string()));
        }
    }

    /// Whether anything refuses the file.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The diagnostics in the order of the file, each once, also if an alias made it several times.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        let left_out =
            self.errors.saturating_sub(Self::KEPT_MAX) + self.warnings.saturating_sub(Self::KEPT_MAX);
        self.found.sort();
        self.found.dedup();
        if let (1.., Some(&(place, severity, _))) = (left_out, self.found.last()) {
            self.found
                .push((place, severity, format!("{left_out} more problems are not shown")));
        }
        let mut cursor = Cursor {
            source: self.source,
            at: 0,
            place: Place::START,
        };
        let mut diagnostics = Vec::with_capacity(self.found.len());
        for (place, severity, text) in self.found {
            let excerpt = Excerpt::around(self.source, cursor.advance(place));
            diagnostics.push(Diagnostic {
                path: self.path.clone(),
                place,
                severity,
                text,
                excerpt,
            });
        }
        diagnostics
    }
}

/// Finds the bytes of ascending places in one walk over the text, also if it is one long line.
struct Cursor<'a> {
    source: &'a str,
    at: usize,
    place: Place,
}

impl Cursor<'_> {
    /// The byte of `goal`, or the end of its line or of the text if that comes before.
    fn advance(&mut self, goal: Place) -> usize {
        let mut rest = self.source[self.at..].chars();
        while self.place < goal {
            let Some(c) = rest.next() else { break };
            let ends_line = c == '\n' || (c == '\r' && !rest.as_str().starts_with('\n'));
            if is_break(c) && self.place.line == goal.line {
                break;
            }
            self.at += c.len_utf8();
            if ends_line {
                self.place = Place {
                    line: self.place.line + 1,
                    column: 1,
                };
            } else {
                self.place.column += 1;
            }
        }
        self.at
    }
}

fn is_break(c: char) -> bool {
    c == '\n' || c == '\r'
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A value from outside, quoted for a text: on one line, and cut after [`Quoted::MAX`] characters.
#[derive(Debug)]
pub struct Quoted<'a>(pub &'a str);

impl Quoted<'_> {
    /// The most characters of the value that are shown.
    pub const MAX: usize = 80;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for (index, c) in self.0.chars().enumerate() {
            if index == Self::MAX {
                f.write_str("…")?;
                break;
            }
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                write!(f, "{c}")?
            }
        }
        f.write_str("'")
    }
}
