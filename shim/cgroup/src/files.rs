//! The kernel's files, read and written whole.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::CgroupError;

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(CgroupError::io("read", path))
}

/// What a file holds, if there is such a file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens for writing what must be there: the kernel's files are not made by opening them.
pub(crate) fn open(path: &Path) -> Result<File, CgroupError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(CgroupError::io("open", path))
}

/// Writes `value` in one call, as the kernel wants it.
pub(crate) fn write(path: &Path, value: &str, field: &str) -> Result<(), CgroupError> {
    put(&mut open(path)?, path, value, field)
}

/// As [`write()`], into a file that is open already.
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

/// The folders in a folder. A folder that is gone has none.
pub(crate) fn folders(path: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let entries = match fs::read_dir(path).map_err(CgroupError::io("read", path)) {
        Ok(entries) => entries,
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        // What vanishes while the folder is listed is no folder any more.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A number of the kernel's; `max` is [`u64::MAX`].
pub(crate) fn parse(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The value of `key` in lines of `key value`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(parse)
}
