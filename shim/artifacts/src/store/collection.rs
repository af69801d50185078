//! Removal of entries, and the collection of what killed processes left.

use std::io;
use std::time::SystemTime;

use super::publish::evict;
use super::survey::candidates;
use super::{Store, failures};
use crate::artifact::Artifact;
use crate::error::{Step as _, StoreError};
use crate::eviction::{Eviction, Need};
use crate::folder::{Folder, Identity, Locked, is_about_content, random_name};
use crate::key::Key;
use crate::lock;
use crate::root::Folders;

/// What became of an entry that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was removed.
    Removed,
    /// There was none.
    Missing,
    /// It is in use, and stays.
    InUse,
}

/// What a garbage collection removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Entries that the limits do not allow, with their bytes.
    pub evicted: Vec<(Key, u64)>,
    /// Publications and removals that did not end.
    pub drafts: usize,
    /// Remembered failures that are too old, from the future, or too many.
    pub failures: usize,
    /// Lock files without a holder.
    pub locks: usize,
}

impl Store {
    /// Removes an entry that is not in use, and the remembered failure of its key.
    pub fn remove(&self, key: &Key) -> Result<Removal, StoreError> {
        let folders = self.folders()?;
        let forgotten = failures::forget_one(&folders, key)
            .step(|| format!("forget the failed compile of {key}"))?;
        match remove_unused(&folders, key)? {
            Removal::Missing if forgotten => Ok(Removal::Removed),
            removal => Ok(removal),
        }
    }

    /// Removes an artifact that an engine refused to load. Guests that have mapped it keep it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what is discarded is not used any more"
    )]
    pub fn discard(&self, artifact: Artifact) -> Result<(), StoreError> {
        let key = artifact.record().key;
        let folders = self.folders()?;
        let step = || format!("remove the artifact {key}");
        // Not one that was published since.
        let name = key.to_string();
        if folders.entries.holds(&name, artifact.entry()).step(step)? {
            take_away(&folders, &name).step(step)?;
        }
        Ok(())
    }

    /// Removes entries that the limits do not allow, and what processes left that were killed.
    pub fn collect_garbage(&self) -> Result<Collected, StoreError> {
        let folders = self.folders()?;
        let now = SystemTime::now();
        let drafts = sweep_drafts(&folders.drafts).step(|| "remove unfinished artifacts")?;
        let bounds = self.bounds(&folders)?;
        let candidates = candidates(&folders)?;
        let mut eviction = Eviction::new(candidates, bounds, Need::default(), now);
        let evicted = evict(&folders, &mut eviction)?;
        let step = || "forget old failures";
        let failures = failures::forget_old(&folders, now).step(step)?;
        let locks = lock::sweep(&folders.locks).step(|| "remove lock files without a holder")?;
        Ok(Collected {
            evicted,
            drafts,
            failures,
            locks,
        })
    }
}

/// Removes an entry if none uses it.
pub(super) fn remove_unused(folders: &Folders, key: &Key) -> Result<Removal, StoreError> {
    let name = key.to_string();
    let step = || format!("remove the artifact {key}");
    let entry = match folders.entries.sub(&name) {
        Ok(entry) => Some(entry),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Missing),
        // Not a folder: it cannot be in use.
        Err(error) if is_about_content(&error) => None,
        Err(error) => return Err(StoreError::new(step(), error)),
    };
    if let Some(entry) = &entry {
        if entry.try_lock().step(step)? == Locked::HeldByAnother {
            return Ok(Removal::InUse);
        }
        if !folders.entries.holds(&name, entry).step(step)? {
            return Ok(Removal::Missing);
        }
    }
    take_away(folders, &name).step(step)?;
    Ok(Removal::Removed)
}

/// Removes an entry that is not what it should be, also if it is in use. If its identity is known,
/// nothing else that has its name by now.
pub(super) fn remove_damaged(
    folders: &Folders,
    key: &Key,
    identity: Option<Identity>,
    what: &str,
) -> Result<(), StoreError> {
    tracing::warn!(%key, reason = what, "an artifact is damaged: removed");
    let name = key.to_string();
    let step = || format!("remove the damaged artifact {key}");
    let is_it = match identity {
        Some(identity) => folders.entries.is(&name, identity).step(step)?,
        None => true,
    };
    if is_it {
        take_away(folders, &name).step(step)?;
    }
    Ok(())
}

/// Takes an entry out of the store by one rename, then removes it. If this process is killed in
/// between, the next garbage collection goes on.
pub(super) fn take_away(folders: &Folders, name: &str) -> io::Result<()> {
    let draft = random_name()?;
    match folders.entries.rename(name, &folders.drafts, &draft) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    // It is out of the store. That something of it stays is not a failure of what asked for that.
    if let Err(error) = folders.drafts.remove(&draft) {
        tracing::warn!(name, %error, "cannot remove the files of an artifact that was taken out");
    }
    Ok(())
}

/// Removes what no process works on. Returns how many. What cannot be removed is reported and left:
/// it must not prevent the rest.
fn sweep_drafts(drafts: &Folder) -> io::Result<usize> {
    let mut removed = 0;
    for name in drafts.names()? {
        match sweep_draft(drafts, &name) {
            Ok(Removal::Removed) => removed += 1,
            Ok(Removal::Missing | Removal::InUse) => {}
            Err(error) => tracing::warn!(name, %error, "cannot remove an unfinished artifact"),
        }
    }
    Ok(removed)
}

fn sweep_draft(drafts: &Folder, name: &str) -> io::Result<Removal> {
    match drafts.sub(name) {
        Ok(folder) => {
            if folder.try_lock()? == Locked::HeldByAnother {
                return Ok(Removal::InUse);
            }
            drafts.remove(name)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Missing),
        // Not a folder, so not ours.
        Err(error) if is_about_content(&error) => drafts.unlink(name)?,
        Err(error) => return Err(error),
    }
    Ok(Removal::Removed)
}
