//! What was done on a node so far, on its disk: whoever comes next, an installer or a guard, can go
//! on or go back.
//!
//! ```text
//!            ┌───────────── nothing pending ◄──────────────┐
//!   changes of containerd's                      proven by a guest: `active` is what was tried
//!   configuration are due                        or all is back:    `active` is what it was
//!            └─► pending: every file's bytes before and after ┘
//!                       └─► pending, with the failure that it goes back because of
//! ```
//!
//! The record is written before what it tells of is done. It lies in
//! `<install>/wasmedge-runtime/.state/<runtime>`.

use std::io;

use installer_protocol::report::Installed;
use installer_protocol::{Reason, Settings, Stage, Verb};
use serde::{Deserialize, Serialize};

use crate::containerd::{self, FileChange, Handler};
use crate::files::{self, Access};
use crate::host::{HostPath, HostRoot};

/// Raised when a former installer could not read what this one writes.
const FORMAT: u32 = 1;

/// Everything that is known of one runtime on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    format: u32,
    /// The runtime's name.
    pub runtime: String,
    /// The runtime that was last proven by a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// A change of containerd's configuration that is not proven yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// A failure that nobody was told of, because whoever met it was a guard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<Setback>,
    /// When files of containerd's configuration were last written by us.
    #[serde(default)]
    pub touched: Touched,
}

/// A runtime that containerd's configuration leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Active {
    /// What containerd knows.
    pub wish: Wish,
    /// Which runtime that is.
    pub installed: Installed,
    /// What takes it back.
    pub config: containerd::Record,
    /// The file that the handler stands in.
    pub config_path: String,
}

/// What containerd is to know. A [`Handler`] that can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wish {
    /// The handler's name.
    pub handler: String,
    /// The launcher's path on the host.
    pub launcher: String,
    /// Whether systemd sets up its containers' cgroups.
    pub systemd_cgroup: bool,
}

/// A change of containerd's configuration that is not proven yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pending {
    /// Names this attempt: a guard that was started for another one has nothing to do.
    pub attempt: String,
    /// What it is a part of.
    pub verb: Verb,
    /// Microseconds since 1970, before the first file was written.
    pub began: u64,
    /// [`Record::touched`] before that.
    pub touched_before: Touched,
    /// The handler that is added, changed or taken away.
    pub handler: String,
    /// The runtime that is tried; none when one is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Active>,
    /// The unit that runs containerd; none where systemd runs none.
    pub unit: Option<String>,
    /// containerd's version.
    pub containerd: String,
    /// The files, in the order in which they are written.
    pub files: Vec<Saved>,
    /// Folders that are made for them.
    pub folders: Vec<HostPath>,
    /// Why it is gone back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setback: Option<Setback>,
}

/// A file of containerd's configuration, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Saved {
    /// Its path on the host.
    pub path: HostPath,
    /// What it held; none where it was absent.
    pub before: Option<String>,
    /// What it holds after the change; none where it goes.
    pub after: Option<String>,
    /// Who might do what with it before; none where it was absent.
    pub access: Option<Access>,
}

/// A failure, as it is to be reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Setback {
    /// Where.
    pub stage: Stage,
    /// Its word.
    pub reason: Reason,
    /// Its text.
    pub message: String,
}

/// When files of containerd's configuration were last written by us: a containerd that started
/// before that has not read them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touched {
    /// Never.
    #[default]
    Never,
    /// Somebody began to and did not come to say when it was over.
    Underway,
    /// At this moment, in microseconds since 1970.
    At(u64),
}

impl Touched {
    /// Whether a containerd that is active since `started` (microseconds since 1970) has read
    /// everything.
    pub fn is_read_by(self, started: u64) -> bool {
        match self {
            Self::Never => true,
            Self::Underway => false,
            Self::At(moment) => started > moment,
        }
    }
}

