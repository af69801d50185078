//! Publishing: a helper's result becomes an entry, whole or not at all.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, Mode, fallocate, fchmod, fstat};
use rustix::io::Errno;

use super::collection::{Removal, remove_unused, take_away};
use super::survey::{bytes_of_entry, candidates};
use super::{Store, failures, must_match};
use crate::artifact::{Artifact, CODE, Fault, RECORD, Trust};
use crate::digest::{Hasher, Sha256Digest};
use crate::draft::{ARTIFACT, Draft};
use crate::error::{Step as _, StoreError};
use crate::eviction::{Candidate, Eviction, Fate, Need};
use crate::folder::{Folder, Locked, random_name};
use crate::key::Key;
use crate::lock::KeyLock;
use crate::record::{Made, Record};
use crate::root::Folders;

/// Bytes that are copied at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// Attempts to make a draft. Each fails only if a garbage collection sees it before it is locked.
const MAX_ATTEMPTS: u32 = 8;

impl Store {
    /// Makes the artifact in a draft an entry of the store, and returns it, in use. Entries that
    /// were not used for the longest time are evicted if it needs their space. Nothing is left in
    /// the store if it fails.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the lock ends with the publication, and so does the draft"
    )]
    pub fn publish(&self, lock: KeyLock, draft: Draft, made: Made) -> Result<Artifact, StoreError> {
        let key = made.inputs.key();
        must_match(&lock, key)?;
        must_match(&lock, draft.key)?;
        let folders = self.folders()?;
        let (source, size) = draft.artifact()?;
        self.make_space(&folders, size)?;
        let step = || format!("make a folder to publish the artifact {key}");
        let (name, entry) = make_draft(&folders.drafts).step(step)?;
        let published = self
            .fill(&entry, source, &draft, made)
            .and_then(|()| move_in(&folders, &name, key));
        if let Err(error) = published {
            // What cannot be removed now, the next garbage collection removes.
            let _ = folders.drafts.remove(&name);
            return Err(error);
        }
        let step = || format!("write the name of the artifact {key} to the disk");
        if let Err(error) = folders.entries.sync().step(step) {
            let _ = take_away(&folders, &key.to_string());
            return Err(error);
        }
        // What failed before has succeeded. Else it is forgotten when it is too old.
        let _ = failures::forget_one(&folders, &key);
        let trust = Trust::OncePerFile(&self.verified);
        Artifact::read(key, entry, Arc::clone(&self.cloner), trust).map_err(|fault| match fault {
            Fault::Unread(error) => error,
            Fault::Damaged(what) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, what);
                StoreError::new(format!("read the new artifact {key}"), source)
            }
        })
    }

    /// Copies the artifact into a folder of the store, and writes its record.
    fn fill(
        &self,
        entry: &Folder,
        source: File,
        draft: &Draft,
        made: Made,
    ) -> Result<(), StoreError> {
        let key = draft.key;
        let step = || format!("write the artifact {key}");
        let code = entry.make(CODE).step(step)?;
        let mut target = code.make_file(ARTIFACT).step(step)?;
        let (sha256, size) = copy(source, &mut target, draft)?;
        fchmod(&target, Mode::from_raw_mode(0o444)).step(step)?;
        target.sync_all().step(step)?;
        // Its digest is that of the bytes that were written.
        self.verified.add(&fstat(&target).step(step)?);
        let record = Record::new(made, size, sha256, SystemTime::now());
        entry.write(RECORD, &record.to_bytes()).step(step)?;
        code.chmod(0o555).step(step)?;
        code.sync().step(step)?;
        entry.sync().step(step)
    }

    /// Evicts until there is space for an artifact of this size.
    fn make_space(&self, folders: &Folders, size: u64) -> Result<(), StoreError> {
        let bounds = self.bounds(folders)?;
        let need = Need {
            bytes: bytes_of_entry(size),
            entries: 1,
        };
        let max = bounds.bytes;
        if need.bytes > max {
            return Err(StoreError::TooLarge {
                bytes: need.bytes,
                max,
            });
        }
        let candidates = candidates(folders)?;
        let mut eviction = Eviction::new(candidates, bounds, need, SystemTime::now());
        evict(folders, &mut eviction)?;
        if eviction.is_done() {
            Ok(())
        } else {
            let needed = need.bytes;
            Err(StoreError::Full { needed, max })
        }
    }
}

/// Removes candidates until the decision is satisfied. Returns them with their bytes.
pub(super) fn evict(
    folders: &Folders,
    eviction: &mut Eviction,
) -> Result<Vec<(Key, u64)>, StoreError> {
    let mut evicted = Vec::new();
    while let Some(candidate) = eviction.next() {
        let fate = match remove_unused(folders, &candidate.key)? {
            Removal::InUse => Fate::Kept,
            Removal::Removed | Removal::Missing => Fate::Removed,
        };
        if fate == Fate::Removed {
            let Candidate { key, bytes, .. } = candidate;
            tracing::info!(%key, bytes, "evicted an artifact");
            evicted.push((key, bytes));
        }
        eviction.count(&candidate, fate);
    }
    Ok(evicted)
}

/// Gives a finished entry its name.
fn move_in(folders: &Folders, draft: &str, key: Key) -> Result<(), StoreError> {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    let step = || format!("publish the artifact {key}");
    let name = key.to_string();
    let rename = || folders.drafts.rename(draft, &folders.entries, &name);
    match rename() {
        // Published by a process whose lock an administrator removed, or something else that has
        // this name. The one that was just made is sound.
        Err(error) if [AlreadyExists, DirectoryNotEmpty, NotADirectory].contains(&error.kind()) => {
            take_away(folders, &name).step(step)?;
            rename().step(step)
        }
        result => result.step(step),
    }
}

/// Makes a folder in `drafts` and takes it for this process, as [`Artifact`] has an entry: from the
/// first moment to the last use, no collection sees it unlocked.
pub(super) fn make_draft(drafts: &Folder) -> io::Result<(String, Folder)> {
    for _ in 0..MAX_ATTEMPTS {
        let name = random_name()?;
        let folder = match drafts.make(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && drafts.exists() => continue,
            folder => folder?,
        };
        if folder.try_share()? == Locked::Yes && drafts.holds(&name, &folder)? {
            return Ok((name, folder));
        }
    }
    Err(io::Error::from(Errno::BUSY))
}

/// Copies at most what a draft may hold: the helper may still write.
fn copy(
    mut source: File,
    target: &mut File,
    draft: &Draft,
) -> Result<(Sha256Digest, u64), StoreError> {
    let step = || format!("copy the artifact {}", draft.key);
    let size = source.metadata().step(step)?.len();
    // A full disk is found before anything is written, where the file system can do that.
    match fallocate(
        target.as_fd(),
        FallocateFlags::empty(),
        0,
        size.min(draft.max_bytes()),
    ) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error).step(step),
    }
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = size.min(draft.max_bytes());
    while left > 0 {
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match source.read(&mut buffer[..wanted]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.step(step)?,
        };
        if count == 0 {
            let what = format!("`{ARTIFACT}` became shorter while it was copied");
            return Err(StoreError::BadDraft(what));
        }
        target.write_all(&buffer[..count]).step(step)?;
        hasher.update(&buffer[..count]);
        left -= count as u64;
    }
    Ok(hasher.end())
}
