//! What stands between a handler and a containerd's configuration.

use std::io;

use installer_protocol::{Mode, Reason};

use super::unmarked::Lines;
use super::version::Version;

/// Why a configuration cannot be edited, or is not to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// containerd's program says something else than its version.
    #[error("containerd was asked for its version and said {text:?}, in which no word is one")]
    NoVersion {
        /// What it said.
        text: String,
    },
    /// A containerd that cannot be told where a shim lies.
    #[error(
        "containerd {version} is too old: 1.6 is the first that can be told where a runtime lies"
    )]
    TooOld {
        /// Its version.
        version: Version,
    },
    /// A file or folder cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file was not looked for.
    #[error(
        "{path} has to be edited and was not read: containerd's configuration changed meanwhile, \
         try again"
    )]
    NotGathered {
        /// Which.
        path: String,
    },
    /// A file of containerd's is no text.
    #[error("{path} is no UTF-8 text")]
    NotText {
        /// Which.
        path: String,
        /// Where not.
        source: std::str::Utf8Error,
    },
    /// A file of containerd's is no TOML.
    #[error("{path} is no TOML, which its containerd will find at its next start")]
    NotToml {
        /// Which.
        path: String,
        /// Where not.
        source: Box<toml_edit::TomlError>,
    },
    /// A file that is TOML, but cannot be edited.
    #[error("{path}: {what}")]
    Form {
        /// Which.
        path: String,
        /// What is in the way.
        what: &'static str,
    },
    /// A schema version that containerd, or we, do not know.
    #[error(
        "{path} has version {found}, which containerd {containerd} does not know, or this \
         installer does not"
    )]
    Schema {
        /// The file.
        path: String,
        /// What its key `version` says.
        found: String,
        /// containerd's version.
        containerd: Version,
    },
    /// containerd does not serve the kubelet.
    #[error(
        "{path} switches the CRI plugin off (disabled_plugins): this containerd serves no kubelet"
    )]
    CriDisabled {
        /// The file.
        path: String,
    },
    /// A name or a path that cannot stand in a configuration.
    #[error("{what} {value:?}: {rule}")]
    InvalidHandler {
        /// What it is of a handler.
        what: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        rule: &'static str,
    },
    /// Somebody else's handler has the name.
    #[error(
        "{path} has a handler {handler:?} ({lines}) that was not written by this installer: choose \
         another name (runtimeClass.handler), or remove these lines there"
    )]
    HandlerTaken {
        /// The name.
        handler: String,
        /// Where it stands.
        path: String,
        /// In which lines.
        lines: Lines,
    },
    /// Somebody else's handler has the name of one that is to go.
    #[error(
        "{path} has a handler {handler:?} ({lines}) that does not lead to this installer's \
         runtime, or cannot be edited from here: remove these lines, or rename the handler there; \
         then the runtime is removed by itself"
    )]
    HandlerLeft {
        /// The name.
        handler: String,
        /// Where it stands.
        path: String,
        /// In which lines.
        lines: Lines,
    },
    /// A containerd that keeps the options from the runtime.
    #[error(
        "containerd {version} does not pass options to this runtime, which reads none from a file: \
         leave spec.runtime as it is by default, install a newer runtime, or upgrade containerd to \
         1.7 or later"
    )]
    OptionsUnread {
        /// containerd's version.
        version: Version,
    },
    /// A containerd that should not leave sandboxes to the runtime.
    #[error(
        "containerd.sandboxer Shim needs containerd 2.4 or later, and this is {version}: older \
         ones crash or lose pods by it; set it to PodSandbox, or upgrade containerd"
    )]
    SandboxerTooOld {
        /// containerd's version.
        version: Version,
    },
    /// What is asked for cannot be done on this node.
    #[error("containerd.mode {mode:?} is not for this node: {why}")]
    Mode {
        /// What is asked for.
        mode: Mode,
        /// Why not, and what can be asked for.
        why: &'static str,
    },
    /// What a distribution writes is not there.
    #[error(
        "{path} is absent, {what}: has the distribution started, and does it keep its data there?"
    )]
    Absent {
        /// The path.
        path: String,
        /// What it should be.
        what: &'static str,
    },
    /// A rendered configuration of containerd 1.x.
    #[error(
        "containerd {version} loses its other runtimes by a drop-in, and its configuration is \
         written anew at each start: upgrade the distribution to one with containerd 2"
    )]
    RenderedByOld {
        /// containerd's version.
        version: Version,
    },
    /// A rendered configuration that reads no drop-ins.
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
    /// A k0s whose configuration is the admin's own.
    #[error(
        "{main} does not begin with {line:?}, so k0s merges no drop-ins into it: set \
         containerd.mode to Preinstalled and add the handler to it, or give it back to k0s"
    )]
    Unmanaged {
        /// The file.
        main: String,
        /// The line.
        line: &'static str,
    },
    /// On containerd 1.x, a file elsewhere replaces the main file's section.
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
    /// The host's containerd cannot be asked.
    #[error("ask the host's containerd what it makes of its configuration")]
    Dump {
        /// Why not.
        source: io::Error,
    },
    /// The host's containerd does not take a configuration.
    #[error(
        "containerd does not take {which} configuration ({code}): {stderr}",
        code = code.map_or("killed".to_owned(), |code| format!("exit code {code}"))
    )]
    Refused {
        /// Which one.
        which: &'static str,
        /// containerd's exit code.
        code: Option<i32>,
        /// The end of what it said.
        stderr: String,
    },
    /// The edit would do something else than it should.
    #[error("with the edited configuration, containerd would have {}", differences.join("; "))]
    Changes {
        /// The first differences.
        differences: Vec<String>,
    },
}

impl ConfigError {
    /// The word for it in an installer's report.
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
            // containerd is asked about files that are laid out for it first.
            Self::Dump { source } if has_no_room(source) => Reason::HostFiles,
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

/// Whether a file could not be written for want of room, or because nothing can be written there.
fn has_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
