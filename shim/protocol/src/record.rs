//! What of a container must be removed when its host died. The host writes it before anything of
//! the container exists, and removes it after everything else; the launcher's `delete` cleans up by
//! it alone.
//!
//! Who is not root sees nothing of it: beside the record lies what a container was given, its
//! environment and what a process in it was told.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{FileError, if_found, replace};
use crate::hash;
use crate::identifier::{self, IdentifierError};

/// Where the records of a node lie: a folder for each containerd, in it one for each of its
/// namespaces, in that one for each container.
pub const RECORDS: &str = "/run/containerd/wasmedge";
/// The mode of all of these folders.
const PRIVATE: u32 = 0o700;

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// The socket of the host that serves it.
    pub host: PathBuf,
    /// The folders of every cgroup that it may have, absolute.
    pub cgroups: Vec<PathBuf>,
    /// The mount points on the node that it may have, in the order in which they are mounted.
    pub mounts: Vec<PathBuf>,
    /// The folder of libcontainer's state, if it is a native container.
    pub native: Option<PathBuf>,
}

/// Why a record cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A namespace or id that is not an identifier.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// A file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is no record.
    #[error("{} is no container's record", path.display())]
    NoRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The records of one containerd: another one on the node may have the same namespaces and ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    base: PathBuf,
    root: PathBuf,
}

impl Records {
    /// Bytes of the hash that names a containerd: a node has a handful.
    const BYTES: usize = 8;

    /// Those of the containerd that listens on `address`.
    pub fn of(address: &str) -> Self {
        Self::below(RECORDS, address)
    }

    /// The same, below another folder than the node's.
    pub fn below(base: impl Into<PathBuf>, address: &str) -> Self {
        let base = base.into();
        let root = base.join(hash::name_of([address.as_bytes()], Self::BYTES));
        Self { base, root }
    }

    /// The container's own folder. Others may keep state of it here too: it is removed with the
    /// record.
    ///
    /// # Errors
    /// When namespace or id would lead elsewhere.
    pub fn folder(&self, namespace: &str, id: &str) -> Result<PathBuf, RecordError> {
        identifier::validate("namespace", namespace)?;
        identifier::validate("container id", id)?;
        Ok(self.root.join(namespace).join(id))
    }

    /// Writes the record, in place of the one before it. Not for use by two at a time for one
    /// container.
    ///
    /// # Errors
    /// When it cannot be written; the record before it, if any, is then still there.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let folder = self.folder(&record.namespace, &record.id)?;
        for folder in [
            &self.base,
            &self.root,
            &self.root.join(&record.namespace),
            &folder,
        ] {
            make_private(folder)?;
        }
        let path = file(&folder);
        let text = serde_json::to_vec(record).map_err(|source| RecordError::NoRecord {
            path: path.clone(),
            source,
        })?;
        Ok(replace(&path, &text)?)
    }

    /// The container's record; `None` when it has none: then nothing of it exists.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, namespace: &str, id: &str) -> Result<Option<Record>, RecordError> {
        let path = file(&self.folder(namespace, id)?);
        let Some(text) =
            if_found(fs::read(&path)).map_err(|error| FileError::new("read", &path, error))?
        else {
            return Ok(None);
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| RecordError::NoRecord { path, source })
    }

    /// Removes the container's folder with all that is in it: the last that is done for a
    /// container.
    ///
    /// # Errors
    /// When something of it stays. What is gone already is fine.
    pub fn remove(&self, namespace: &str, id: &str) -> Result<(), RecordError> {
        let folder = self.folder(namespace, id)?;
        if_found(fs::remove_dir_all(&folder))
            .map(drop)
            .map_err(|error| FileError::new("remove", &folder, error).into())
    }

    /// Removes the folder of a container without a record, unless there is something in it.
    ///
    /// # Errors
    /// When it cannot be removed. That there is none, or that it is in use, is no error.
    pub fn remove_empty(&self, namespace: &str, id: &str) -> Result<(), RecordError> {
        let folder = self.folder(namespace, id)?;
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            result => if_found(result)
                .map(drop)
                .map_err(|error| FileError::new("remove", &folder, error).into()),
        }
    }
}

/// Makes `folder`, and keeps from it who is not root, also where it was there before.
fn make_private(folder: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(folder);
    made.map_err(|error| FileError::new("make", folder, error))?;
    let found = fs::metadata(folder).map_err(|error| FileError::new("look at", folder, error))?;
    if found.permissions().mode() & 0o777 == PRIVATE {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(PRIVATE))
        .map_err(|error| FileError::new("close to others", folder, error))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("record.json")
}

#[cfg(test)]
mod tests;
