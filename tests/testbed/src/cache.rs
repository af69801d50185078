//! A cache of fetched and built files, shared by all checkouts on this machine and keyed by the
//! inputs.
//!
//! Each entry is a folder `<kind>/<key>`; the key is a digest over all inputs that decide its
//! content. An entry is built in a temporary folder beside its place and renamed, so an incomplete
//! one is never found. If two processes need the same entry, one builds it and the other waits on a
//! lock file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

/// The cache folder of this user: `$XDG_CACHE_HOME/wasmedge-runtime`, or
/// `~/.cache/wasmedge-runtime`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the user's cache folder and creates it if it is missing.
    ///
    /// # Errors
    /// Fails if neither `XDG_CACHE_HOME` nor `HOME` is set, or the folder cannot be made.
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(
                std::env::var_os("HOME")
                    .context("neither XDG_CACHE_HOME nor HOME is set: set one")?,
            )
            .join(".cache"),
        };
        Self::at(base.join("wasmedge-runtime"))
    }

    /// Opens a cache in `root`.
    ///
    /// # Errors
    /// Fails if the folder cannot be made.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)
            .with_context(|| format!("make the cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// Returns the cache folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a folder that a tool manages itself (Go's module cache, cargo's target folder).
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn managed(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Returns the entry `kind/key`. If it is missing, `build` fills an empty folder for it.
    ///
    /// # Errors
    /// Fails if `build` fails; then nothing is cached.
    pub fn entry(
        &self,
        kind: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.managed(kind)?;
        let place = folder.join(&key.0);
        if place.is_dir() {
            return Ok(place);
        }
        let _lock = lock(&folder.join(format!(".{}.lock", key.0)))?;
        if place.is_dir() {
            return Ok(place);
        }
        let draft = tempfile::Builder::new()
            .prefix(".draft-")
            .tempdir_in(&folder)
            .with_context(|| format!("make a folder in {}", folder.display()))?;
        build(draft.path())?;
        let draft = draft.keep();
        fs::rename(&draft, &place)
            .with_context(|| format!("rename {} to {}", draft.display(), place.display()))?;
        Ok(place)
    }
}

/// A digest over every input of a cache entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Computes the key of these inputs; order and boundaries matter.
    pub fn of<T: AsRef<[u8]>>(inputs: impl IntoIterator<Item = T>) -> Self {
        let mut hash = Sha256::new();
        for input in inputs {
            let input = input.as_ref();
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        Self(hex(&hash.finalize())[..32].to_owned())
    }

    /// Returns the key as text that is valid in a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Waits for the lock file at `path` and takes it. Dropping the returned value releases it.
///
/// # Errors
/// Fails if the file cannot be made or locked.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let file =
        File::create(path).with_context(|| format!("make the lock file {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("lock {}", path.display()))
}

/// Formats `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Computes the SHA-256 of the file at `path`, in hexadecimal digits.
///
/// # Errors
/// Fails if it cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| format!("read {}", path.display()))?;
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache")).unwrap();
        (folder, cache)
    }

    #[test]
    fn entry_is_built_once() {
        let (_folder, cache) = cache();
        let key = Key::of(["a"]);
        let first = cache
            .entry("things", &key, |place| {
                Ok(fs::write(place.join("file"), "1")?)
            })
            .unwrap();
        let second = cache
            .entry("things", &key, |_| panic!("built twice"))
            .unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(first.join("file")).unwrap(), "1");
    }

    #[test]
    fn failed_build_leaves_no_entry() {
        let (_folder, cache) = cache();
        let key = Key::of(["a"]);
        cache
            .entry("things", &key, |_| anyhow::bail!("no"))
            .unwrap_err();
        cache
            .entry("things", &key, |place| {
                Ok(fs::write(place.join("file"), "2")?)
            })
            .unwrap();
        assert!(
            !fs::read_dir(cache.root().join("things")).unwrap().any(|e| e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".draft"))
        );
    }

    #[test]
    fn boundary_between_two_inputs_changes_the_key() {
        assert_ne!(Key::of(["ab", "c"]), Key::of(["a", "bc"]));
    }
}
