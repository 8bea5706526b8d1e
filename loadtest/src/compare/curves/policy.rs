//! Policy files of any size.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// One rule for all values of `id`: so many hits a window of so many seconds.
    Plain {
        /// The algorithm.
        algorithm: &'static str,
        /// In the window.
        hits: u64,
        /// Its length.
        seconds: u64,
    },
    /// So many rules for `id=user-NNNNNNNN`.
    Exact(u64),
    /// So many rules for keys `kNNNNNNNN`.
    KeyOnly(u64),
    /// So many rules for `id=wNNNN-*`, and one for all other values.
    Wildcards(u64),
    /// Keys `d1` to `dN`, one below the other.
    Deep(u64),
}

/// Never reached.
const LIMIT: &str = "rate_limit: {unit: hour, requests_per_unit: 1000000000}";

impl Policy {
    /// The usual one: nothing is ever denied.
    pub const OPEN: Self = Self::Plain {
        algorithm: "sliding_window",
        hits: 1_000_000_000,
        seconds: 3_600,
    };

    /// Writes the file; all of them are for the domain `bench`.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "domain: bench\ndescriptors:")?;
        match self {
            Self::Plain {
                algorithm,
                hits,
                seconds,
            } => writeln!(
                out,
                "  - {{key: id, rate_limit: {{algorithm: {algorithm}, unit: second, unit_multiplier: {seconds}, requests_per_unit: {hits}}}}}"
            )?,
            Self::Exact(count) => {
                for rule in 0..*count {
                    writeln!(out, "  - {{key: id, value: user-{rule:08}, {LIMIT}}}")?;
                }
            }
            Self::KeyOnly(count) => {
                for rule in 0..*count {
                    writeln!(out, "  - {{key: k{rule:08}, {LIMIT}}}")?;
                }
            }
            Self::Wildcards(count) => {
                for rule in 0..*count {
                    writeln!(out, "  - {{key: id, value: \"w{rule:04}-*\", {LIMIT}}}")?;
                }
                writeln!(out, "  - {{key: id, {LIMIT}}}")?;
            }
            Self::Deep(depth) => deep(&mut out, *depth)?,
        }
        out.flush()
    }
}

fn deep(out: &mut impl Write, depth: u64) -> io::Result<()> {
    let mut indent = "  ".to_owned();
    for level in 1..=depth {
        writeln!(out, "{indent}- key: d{level}")?;
        if level == depth {
            writeln!(out, "{indent}  {LIMIT}")?;
        } else {
            writeln!(out, "{indent}  descriptors:")?;
            indent.push_str("    ");
        }
    }
    Ok(())
}
