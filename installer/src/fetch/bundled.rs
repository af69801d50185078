//! The archive in the installer's own image.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Archive, FetchError, hex};

/// Verifies the archive at `path` with the digest beside it: an image's layer can be damaged on a
/// node's disk.
pub(super) fn find(path: &Path) -> Result<Archive, FetchError> {
    let beside = PathBuf::from(format!("{}.sha256", path.display()));
    let missing = |path: &Path| {
        let path = path.to_owned();
        move |source| FetchError::NotBundled { path, source }
    };
    let text = fs::read_to_string(&beside).map_err(missing(&beside))?;
    // The format of `sha256sum`: the digest, then the file's name.
    let expected = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    let found = File::open(path).and_then(digest).map_err(missing(path))?;
    if found != expected {
        return Err(FetchError::Digest {
            origin: path.display().to_string(),
            expected,
            found,
        });
    }
    Ok(Archive {
        path: path.to_owned(),
        sha256: found,
        _download: None,
    })
}

fn digest(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
