//! Remembered failures: a module that crashes its compiler is not compiled again at once.

use std::io;
use std::time::SystemTime;

use super::publish::make_draft;
use super::{Store, must_match};
use crate::error::{Step as _, StoreError};
use crate::folder::{Folder, is_about_content};
use crate::key::Key;
use crate::lock::KeyLock;
use crate::record::{Failed, MAX_FILE_BYTES, RememberedFailure};
use crate::root::Folders;

/// The most remembered failures. The oldest are forgotten.
const MAX_FAILURES: usize = 4096;
/// The end of the name of a remembered failure.
const SUFFIX: &str = ".json";
/// The file in a draft, before it has its name.
const DRAFT: &str = "failure.json";

impl Store {
    /// Returns the failed compile of a key that prevents another try, if there is one.
    pub fn failure(&self, key: &Key) -> Result<Option<RememberedFailure>, StoreError> {
        let failures = &self.folders()?.failures;
        let failure = match failures.read(&name_of(key), MAX_FILE_BYTES) {
            Ok(bytes) => RememberedFailure::read(&bytes, *key).map_err(|wrong| wrong.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_about_content(&error) => Err(error.to_string()),
            Err(error) => {
                let operation = format!("read the remembered failure of {key}");
                return Err(StoreError::new(operation, error));
            }
        };
        match failure {
            Ok(failure) => Ok(Some(failure).filter(|it| it.is_valid_at(SystemTime::now()))),
            Err(reason) => {
                tracing::warn!(%key, reason, "a remembered failure is not readable: ignored");
                Ok(None)
            }
        }
    }

    /// Returns all failed compiles that prevent another try, the last one first.
    pub fn failures(&self) -> Result<Vec<RememberedFailure>, StoreError> {
        let folders = self.folders()?;
        let step = || "list the remembered failures";
        let mut failures = Vec::new();
        for (_, key) in names(&folders.failures).step(step)? {
            failures.extend(self.failure(&key)?);
        }
        failures.sort_by(|a, b| (b.failed, a.key).cmp(&(a.failed, b.key)));
        Ok(failures)
    }

    /// Remembers that a compile failed, so that it is not tried again within a day.
    pub fn remember_failure(&self, lock: &KeyLock, failed: Failed) -> Result<(), StoreError> {
        let failure = RememberedFailure::new(failed, SystemTime::now());
        self.write_failure(lock, &failure, MAX_FAILURES)
    }

    pub(super) fn write_failure(
        &self,
        lock: &KeyLock,
        failure: &RememberedFailure,
        max: usize,
    ) -> Result<(), StoreError> {
        must_match(lock, failure.key)?;
        let folders = self.folders()?;
        let step = || format!("remember the failed compile of {}", lock.key);
        let (name, draft) = make_draft(&folders.drafts).step(step)?;
        let written = draft
            .write(DRAFT, &failure.to_bytes())
            .and_then(|()| draft.rename(DRAFT, &folders.failures, &name_of(&lock.key)));
        // If that fails, the next garbage collection does it.
        let _ = folders.drafts.remove(&name);
        written.step(step)?;
        forget(&folders, SystemTime::now(), max).step(|| "forget old failures")?;
        Ok(())
    }
}

/// Removes remembered failures that prevent no compile any more, and the oldest of too many.
/// Returns how many.
pub(super) fn forget_old(folders: &Folders, now: SystemTime) -> io::Result<usize> {
    forget(folders, now, MAX_FAILURES)
}

fn forget(folders: &Folders, now: SystemTime, max: usize) -> io::Result<usize> {
    let failures = &folders.failures;
    let mut valid = Vec::new();
    let mut removed = 0;
    for (name, key) in names(failures)? {
        let failure = failures
            .read(&name, MAX_FILE_BYTES)
            .ok()
            .and_then(|bytes| RememberedFailure::read(&bytes, key).ok())
            .filter(|failure| failure.is_valid_at(now));
        if let Some(failure) = failure {
            valid.push((failure.failed, name));
        } else {
            match failures.remove(&name) {
                Ok(()) => removed += 1,
                // It prevents nothing, and must not prevent the rest.
                Err(error) => tracing::warn!(name, %error, "cannot remove an old failure"),
            }
        }
    }
    valid.sort();
    let too_many = valid.len().saturating_sub(max);
    for (_, name) in valid.drain(..too_many) {
        failures.unlink(&name)?;
        removed += 1;
    }
    Ok(removed)
}

/// Forgets the failed compile of a key. Returns whether there was one.
pub(super) fn forget_one(folders: &Folders, key: &Key) -> io::Result<bool> {
    let name = name_of(key);
    match folders.failures.stat(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        _ => folders.failures.remove(&name).map(|()| true),
    }
}

fn name_of(key: &Key) -> String {
    format!("{key}{SUFFIX}")
}

/// Returns the names of failures with their keys.
fn names(failures: &Folder) -> io::Result<Vec<(String, Key)>> {
    let key = |name: &str| name.strip_suffix(SUFFIX)?.parse().ok();
    let names = failures.names()?.into_iter();
    Ok(names
        .filter_map(|name| key(&name).map(|key| (name, key)))
        .collect())
}
