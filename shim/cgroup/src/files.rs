//! Whole reads and writes of the kernel's files.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::CgroupError;

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(CgroupError::io("read", path))
}

/// Reads a file; returns None if it does not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens an existing file for writing: opening does not create the kernel's files.
pub(crate) fn open(path: &Path) -> Result<File, CgroupError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(CgroupError::io("open", path))
}

/// Writes `value` in one call, as the kernel requires.
pub(crate) fn write(path: &Path, value: &str, field: &str) -> Result<(), CgroupError> {
    put(&mut open(path)?, path, value, field)
}

/// Writes as [`write()`] does, to an open file.
pub(crate) fn put(
    file: &mut File,
    path: &Path,
    value: &str,
    field: &str,
) -> Result<(), CgroupError> {
    file.write_all(value.as_bytes())
        .map_err(|source| CgroupError::Set {
            field: field.to_owned(),
            path: path.to_owned(),
            value: value.to_owned(),
            source,
        })
}

/// Lists the subfolders of a folder. A missing folder has none.
pub(crate) fn folders(path: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match fs::read_dir(path).map_err(CgroupError::io("read", path)) {
        Ok(entries) => entries,
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        // Entries that vanish while the folder is listed are skipped.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Parses a number of the kernel; `max` becomes [`u64::MAX`].
pub(crate) fn parse(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Finds the value of `key` in lines of `key value`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(parse)
}
