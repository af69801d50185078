//! A download in the making: a hidden file that grows, and the digest of what is in it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Archive, FetchError, hex};

/// Begins the names of downloads. They are removed by whoever comes next.
const DRAFT: &str = ".fetch-";
/// Bytes between two lines of the log.
const STEP: u64 = 16 << 20;

/// What has arrived so far. Dropped before its end, it is removed.
#[derive(Debug)]
pub(super) struct Download<'a> {
    origin: &'a str,
    file: NamedTempFile,
    hash: Sha256,
    length: u64,
    limit: u64,
}

impl<'a> Download<'a> {
    /// Nothing yet of `origin`, of which at most `limit` bytes are taken.
    pub(super) fn new(origin: &'a str, folder: &Path, limit: u64) -> Result<Self, FetchError> {
        let file = tempfile::Builder::new()
            .prefix(DRAFT)
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

    /// Refuses before a byte was sent, where the sender says how many there are.
    pub(super) fn announce(&self, length: Option<u64>) -> Result<(), FetchError> {
        match length {
            Some(length) if length > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    /// Takes the next bytes. Waits for the disk: nothing else happens in an installer meanwhile.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let before = self.length / STEP;
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(self.too_large());
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(FetchError::host("write", self.file.path()))?;
        if self.length / STEP != before {
            tracing::info!(origin = self.origin, bytes = self.length, "downloading");
        }
        Ok(())
    }

    /// The archive, if it is the expected one.
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

/// Removes what killed attempts left in `folder`.
pub(super) fn remove_leftovers(folder: &Path) -> Result<(), FetchError> {
    for entry in fs::read_dir(folder).map_err(FetchError::host("list", folder))? {
        let entry = entry.map_err(FetchError::host("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            let path = entry.path();
            fs::remove_file(&path).map_err(FetchError::host("remove", &path))?;
        }
    }
    Ok(())
}
