//! The reasons why an edit of containerd's configuration is refused.

use std::fmt;
use std::io;

use installer_protocol::{ConfigMode, Reason};

use super::version::Version;

/// A range of lines in a file; the first line is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "line {}", self.first)
        } else {
            write!(f, "lines {}-{}", self.first, self.last)
        }
    }
}

/// An edit that cannot be made, or must not.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// containerd's program does not print a version.
    #[error("containerd was asked for its version and printed {text:?}, in which no word is one")]
    NoVersion {
        /// Its output.
        text: String,
    },
    /// containerd does not support runtimes by path.
    #[error("containerd {version} is too old: 1.6 is the first that runs runtimes from any folder")]
    TooOld {
        /// Its version.
        version: Version,
    },
    /// A file or folder cannot be read.
    #[error("read {path}")]
    Read {
        /// Its path.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A file that has to be edited was not read.
    #[error(
        "{path} has to be edited and was not read: containerd's configuration changed in the \
         meantime, try again"
    )]
    NotGathered {
        /// Its path.
        path: String,
    },
    /// A file of containerd's configuration is not text.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// Its path.
        path: String,
        /// The cause.
        source: std::str::Utf8Error,
    },
    /// A file of containerd's configuration is not TOML.
    #[error("{path} is not valid TOML, and containerd will refuse it at its next start")]
    NotToml {
        /// Its path.
        path: String,
        /// The cause.
        source: Box<toml_edit::TomlError>,
    },
    /// A TOML file cannot be edited.
    #[error("{path}: {what}")]
    Form {
        /// Its path.
        path: String,
        /// The obstacle.
        what: &'static str,
    },
    /// containerd or the installer does not know a schema version.
    #[error(
        "{path} has version {found}, which containerd {containerd} or this installer does not know"
    )]
    Schema {
        /// The file.
        path: String,
        /// The value of its key `version`.
        found: String,
        /// containerd's version.
        containerd: Version,
    },
    /// The CRI plugin is disabled.
    #[error("{path} disables the CRI plugin (disabled_plugins): this containerd serves no kubelet")]
    CriDisabled {
        /// The file.
        path: String,
    },
    /// A name or a path is not valid in a configuration.
    #[error("{what} {value:?}: {rule}")]
    InvalidHandler {
        /// The field.
        what: &'static str,
        /// Its value.
        value: String,
        /// The rule for it.
        rule: &'static str,
    },
    /// A handler of the name exists and is not ours.
    #[error(
        "{path} has a handler {handler:?} ({lines}) that was not written by this installer: choose \
         another name (runtimeClass.handler), or remove these lines there"
    )]
    HandlerTaken {
        /// The name.
        handler: String,
        /// The file that contains it.
        path: String,
        /// Its lines.
        lines: Lines,
    },
    /// The handler that is to be removed was changed and is not ours.
    #[error(
        "{path} has a handler {handler:?} ({lines}) that does not lead to this installer's \
         runtime, or cannot be edited from here: remove these lines, or rename the handler there; \
         then the runtime is removed automatically"
    )]
    HandlerLeft {
        /// The name.
        handler: String,
        /// The file that contains it.
        path: String,
        /// Its lines.
        lines: Lines,
    },
    /// containerd does not pass options to the runtime.
    #[error(
        "containerd {version} does not pass options to this runtime, which has no options file: \
         leave spec.runtime at its defaults, install a newer runtime, or upgrade containerd to 1.7 \
         or later"
    )]
    OptionsUnread {
        /// containerd's version.
        version: Version,
    },
    /// containerd must not leave sandboxes to the runtime.
    #[error(
        "containerd.sandboxer Shim needs containerd 2.4 or later, and this is {version}: older \
         versions crash or lose pods with it; set it to PodSandbox, or upgrade containerd"
    )]
    SandboxerTooOld {
        /// containerd's version.
        version: Version,
    },
    /// The requested mode does not work on this node.
    #[error("containerd.mode {mode:?} does not work on this node: {why}")]
    Mode {
        /// The mode.
        mode: ConfigMode,
        /// The cause, and the modes that work.
        why: &'static str,
    },
    /// A file that the distribution writes is absent.
    #[error(
        "{path} is absent, {what}: has the distribution started, and does it keep its data there?"
    )]
    Absent {
        /// Its path.
        path: String,
        /// Its purpose.
        what: &'static str,
    },
    /// containerd 1.x with a rendered configuration.
    #[error(
        "containerd {version} loses its other runtimes with a drop-in, and its configuration is \
         written anew at each start: upgrade the distribution to one with containerd 2"
    )]
    RenderedByOld {
        /// containerd's version.
        version: Version,
    },
    /// A rendered configuration does not import drop-ins.
    #[error(
        "{main} does not import {folder}/*.toml: upgrade the distribution, or let the template \
         beside it ({main}.tmpl or config-v3.toml.tmpl) import that folder, and restart it"
    )]
    NotImported {
        /// The rendered file.
        main: String,
        /// The folder.
        folder: String,
    },
    /// An admin manages the configuration of k0s.
    #[error(
        "{main} does not begin with {line:?}, so k0s merges no drop-ins into it: set \
         containerd.mode to Preinstalled and add the handler to it, or give it back to k0s"
    )]
    Unmanaged {
        /// The file.
        main: String,
        /// The first line that k0s writes.
        line: &'static str,
    },
    /// On containerd 1.x, a file in another folder replaces the main file's section.
    #[error(
        "{path}, which {main} imports, replaces its section of the CRI plugin and cannot be edited \
         from here: move it beside {main}, or add the handler to it and set containerd.mode to \
         Preinstalled"
    )]
    Elsewhere {
        /// The file.
        path: String,
        /// The main file.
        main: String,
    },
    /// The node's containerd cannot be run.
    #[error("run the node's containerd on its configuration")]
    Dump {
        /// The cause.
        source: io::Error,
    },
    /// The node's containerd refuses a configuration.
    #[error(
        "containerd refuses {which} configuration ({code}): {stderr}",
        code = code.map_or("killed".to_owned(), |code| format!("exit code {code}"))
    )]
    Refused {
        /// `its present` or `the edited`.
        which: &'static str,
        /// containerd's exit code.
        code: Option<i32>,
        /// The end of its standard error.
        stderr: String,
    },
    /// The edit would change something else.
    #[error("with the edited configuration, containerd would have {}", differences.join("; "))]
    Changes {
        /// The first differences.
        differences: Vec<String>,
    },
}

impl ConfigError {
    /// Returns the reason for the report.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoVersion { .. }
            | Self::TooOld { .. }
            | Self::CriDisabled { .. }
            | Self::OptionsUnread { .. }
            | Self::SandboxerTooOld { .. }
            | Self::RenderedByOld { .. }
            | Self::NotImported { .. }
            | Self::Unmanaged { .. }
            | Self::Elsewhere { .. } => Reason::Unsupported,
            Self::Read { .. } => Reason::HostFiles,
            // The trial run first writes the files.
            Self::Dump { source } if is_full_or_read_only(source) => Reason::HostFiles,
            Self::NotGathered { .. } => Reason::Interrupted,
            Self::NotText { .. }
            | Self::NotToml { .. }
            | Self::Form { .. }
            | Self::Schema { .. }
            | Self::Absent { .. }
            | Self::Dump { .. }
            | Self::Refused { .. }
            | Self::Changes { .. } => Reason::ContainerdConfig,
            Self::InvalidHandler { .. } | Self::Mode { .. } => Reason::InvalidRequest,
            Self::HandlerTaken { .. } | Self::HandlerLeft { .. } => Reason::HandlerTaken,
        }
    }
}

/// Returns whether a write failed because the disk is full or read-only.
fn is_full_or_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
