//! The store: look-ups, locks, remembered failures, usage.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::failures::lock_ignoring_poison;
use rustix::fs::fstatvfs;

use crate::artifact::{Artifact, Fault, Trust, VerifiedFiles};
use crate::draft::{Draft, DraftSpace};
use crate::error::{Step as _, StoreError, Unusable};
use crate::eviction::{Bounds, MAX_ENTRIES};
use crate::folder::{Folder, Locked, is_about_content};
use crate::key::Key;
use crate::lock::{IfHeld, KeyLock};
use crate::mounts::Cloner;
use crate::root::{Folders, Percent, StoreOptions};

mod collection;
mod failures;
mod publish;
mod survey;

use collection::remove_damaged;

pub use collection::{Collected, Removal};
pub use survey::{Content, Listed, Usage, Use, Verdict};

/// How long a look-up waits for a process that tries an entry's lock. Longer, and the entry is
/// being removed.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// The time between two attempts.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// What a file system in memory needs beside the entries.
const MEMORY_OVERHEAD: u64 = 64 * 1024;

/// The artifacts of a node, or those of a process if no folder of the node is usable.
#[derive(Debug)]
pub struct Store {
    place: Place,
    max_bytes: u64,
    max_disk_share: Percent,
    max_entries: u64,
    folders: Mutex<Arc<Folders>>,
    cloner: Arc<Cloner>,
    verified: VerifiedFiles,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Memory,
}

impl Store {
    /// Opens the store of the node, and makes its folders if they do not exist.
    ///
    /// # Errors
    /// When the folder cannot be one, by the reason.
    pub fn open(options: StoreOptions) -> Result<Self, Unusable> {
        let folders = Folders::open(&options.folder)?;
        Ok(Self {
            place: Place::Folder(options.folder),
            max_bytes: options.max_bytes,
            max_disk_share: options.max_disk_share,
            max_entries: MAX_ENTRIES,
            folders: Mutex::new(Arc::new(folders)),
            cloner: Arc::new(Cloner::OfThisProcess),
            verified: VerifiedFiles::default(),
        })
    }

    /// Makes a store of at most `max_bytes` in memory, for this process alone. It has no path, and
    /// is gone with the last value of it.
    ///
    /// # Errors
    /// When the kernel refuses to make a file system or a mount namespace.
    pub fn in_memory(max_bytes: u64) -> Result<Self, Unusable> {
        let size = max_bytes.saturating_add(MEMORY_OVERHEAD);
        Self::in_memory_of(size, max_bytes)
    }

    /// Makes a store in memory whose file system has `size` bytes.
    fn in_memory_of(size: u64, max_bytes: u64) -> Result<Self, Unusable> {
        let path = Path::new("memory");
        let (cloner, root) = Cloner::in_memory(size).map_err(|source| Unusable::Io {
            operation: "make a file system in memory".to_owned(),
            path: path.to_owned(),
            source,
        })?;
        let folders = Folders::in_root(&Folder::from_fd(root), path)?;
        Ok(Self {
            place: Place::Memory,
            max_bytes,
            max_disk_share: Percent::WHOLE,
            max_entries: MAX_ENTRIES,
            folders: Mutex::new(Arc::new(folders)),
            cloner: Arc::new(cloner),
            verified: VerifiedFiles::default(),
        })
    }

    /// Returns the artifact of a key, in use from now on. An entry that is damaged is removed, with
    /// a warning, and counts as none.
    pub fn find(&self, key: &Key) -> Result<Option<Artifact>, StoreError> {
        let folders = self.folders()?;
        let name = key.to_string();
        let step = || format!("look up the artifact {key}");
        let deadline = Instant::now() + BUSY_TIMEOUT;
        loop {
            let entry = match folders.entries.sub(&name) {
                Ok(entry) => entry,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if is_about_content(&error) => {
                    remove_damaged(&folders, key, None, &format!("it is not a folder: {error}"))?;
                    return Ok(None);
                }
                Err(error) => return Err(StoreError::new(step(), error)),
            };
            if entry.try_share().step(step)? == Locked::HeldByAnother {
                if Instant::now() >= deadline {
                    return Ok(None);
                }
                std::thread::sleep(BUSY_INTERVAL);
                continue;
            }
            if !folders.entries.holds(&name, &entry).step(step)? {
                // Removed or replaced since it was opened.
                continue;
            }
            let identity = entry.identity().step(step)?;
            let trust = Trust::OncePerFile(&self.verified);
            match Artifact::read(*key, entry, Arc::clone(&self.cloner), trust) {
                Ok(artifact) => {
                    artifact.mark_used();
                    return Ok(Some(artifact));
                }
                Err(Fault::Unread(error)) => return Err(error),
                Err(Fault::Damaged(what)) => {
                    remove_damaged(&folders, key, Some(identity), &what)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the lock of a key, and waits until it is free: one process on the node compiles it.
    /// After that, [`find`](Self::find) it again.
    pub fn lock(&self, key: &Key) -> Result<KeyLock, StoreError> {
        let lock = KeyLock::take(self.folders()?, *key, IfHeld::Wait)
            .step(|| format!("lock the artifact {key}"))?;
        Ok(lock.expect("a lock that is waited for is taken"))
    }

    /// Takes the lock of a key if it is free.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>, StoreError> {
        KeyLock::take(self.folders()?, *key, IfHeld::GiveUp)
            .step(|| format!("lock the artifact {key}"))
    }

    /// Makes a folder for the result of a compile.
    pub fn draft(&self, lock: &KeyLock, space: DraftSpace) -> Result<Draft, StoreError> {
        Draft::new(lock.key, space)
    }

    /// Makes a file without a name, for the bytes of a module that a later compile needs. It is
    /// gone with its last descriptor.
    pub fn scratch(&self) -> Result<File, StoreError> {
        let folders = self.folders()?;
        folders
            .drafts
            .nameless()
            .step(|| "make a file for a copy of the module")
    }

    /// Returns the open folders. If an administrator removed them, they are made again.
    fn folders(&self) -> Result<Arc<Folders>, StoreError> {
        let mut folders = lock_ignoring_poison(&self.folders);
        if let Place::Folder(path) = &self.place
            && !folders.exist()
        {
            tracing::warn!(folder = %path.display(), "the artifact store was removed: made again");
            *folders = Arc::new(Folders::open(path).map_err(StoreError::Gone)?);
        }
        Ok(Arc::clone(&folders))
    }

    /// Returns what the store may hold now.
    fn bounds(&self, folders: &Folders) -> Result<Bounds, StoreError> {
        let disk = fstatvfs(&folders.entries).step(|| "read the size of the file system")?;
        let share = match self.place {
            Place::Folder(_) => self
                .max_disk_share
                .of(disk.f_blocks.saturating_mul(disk.f_frsize)),
            Place::Memory => u64::MAX,
        };
        Ok(Bounds {
            bytes: self.max_bytes.min(share),
            entries: self.max_entries,
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

fn must_match(lock: &KeyLock, key: Key) -> Result<(), StoreError> {
    if lock.key == key {
        Ok(())
    } else {
        let locked = lock.key;
        Err(StoreError::WrongKey { locked, key })
    }
}

#[cfg(test)]
mod tests;
