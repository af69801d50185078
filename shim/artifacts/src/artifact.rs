//! An artifact in use.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use failures::lock_ignoring_poison;
use rustix::fs::{Mode, OFlags, Stat};

use crate::digest::Sha256Digest;
use crate::draft::ARTIFACT;
use crate::error::{Step as _, StoreError};
use crate::folder::{Folder, Identity, is_about_content, open_in};
use crate::key::Key;
use crate::mounts::Cloner;
use crate::record::{MAX_FILE_BYTES, Record};

/// The record of an entry, in its folder.
pub(crate) const RECORD: &str = "record.json";
/// The folder of the artifact, in that of the entry: all that a guest sees.
pub(crate) const CODE: &str = "code";
/// Files whose digests are remembered as verified. Forgotten ones are verified anew.
const MAX_VERIFIED: usize = 16 * 1024;

/// An entry of the store in use: as long as this value or its process lives, it is not evicted.
///
/// An administrator can remove it nevertheless. Code that is mapped stays as it is then; a folder
/// for one more guest has no artifact.
#[derive(Debug)]
pub struct Artifact {
    record: Record,
    /// Locked, shared with other users.
    entry: Folder,
    code: Folder,
    file: File,
    cloner: Arc<Cloner>,
}

/// An entry that cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not what it should be: it has to be removed.
    Damaged(String),
    /// It could not be read, from which nothing follows.
    Unread(StoreError),
}

/// How far an artifact's bytes are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Their digest is compared, unless it was for this very file before.
    OncePerFile(&'a VerifiedFiles),
    /// Their digest is compared.
    Never,
}

impl Artifact {
    /// Reads the entry `key` in its folder, which is locked.
    pub(crate) fn read(
        key: Key,
        entry: Folder,
        cloner: Arc<Cloner>,
        trust: Trust<'_>,
    ) -> Result<Self, Fault> {
        entry.must_be_ours().fault(|| "its folder".to_owned())?;
        let bytes = entry
            .read(RECORD, MAX_FILE_BYTES)
            .fault(|| format!("its `{RECORD}`"))?;
        let record = Record::read(&bytes, key)
            .map_err(|wrong| Fault::Damaged(format!("its `{RECORD}`: {wrong}")))?;
        let code = entry.sub(CODE).fault(|| format!("its folder `{CODE}`"))?;
        code.must_be_ours()
            .fault(|| format!("its folder `{CODE}`"))?;
        let what = || format!("its `{ARTIFACT}`");
        let file = code.file(ARTIFACT).fault(what)?;
        let stat = rustix::fs::fstat(&file)
            .map_err(io::Error::from)
            .fault(what)?;
        if u64::try_from(stat.st_size) != Ok(record.size) {
            let found = format!("{} has {} bytes, not {}", what(), stat.st_size, record.size);
            return Err(Fault::Damaged(found));
        }
        let is_known = match trust {
            Trust::OncePerFile(verified) => verified.has(&stat),
            Trust::Never => false,
        };
        if !is_known {
            let (digest, _) = Sha256Digest::of_reader(&file).fault(what)?;
            if digest != record.sha256 {
                return Err(Fault::Damaged(format!("{} has another digest", what())));
            }
            if let Trust::OncePerFile(verified) = trust {
                verified.add(&stat);
            }
        }
        Ok(Self {
            record,
            entry,
            code,
            file,
            cloner,
        })
    }

    /// Records that it is used now. It only changes the order of eviction, so a failure is not one
    /// of the look-up.
    pub(crate) fn mark_used(&self) {
        if let Err(error) = self.entry.touch() {
            tracing::debug!(key = %self.record.key, %error, "cannot record the use of an artifact");
        }
    }

    /// Returns the folder of the entry.
    pub(crate) fn entry(&self) -> &Folder {
        &self.entry
    }

    /// Returns what is known of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the file, for the host itself.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns a folder for a guest's process that holds nothing but [`ARTIFACT`]: a detached
    /// mount, read-only also for root, whose `..` is itself.
    pub fn folder_for_guest(&self) -> Result<OwnedFd, StoreError> {
        self.cloner
            .read_only(self.code.as_fd())
            .step(|| format!("clone the folder of the artifact {}", self.record.key))
    }

    /// Returns the file for a guest's process. It was opened in a read-only clone, so no process,
    /// not even of root, can change the file or its properties by it.
    pub fn file_for_guest(&self) -> Result<OwnedFd, StoreError> {
        let folder = self.folder_for_guest()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        open_in(folder.as_fd(), ARTIFACT, flags, Mode::empty())
            .step(|| format!("open the artifact {}", self.record.key))
    }
}

/// Files whose digests this process has compared. A file that changes gets another change time.
#[derive(Debug, Default)]
pub(crate) struct VerifiedFiles(Mutex<HashMap<Identity, Version>>);

/// Size and change time of a file.
type Version = (i64, i64, u64);

impl VerifiedFiles {
    fn has(&self, stat: &Stat) -> bool {
        let (file, version) = facts(stat);
        lock_ignoring_poison(&self.0).get(&file) == Some(&version)
    }

    pub(crate) fn add(&self, stat: &Stat) {
        let (file, version) = facts(stat);
        let mut files = lock_ignoring_poison(&self.0);
        if files.len() >= MAX_VERIFIED {
            files.clear();
        }
        files.insert(file, version);
    }
}

fn facts(stat: &Stat) -> (Identity, Version) {
    let version = (stat.st_size, stat.st_ctime, stat.st_ctime_nsec);
    (Identity::of(stat), version)
}

/// Takes an error as one about an entry.
trait FaultOf<T> {
    fn fault(self, what: impl FnOnce() -> String) -> Result<T, Fault>;
}

impl<T> FaultOf<T> for io::Result<T> {
    fn fault(self, what: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|error| {
            if is_about_content(&error) {
                Fault::Damaged(format!("{}: {error}", what()))
            } else {
                let operation = format!("read an artifact's entry, {}", what());
                Fault::Unread(StoreError::new(operation, error))
            }
        })
    }
}
