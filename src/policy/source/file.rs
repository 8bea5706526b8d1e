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

/// Reads a file, or all files in a directory and below it, sorted by path. Names that begin with a dot are never read, which
/// leaves out the `..data` copies of a Kubernetes volume and editors' swap files; links are followed.
///
/// # Errors
/// A path that is not there or can't be read as a whole. A single unreadable file is listed with its reason.
pub fn read(path: &Path, bounds: FileBounds) -> Result<Vec<SourceFile>, SourceError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
        _ => SourceError::Unreadable {
            path: path.to_owned(),
            error,
        },
    };
    let mut paths = Vec::new();
    if fs::metadata(path).map_err(unreadable)?.is_dir() {
        list(path, bounds, 0, &mut paths)?;
    } else {
        paths.push(path.to_owned());
    }
    paths.sort();
    Ok(paths
        .iter()
        .map(|path| read_one(path, bounds.bytes_max))
        .collect())
}

fn list(dir: &Path, bounds: FileBounds, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), SourceError> {
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
            Ok(meta) if meta.is_dir() => list(&path, bounds, depth + 1, paths)?,
            // A file that is gone by now is not there; one that can't be read is reported when it is read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Opening a pipe would wait for somebody to write into it.
            Ok(meta) if !meta.is_file() => {
                tracing::warn!(path = %path.display(), "not a regular file, not read")
            }
            _ => paths.push(path),
        }
        if paths.len() > bounds.files_max {
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
