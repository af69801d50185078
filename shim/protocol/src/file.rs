//! Errors of file operations, and the operations that several modules share.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A failed file operation: the operation and the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Returns the kind of the system's error, for callers that branch on it.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// Turns a "not found" error into `None`.
pub(crate) fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes `path`; a missing file is not an error.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    if_found(fs::remove_file(path))
        .map(drop)
        .map_err(|error| FileError::new("remove", path, error))
}

/// Replaces the content of `path` atomically: a reader sees the old content or all of `content`.
/// Only the owner can open the file. Not for concurrent use on one path. The content need not
/// survive a reboot, so it is not synced to disk.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let draft = path.with_extension("new");
    let open = || {
        File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
    };
    let written = open()
        .and_then(|mut file| file.write_all(content))
        .map_err(|error| FileError::new("write", &draft, error));
    let replaced = written.and_then(|()| {
        fs::rename(&draft, path).map_err(|error| FileError::new("replace", path, error))
    });
    if replaced.is_err() {
        // The first error matters more than one of the clean-up.
        let _ = fs::remove_file(&draft);
    }
    replaced
}
