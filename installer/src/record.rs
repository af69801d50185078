//! The record of what was done on a node so far. It is on the node's disk, so that after a kill the
//! next installer or the guard can finish the change or roll it back.
//!
//! ```text
//!            ┌───────────── nothing pending ◄──────────────┐
//!   containerd's configuration                   a guest ran: `active` is the tried runtime
//!   has to change                                rolled back: `active` is what it was
//!            └─► pending: every file's content before and after ┘
//!                       └─► pending, with the failure that caused the rollback
//! ```
//!
//! The record is written before each action that it describes. Its path is
//! `<install>/wasmedge-runtime/.state/<runtime>/record.json`.

use std::io;

use installer_protocol::report::Installed;
use installer_protocol::{Reason, Settings, Stage, Verb};
use serde::{Deserialize, Serialize};

use crate::containerd::{self, FileChange, Handler};
use crate::files::{self, FileAccess};
use crate::node_root::{NodePath, NodeRoot};

/// Version of the file's format. Raise it if older installers could not read what this one writes.
const FORMAT: u32 = 1;

/// The state of one runtime on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    format: u32,
    /// The runtime's name.
    pub runtime: String,
    /// The runtime that last ran a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveRuntime>,
    /// A change of containerd's configuration that is not verified yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingChange>,
    /// A failure that a guard recorded and no installer has reported yet.
    #[serde(default, rename = "untold", skip_serializing_if = "Option::is_none")]
    pub unreported: Option<FailureRecord>,
    /// The last write of the installer to containerd's configuration.
    #[serde(default, rename = "touched")]
    pub last_write: LastWrite,
}

/// A runtime that containerd's configuration leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActiveRuntime {
    /// The handler.
    #[serde(rename = "wish")]
    pub desired: DesiredHandler,
    /// The runtime.
    pub installed: Installed,
    /// The edits that undo the handler.
    pub config: containerd::WrittenHandler,
    /// The file that contains the handler.
    pub config_path: String,
}

/// The handler that containerd's configuration is to contain: a [`Handler`] in the record's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DesiredHandler {
    /// The handler's name.
    pub handler: String,
    /// The launcher's path on the node.
    pub launcher: String,
    /// Whether systemd sets up the cgroups of its containers.
    pub systemd_cgroup: bool,
}

/// A change of containerd's configuration that is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PendingChange {
    /// The attempt's identifier. A guard acts on the attempt that it was started for only.
    pub attempt: String,
    /// The request that the change is part of.
    pub verb: Verb,
    /// Time before the first file was written, in microseconds since 1970.
    pub began: u64,
    /// [`Record::last_write`] before that.
    #[serde(rename = "touchedBefore")]
    pub last_write_before: LastWrite,
    /// The handler that is added, changed or removed.
    pub handler: String,
    /// The runtime that is tried; none in a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<ActiveRuntime>,
    /// The unit that runs containerd; none if systemd runs none.
    pub unit: Option<String>,
    /// containerd's version.
    pub containerd: String,
    /// The files, in the order in which they are written.
    pub files: Vec<SavedFile>,
    /// The folders that are created for the files.
    pub folders: Vec<NodePath>,
    /// The failure that caused the rollback.
    #[serde(default, rename = "setback", skip_serializing_if = "Option::is_none")]
    pub failure_record: Option<FailureRecord>,
}

/// A file of containerd's configuration, before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavedFile {
    /// Its path on the node.
    pub path: NodePath,
    /// Its content before the change; none if it was absent.
    pub before: Option<String>,
    /// Its content after the change; none if the change removes it.
    pub after: Option<String>,
    /// Its access rights before the change; none if it was absent.
    pub access: Option<FileAccess>,
}

/// A failure as a report contains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureRecord {
    /// The stage that failed.
    pub stage: Stage,
    /// The reason, for programs.
    pub reason: Reason,
    /// The cause and the next step, for people.
    pub message: String,
}

/// The last write of the installer to files of containerd's configuration. A containerd that
/// started earlier has not read them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastWrite {
    /// Nothing was written.
    #[default]
    Never,
    /// A write was started and its completion was not recorded.
    Underway,
    /// It was completed at this time, in microseconds since 1970.
    At(u64),
}

impl LastWrite {
    /// Returns whether a containerd that is active since `started` (microseconds since 1970) has
    /// read everything.
    pub fn is_read_by(self, started: u64) -> bool {
        match self {
            Self::Never => true,
            Self::Underway => false,
            Self::At(moment) => started > moment,
        }
    }
}

impl DesiredHandler {
    /// Returns the handler with `settings`. These are not in the record's form of a handler,
    /// because an older installer, which may run again, refuses fields that it does not know.
    pub fn handler(&self, settings: Settings) -> Handler {
        Handler {
            name: self.handler.clone(),
            launcher: self.launcher.clone(),
            systemd_cgroup: self.systemd_cgroup,
            settings,
        }
    }
}

