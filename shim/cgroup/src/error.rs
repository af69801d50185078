//! Errors of cgroup operations.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of creating, limiting, reading or removing a cgroup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup hierarchy for containers is mounted.
    #[error("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// `linux.cgroupsPath` is not usable.
    #[error("linux.cgroupsPath {path:?} {problem}")]
    Path {
        /// The path from the spec.
        path: String,
        /// The problem, as a predicate of the path.
        problem: &'static str,
    },
    /// A limit that this cgroup version does not support, or with a value that is not valid.
    #[error("{field} cannot be honoured: {reason}")]
    Refused {
        /// The field of the OCI spec.
        field: String,
        /// The reason.
        reason: String,
    },
    /// The controller of a limit is not available.
    #[error("{field} needs the cgroup controller {controller}, which is not available")]
    MissingController {
        /// The field of the OCI spec.
        field: String,
        /// The controller's kernel name.
        controller: String,
    },
    /// Processes of another container are in the cgroup that is to be created.
    #[error("the cgroup {} is in use by processes {processes:?}", folder.display())]
    InUse {
        /// The cgroup's folder.
        folder: PathBuf,
        /// The processes in the cgroup.
        processes: Vec<u32>,
    },
    /// A file or folder could not be read, created or removed.
    #[error("{operation} {}", path.display())]
    Io {
        /// The operation: "read", "make".
        operation: &'static str,
        /// The path of the file or folder.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("write {value:?} to {} for {field}", path.display())]
    Set {
        /// The field of the OCI spec, or the purpose of the write.
        field: String,
        /// The file that was written to.
        path: PathBuf,
        /// The value that was written.
        value: String,
        /// The I/O error.
        source: io::Error,
    },
    /// A kernel file has content of an unknown form.
    #[error("{} holds {text:?}, which is not understood", path.display())]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// Its content.
        text: String,
    },
    /// A cgroup did not reach a state before the timeout.
    #[error("{} was not {state} within {timeout:?}: {evidence}", folder.display())]
    TimedOut {
        /// The cgroup's folder.
        folder: PathBuf,
        /// The awaited state: "frozen".
        state: &'static str,
        /// The timeout.
        timeout: Duration,
        /// The state at the timeout.
        evidence: String,
    },
    /// The number is not a signal's.
    #[error("there is no signal {0}")]
    NoSuchSignal(u32),
    /// A process could not be signalled.
    #[error("signal {signal} to process {process}")]
    Signal {
        /// The signal's number.
        signal: u32,
        /// The process id.
        process: u32,
        /// The error of kill(2).
        source: io::Error,
    },
    /// A request to systemd failed.
    #[error("{operation} {unit}")]
    Systemd {
        /// The operation: "start", "stop".
        operation: &'static str,
        /// The unit's name.
        unit: String,
        /// The error of the connection, or systemd's reply.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The metrics message could not be encoded.
    #[error("encode the metrics of {}", folder.display())]
    Encode {
        /// The cgroup's folder.
        folder: PathBuf,
        /// The encoder's error.
        source: containerd_shim_protos::protobuf::Error,
    },
}

impl CgroupError {
    /// Returns whether the error means that the cgroup does not exist.
    pub fn is_gone(&self) -> bool {
        match self {
            // Files of a removed cgroup that are still open return ENODEV.
            Self::Io { source, .. } | Self::Set { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
                    || source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
            }
            _ => false,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn refused(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
