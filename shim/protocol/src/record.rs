//! Records of what to remove of a container after its host died. The host writes a record before
//! anything of the container exists, and removes it after everything else; the launcher's `delete`
//! cleans up from the record alone.
//!
//! Only root can read it: beside the record are the container's environment and inputs.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{FileError, if_found, replace};
use crate::hash;
use crate::identifier::{self, IdentifierError};

/// The folder of the node's records: a folder for each containerd, in it one for each of its
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
    /// The socket of its host.
    pub host: PathBuf,
    /// The absolute paths of all cgroup folders that it may have.
    pub cgroups: Vec<PathBuf>,
    /// The mount points on the node that it may have, in the order of mounting.
    pub mounts: Vec<PathBuf>,
    /// The folder of libcontainer's state, for a native container.
    pub native: Option<PathBuf>,
}

/// An error of reading or writing a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A namespace or id that is not valid.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// A file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is not a record.
    #[error("{} is not a container's record", path.display())]
    NoRecord {
        /// The file.
        path: PathBuf,
        /// The parse error.
        source: serde_json::Error,
    },
}

/// The records of one containerd. Another one on the node may use the same namespaces and ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    base: PathBuf,
    root: PathBuf,
}

impl Records {
    /// The number of hash bytes that name a containerd: a node has a handful.
    const BYTES: usize = 8;

    /// Returns the records of the containerd that listens on `address`.
    pub fn new(address: &str) -> Self {
        Self::at(RECORDS, address)
    }

    /// Returns the records below another folder than the node's.
    pub fn at(base: impl Into<PathBuf>, address: &str) -> Self {
        let base = base.into();
        let root = base.join(hash::name_of([address.as_bytes()], Self::BYTES));
        Self { base, root }
    }

    /// Returns the container's folder. Other modules may keep state in it too: it is removed with
    /// the record.
    ///
    /// # Errors
    /// If the namespace or id is not valid as part of a path.
    pub fn folder(&self, namespace: &str, id: &str) -> Result<PathBuf, RecordError> {
        identifier::validate("namespace", namespace)?;
        identifier::validate("container id", id)?;
        Ok(self.root.join(namespace).join(id))
    }

    /// Writes the record, replacing an earlier one. Not for concurrent use on one container.
    ///
    /// # Errors
    /// If it cannot be written; an earlier record then still exists.
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

    /// Reads the container's record. `None` if it has none: then nothing of the container exists.
    ///
    /// # Errors
    /// If it cannot be read.
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

    /// Removes the container's folder with all its content: the last step of a container's removal.
    ///
    /// # Errors
    /// If something cannot be removed. A missing folder is not an error.
    pub fn remove(&self, namespace: &str, id: &str) -> Result<(), RecordError> {
        let folder = self.folder(namespace, id)?;
        if_found(fs::remove_dir_all(&folder))
            .map(drop)
            .map_err(|error| FileError::new("remove", &folder, error).into())
    }

    /// Removes the folder of a container without a record, if it is empty.
    ///
    /// # Errors
    /// If it cannot be removed. A missing folder, or one in use, is not an error.
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

/// Creates `folder` for root alone, or makes an existing one private.
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
