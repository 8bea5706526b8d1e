//! Policy files in a directory.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::super::loader::SourceFile;

/// Directories below the policy directory that are looked into, one below the other.
const DEPTH_MAX: usize = 16;

/// Bounds of what is read.
#[derive(Clone, Copy, Debug)]
pub struct FileBounds {
    /// Bytes a file.
    pub bytes_max: u64,
    /// Files in all.
    pub files_max: usize,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file or directory.
    #[error("{0}: no such file or directory")]
    Missing(PathBuf),
    /// The directory can't be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// There are more files than are allowed.
    #[error("{path}: more than {max} files")]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The bound.
        max: usize,
    },
    /// Directories stand too deep within each other.
    #[error("{0}: directories deeper than 16")]
    TooDeep(PathBuf),
}

/// Files to be read.
#[derive(Clone, Debug, Default)]
pub struct Found {
    paths: Vec<PathBuf>,
    /// How long they are together, as far as that is known.
    pub bytes: u64,
}

impl Found {
    /// Reads them. One that can't be read is listed with its reason.
    #[must_use]
    pub fn read(&self, bounds: FileBounds) -> Vec<SourceFile> {
        self.paths
            .iter()
            .map(|path| read_one(path, bounds.bytes_max))
            .collect()
    }
}

/// Reads a file, or all files in a directory and below it; see [`find`] and [`Found::read`].
///
/// # Errors
/// Those of [`find`].
pub fn read(path: &Path, bounds: FileBounds) -> Result<Vec<SourceFile>, SourceError> {
    Ok(find(path, bounds)?.read(bounds))
}

/// Looks for a file, or all files in a directory and below it, sorted by path. Names that begin with a dot are passed over, which
/// leaves out the `..data` copies of a Kubernetes volume and editors' swap files; links are followed.
///
/// # Errors
/// A path that is not there or can't be read as a whole.
pub fn find(path: &Path, bounds: FileBounds) -> Result<Found, SourceError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
        _ => SourceError::Unreadable {
            path: path.to_owned(),
            error,
        },
    };
    let mut found = Found::default();
    let meta = fs::metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        list(path, bounds, 0, &mut found)?;
    } else {
        found.paths.push(path.to_owned());
        found.bytes = meta.len();
    }
    found.paths.sort();
    Ok(found)
}

fn list(dir: &Path, bounds: FileBounds, depth: usize, found: &mut Found) -> Result<(), SourceError> {
    if depth > DEPTH_MAX {
        return Err(SourceError::TooDeep(dir.to_owned()));
    }
    let unreadable = |error| SourceError::Unreadable {
        path: dir.to_owned(),
        error,
    };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => list(&path, bounds, depth + 1, found)?,
            // A file that is gone by now is not there; one that can't be read is reported when it is read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Opening a pipe would wait for somebody to write into it.
            Ok(meta) if !meta.is_file() => {
                tracing::warn!(path = %path.display(), "not a regular file, not read")
            }
            meta => {
                found.paths.push(path);
                found.bytes += meta.map_or(0, |meta| meta.len());
            }
        }
        if found.paths.len() > bounds.files_max {
            return Err(SourceError::TooMany {
                path: dir.to_owned(),
                max: bounds.files_max,
            });
        }
    }
    Ok(())
}

fn read_one(path: &Path, bytes_max: u64) -> SourceFile {
    let Some(name) = path.to_str() else {
        // Two such names can look alike; with their bytes escaped they don't.
        let content = Err("the file's name is not UTF-8".to_owned());
        return SourceFile {
            path: format!("{path:?}").into(),
            content,
        };
    };
    SourceFile {
        path: name.into(),
        content: text_of(path, bytes_max),
    }
}

fn text_of(path: &Path, bytes_max: u64) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("file is larger than {bytes_max} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
