//! Surveys of the store: usage, list, verification.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::Store;
use crate::artifact::{Artifact, CODE, Fault, RECORD, Trust};
use crate::draft::ARTIFACT;
use crate::error::{Step as _, StoreError};
use crate::eviction::Candidate;
use crate::folder::{Folder, Locked, is_about_content};
use crate::key::Key;
use crate::record::{MAX_FILE_BYTES, Record, Unreadable};
use crate::root::Folders;

/// Sizes are counted in blocks of this size.
const BLOCK_BYTES: u64 = 4096;
/// Blocks of an entry's two folders and its record.
const ENTRY_BLOCKS: u64 = 3;

/// What the store holds, and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes: the smaller one of the two limits.
    pub max_bytes: u64,
    /// The most entries.
    pub max_entries: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
}

/// An entry in a list.
#[derive(Debug)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its bytes on the disk, with its record.
    pub bytes: u64,
    /// When it was used last. A clock that was wrong shows here.
    pub last_use: SystemTime,
    /// Whether it is in use.
    pub in_use: Use,
    /// What it is.
    pub content: Content,
}

/// Whether a process uses an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A process does.
    InUse,
    /// None does: it can be evicted.
    Idle,
}

/// What the record of an entry contains.
#[derive(Debug)]
pub enum Content {
    /// The record.
    Known(Box<Record>),
    /// A record of another version of the runtime, by the number of its format.
    OtherFormat(u32),
    /// Something else. The next use of its key removes it.
    Damaged(String),
}

/// The result of a verification.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The artifact is the one of its record.
    Sound,
    /// The record is of another version of the runtime, by the number of its format.
    OtherFormat(u32),
    /// It is not; the next use of its key removes it.
    Damaged(String),
    /// It is being removed.
    Leaving,
}

impl Store {
    /// Returns what the store holds, and may hold.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let folders = self.folders()?;
        let bounds = self.bounds(&folders)?;
        let entries = candidates(&folders)?;
        Ok(Usage {
            entries: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            max_bytes: bounds.bytes,
            max_entries: bounds.entries,
            free_bytes: bounds.free,
        })
    }

    /// Returns all entries, the last used one first.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let folders = self.folders()?;
        let mut all = Vec::new();
        for candidate in candidates(&folders)? {
            let key = candidate.key;
            let (in_use, content) =
                describe(&folders.entries, key).step(|| format!("look at the artifact {key}"))?;
            all.push(Listed {
                key,
                bytes: candidate.bytes,
                last_use: candidate.last_use,
                in_use,
                content,
            });
        }
        all.sort_by(|a, b| (b.last_use, a.key).cmp(&(a.last_use, b.key)));
        Ok(all)
    }

    /// Reads the artifact of a key and compares its digest. None if there is no such entry.
    pub fn verify(&self, key: &Key) -> Result<Option<Verdict>, StoreError> {
        let folders = self.folders()?;
        let name = key.to_string();
        let step = || format!("verify the artifact {key}");
        let entry = match folders.entries.sub(&name) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_about_content(&error) => {
                return Ok(Some(Verdict::Damaged(format!(
                    "it is not a folder: {error}"
                ))));
            }
            Err(error) => return Err(StoreError::new(step(), error)),
        };
        if entry.try_share().step(step)? == Locked::HeldByAnother {
            return Ok(Some(Verdict::Leaving));
        }
        if let Some(format) = other_format(&entry, *key) {
            return Ok(Some(Verdict::OtherFormat(format)));
        }
        match Artifact::read(*key, entry, Arc::clone(&self.cloner), Trust::Never) {
            Ok(_) => Ok(Some(Verdict::Sound)),
            Err(Fault::Damaged(what)) => Ok(Some(Verdict::Damaged(what))),
            Err(Fault::Unread(error)) => Err(error),
        }
    }
}

/// Returns the entries as eviction sees them. What has no key as its name is not ours.
pub(super) fn candidates(folders: &Folders) -> Result<Vec<Candidate>, StoreError> {
    let step = || "list the artifacts";
    let mut candidates = Vec::new();
    for name in folders.entries.names().step(step)? {
        let Ok(key) = name.parse() else { continue };
        if let Some((bytes, last_use)) = measure(&folders.entries, &name).step(step)? {
            candidates.push(Candidate {
                key,
                bytes,
                last_use,
            });
        }
    }
    Ok(candidates)
}

/// Returns the bytes that an entry with an artifact of this size takes.
pub(super) fn bytes_of_entry(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES)
        .saturating_add(ENTRY_BLOCKS)
        .saturating_mul(BLOCK_BYTES)
}

/// Returns the bytes and the time of an entry; none if it is gone.
fn measure(entries: &Folder, name: &str) -> io::Result<Option<(u64, SystemTime)>> {
    let stat = match entries.stat(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        stat => stat?,
    };
    let size = entries
        .sub(name)
        .and_then(|entry| entry.sub(CODE))
        .and_then(|code| code.stat(ARTIFACT))
        .map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    Ok(Some((bytes_of_entry(size), modified(&stat))))
}

fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::new(seconds, nanoseconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn describe(entries: &Folder, key: Key) -> io::Result<(Use, Content)> {
    let entry = match entries.sub(&key.to_string()) {
        Err(error) if is_about_content(&error) => {
            let what = format!("it is not a folder: {error}");
            return Ok((Use::Idle, Content::Damaged(what)));
        }
        entry => entry?,
    };
    let in_use = match entry.try_lock()? {
        Locked::HeldByAnother => Use::InUse,
        Locked::Yes => {
            entry.unlock()?;
            Use::Idle
        }
    };
    Ok((in_use, content(&entry, key)))
}

fn content(entry: &Folder, key: Key) -> Content {
    let record = entry
        .read(RECORD, MAX_FILE_BYTES)
        .map_err(|error| Unreadable::Damaged(error.to_string()))
        .and_then(|bytes| Record::read(&bytes, key));
    match record {
        Ok(record) => Content::Known(Box::new(record)),
        Err(Unreadable::Format(format)) => Content::OtherFormat(format),
        Err(Unreadable::Damaged(what)) => Content::Damaged(format!("its `{RECORD}`: {what}")),
    }
}

fn other_format(entry: &Folder, key: Key) -> Option<u32> {
    match content(entry, key) {
        Content::OtherFormat(format) => Some(format),
        Content::Known(_) | Content::Damaged(_) => None,
    }
}
