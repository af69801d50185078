//! What stands between a handler and a containerd's configuration.

use installer_protocol::Reason;

/// Why a configuration cannot be edited, or is not to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not written yet.
    #[error("not written yet")]
    NotYet,
    /// containerd's program says something else than its version.
    #[error("containerd was asked for its version and said {text:?}, in which no word is one")]
    NoVersion {
        /// What it said.
        text: String,
    },
    /// A file or folder cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ConfigError {
    /// The word for it in an installer's report.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotYet => Reason::Interrupted,
            Self::NoVersion { .. } => Reason::Unsupported,
            Self::Read { .. } => Reason::HostFiles,
        }
    }
}
