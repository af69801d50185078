//! A download: a hidden file and the digest of its bytes so far.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Archive, FetchError, hex};

/// Prefix of downloads. The next run removes what a killed one left.
const PREFIX: &str = ".fetch-";
/// Bytes between two log lines.
const LOG_INTERVAL: u64 = 16 << 20;

/// An unfinished download. The file is removed on drop.
#[derive(Debug)]
pub(super) struct Download<'a> {
    origin: &'a str,
    file: NamedTempFile,
    hash: Sha256,
    length: u64,
    limit: u64,
}

impl<'a> Download<'a> {
    /// Starts a download of `origin` of at most `limit` bytes.
    pub(super) fn new(origin: &'a str, folder: &Path, limit: u64) -> Result<Self, FetchError> {
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(".tar.gz")
            .tempfile_in(folder)
            .map_err(FetchError::host("make a file in", folder))?;
        Ok(Self {
            origin,
            file,
            hash: Sha256::new(),
            length: 0,
            limit,
        })
    }

    /// Fails if the announced length is too large, before a byte is downloaded.
    pub(super) fn check_length(&self, length: Option<u64>) -> Result<(), FetchError> {
        match length {
            Some(length) if length > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    /// Adds the next bytes. Blocks on the disk; the installer does nothing else meanwhile.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let before = self.length / LOG_INTERVAL;
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(self.too_large());
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(FetchError::host("write", self.file.path()))?;
        if self.length / LOG_INTERVAL != before {
            tracing::info!(origin = self.origin, bytes = self.length, "downloading");
        }
        Ok(())
    }

    /// Returns the archive if it has the digest `expected`.
    pub(super) fn finish(mut self, expected: &str) -> Result<Archive, FetchError> {
        let found = hex(&self.hash.finalize());
        if found != expected {
            return Err(FetchError::Digest {
                origin: self.origin.to_owned(),
                expected: expected.to_owned(),
                found,
            });
        }
        self.file
            .flush()
            .map_err(FetchError::host("write", self.file.path()))?;
        tracing::info!(
            origin = self.origin,
            bytes = self.length,
            sha256 = found,
            "downloaded"
        );
        Ok(Archive {
            path: self.file.path().to_owned(),
            sha256: found,
            _download: Some(self.file.into_temp_path()),
        })
    }

    fn too_large(&self) -> FetchError {
        FetchError::TooLarge {
            origin: self.origin.to_owned(),
            limit: self.limit,
        }
    }
}

/// Removes what killed runs left in `folder`.
pub(super) fn remove_leftovers(folder: &Path) -> Result<(), FetchError> {
    for entry in fs::read_dir(folder).map_err(FetchError::host("list", folder))? {
        let entry = entry.map_err(FetchError::host("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let path = entry.path();
            fs::remove_file(&path).map_err(FetchError::host("remove", &path))?;
        }
    }
    Ok(())
}