impl Wish {
    /// As containerd's configuration is edited by, with what is chosen of the handler. That is no
    /// part of the wish: a former installer, which may come again, refuses a wish with words that
    /// it does not know.
    pub fn handler(&self, settings: Settings) -> Handler {
        Handler {
            name: self.handler.clone(),
            launcher: self.launcher.clone(),
            systemd_cgroup: self.systemd_cgroup,
            settings,
        }
    }
}

/// A change that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("{path} of the host is not UTF-8 text: containerd does not read such a file either")]
pub struct NoText {
    path: String,
}

impl Saved {
    /// A change of a file that may be done by `access` now.
    ///
    /// # Errors
    /// When the file is no text.
    pub fn new(
        change: &FileChange,
        path: HostPath,
        access: Option<Access>,
    ) -> Result<Self, NoText> {
        let text = |bytes: &Option<Vec<u8>>| {
            let text = bytes.clone().map(String::from_utf8).transpose();
            text.map_err(|_| NoText {
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
    #[error("read {path} of the host, the installer's record of what it did there")]
    Read {
        /// The record.
        path: HostPath,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "write {path} of the host, the installer's record of what it does there; is there space on \
         its disk?"
    )]
    Write {
        /// The record.
        path: HostPath,
        /// Why.
        source: io::Error,
    },
    /// It is damaged.
    #[error(
        "{path} of the host, the installer's record of what it did there, is damaged: take the \
         handler out of containerd's \
         configuration by hand, restart containerd, and remove {}; then it is installed anew",
        path.folder()
    )]
    Damaged {
        /// The record.
        path: HostPath,
        /// In which way.
        source: serde_json::Error,
    },
    /// A newer installer wrote it.
    #[error(
        "{path} of the host was written by a newer installer (format {found}, this one knows \
         {FORMAT}): use an operator of at least its version"
    )]
    Newer {
        /// The record.
        path: HostPath,
        /// Its format.
        found: u32,
    },
}

impl Record {
    /// Of a runtime that nothing was done for.
    pub fn new(runtime: &str) -> Self {
        Self {
            format: FORMAT,
            runtime: runtime.to_owned(),
            active: None,
            pending: None,
            untold: None,
            touched: Touched::Never,
        }
    }

    /// Reads the record at `path`; none where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read or understood. Nothing is guessed then.
    pub fn load(root: &HostRoot, path: &HostPath) -> Result<Option<Self>, RecordError> {
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

    /// Writes the record to `path`, unless that is what is there.
    ///
    /// # Errors
    /// When it cannot be written; then the former one is there.
    pub fn save(&self, root: &HostRoot, path: &HostPath) -> Result<(), RecordError> {
        let text = serde_json::to_vec_pretty(self).expect("a record holds texts and numbers only");
        let put = || {
            if root.read(path)?.is_some_and(|bytes| bytes == text) {
                return Ok(());
            }
            let place = root.locate(path)?;
            files::make_folders(place.parent().unwrap_or(&place))?;
            // It holds containerd's configuration, which may hold a registry's credentials.
            files::write(&place, &text, Access::PRIVATE)
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

    fn place() -> (tempfile::TempDir, HostRoot, HostPath) {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::new(folder.path());
        (
            folder,
            root,
            HostPath::new("/opt/wasmedge-runtime/.state/a/record.json").unwrap(),
        )
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (_folder, root, path) = place();
        assert_eq!(Record::load(&root, &path).unwrap(), None);
        let record = Record {
            touched: Touched::At(7),
            ..Record::new("a")
        };
        record.save(&root, &path).unwrap();
        assert_eq!(Record::load(&root, &path).unwrap(), Some(record));
    }

    #[test]
    fn a_damaged_record_is_an_error_that_says_what_to_do() {
        let (folder, root, path) = place();
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
    fn a_containerd_has_read_what_was_written_before_it_started() {
        assert!(Touched::Never.is_read_by(0));
        assert!(Touched::At(5).is_read_by(6));
        assert!(!Touched::At(5).is_read_by(5));
        assert!(!Touched::Underway.is_read_by(u64::MAX));
    }
}