/// A file that cannot be saved in the record.
#[derive(Debug, thiserror::Error)]
#[error("{path} on the node is not UTF-8 text: containerd does not read such a file either")]
pub struct NotUtf8 {
    path: String,
}

impl SavedFile {
    /// Saves `change` of a file that has the rights `access` now.
    ///
    /// # Errors
    /// If the file is not UTF-8 text.
    pub fn new(
        change: &FileChange,
        path: NodePath,
        access: Option<FileAccess>,
    ) -> Result<Self, NotUtf8> {
        let text = |bytes: &Option<Vec<u8>>| {
            let text = bytes.clone().map(String::from_utf8).transpose();
            text.map_err(|_| NotUtf8 {
                path: change.path.clone(),
            })
        };
        Ok(Self {
            before: text(&change.before)?,
            after: text(&change.after)?,
            path,
            access,
        })
    }
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("read {path} on the node, the installer's record")]
    Read {
        /// The record's path.
        path: NodePath,
        /// The cause.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("write {path} on the node, the installer's record; is the disk full?")]
    Write {
        /// The record's path.
        path: NodePath,
        /// The cause.
        source: io::Error,
    },
    /// It is damaged.
    #[error(
        "{path} on the node, the installer's record, is damaged: take the handler out of \
         containerd's configuration by hand, restart containerd, and remove {}; then it is \
         installed anew",
        path.folder()
    )]
    Damaged {
        /// The record's path.
        path: NodePath,
        /// The cause.
        source: serde_json::Error,
    },
    /// A newer installer wrote it.
    #[error(
        "{path} on the node was written by a newer installer (format {found}, this one knows \
         {FORMAT}): use an operator of at least its version"
    )]
    Newer {
        /// The record's path.
        path: NodePath,
        /// Its format.
        found: u32,
    },
}

impl Record {
    /// Makes the record of a runtime that nothing was done for.
    pub fn new(runtime: &str) -> Self {
        Self {
            format: FORMAT,
            runtime: runtime.to_owned(),
            active: None,
            pending: None,
            unreported: None,
            last_write: LastWrite::Never,
        }
    }

    /// Reads the record at `path`; none if the file is absent.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub fn load(root: &NodeRoot, path: &NodePath) -> Result<Option<Self>, RecordError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let read = root.read(path).map_err(|source| RecordError::Read {
            path: path.clone(),
            source,
        })?;
        let Some(bytes) = read else { return Ok(None) };
        let damaged = |source| RecordError::Damaged {
            path: path.clone(),
            source,
        };
        let Format { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(RecordError::Newer {
                path: path.clone(),
                found: format,
            });
        }
        serde_json::from_slice(&bytes).map_err(damaged).map(Some)
    }

    /// Writes the record to `path`, unless the file has this content already.
    ///
    /// # Errors
    /// If the file cannot be written. Its former content stays then.
    pub fn save(&self, root: &NodeRoot, path: &NodePath) -> Result<(), RecordError> {
        let text = serde_json::to_vec_pretty(self).expect("a record holds texts and numbers only");
        let put = || {
            if root.read(path)?.is_some_and(|bytes| bytes == text) {
                return Ok(());
            }
            let file = root.locate(path)?;
            files::make_folders(file.parent().unwrap_or(&file))?;
            // It contains containerd's configuration, which may have a registry's credentials.
            files::write(&file, &text, FileAccess::PRIVATE)
        };
        put().map_err(|source| RecordError::Write {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_path() -> (tempfile::TempDir, NodeRoot, NodePath) {
        let folder = tempfile::tempdir().unwrap();
        let root = NodeRoot::new(folder.path());
        (
            folder,
            root,
            NodePath::new("/opt/wasmedge-runtime/.state/a/record.json").unwrap(),
        )
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        let (_folder, root, path) = record_path();
        assert_eq!(Record::load(&root, &path).unwrap(), None);
        let record = Record {
            last_write: LastWrite::At(7),
            ..Record::new("a")
        };
        record.save(&root, &path).unwrap();
        assert_eq!(Record::load(&root, &path).unwrap(), Some(record));
    }

    #[test]
    fn damaged_record_is_an_error_with_the_next_step() {
        let (folder, root, path) = record_path();
        Record::new("a").save(&root, &path).unwrap();
        let file = folder.path().join(&path.as_str()[1..]);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        let error = Record::load(&root, &path).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("remove /opt/wasmedge-runtime/.state/a"),
            "{error}"
        );
        std::fs::write(&file, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert!(matches!(
            Record::load(&root, &path),
            Err(RecordError::Newer { found: 2, .. })
        ));
    }

    #[test]
    fn containerd_has_read_what_was_written_before_it_started() {
        assert!(LastWrite::Never.is_read_by(0));
        assert!(LastWrite::At(5).is_read_by(6));
        assert!(!LastWrite::At(5).is_read_by(5));
        assert!(!LastWrite::Underway.is_read_by(u64::MAX));
    }
}
