//! What can go wrong with a cgroup.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a cgroup could not be made, limited, read, or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The machine has no cgroups that containers could be put into.
    #[error("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// `linux.cgroupsPath` cannot be used.
    #[error("linux.cgroupsPath {path:?} {problem}")]
    Path {
        /// The path as the spec has it.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A limit that this version of cgroups has no means for, or whose value means nothing.
    #[error("{field} cannot be honoured: {reason}")]
    Refused {
        /// The field of the OCI spec.
        field: String,
        /// Why not.
        reason: String,
    },
    /// A limit's controller is not there.
    #[error("{field} needs the cgroup controller {controller}, which is not available")]
    MissingController {
        /// The field of the OCI spec.
        field: String,
        /// The controller, as the kernel names it.
        controller: String,
    },
    /// Another container's processes are in the cgroup that is to be made.
    #[error("the cgroup {} is in use by processes {processes:?}", folder.display())]
    InUse {
        /// The cgroup's folder.
        folder: PathBuf,
        /// The processes in it.
        processes: Vec<u32>,
    },
    /// A file or a folder could not be read, made, or removed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried: "read", "make".
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not take a value.
    #[error("write {value:?} to {} for {field}", path.display())]
    Set {
        /// The field of the OCI spec, or what it is written for.
        field: String,
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the kernel's does not say what it should.
    #[error("{} holds {text:?}, which was not understood", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// Something did not come to be in time.
    #[error("{} was not {state} within {limit:?}: {evidence}", folder.display())]
    TimedOut {
        /// The cgroup.
        folder: PathBuf,
        /// What was waited for: "frozen".
        state: &'static str,
        /// For how long.
        limit: Duration,
        /// What was seen last.
        evidence: String,
    },
    /// A signal's number is none.
    #[error("there is no signal {0}")]
    NoSuchSignal(u32),
    /// A process could not be signalled.
    #[error("signal {signal} to process {process}")]
    Signal {
        /// Its number.
        signal: u32,
        /// The process.
        process: u32,
        /// Why not.
        source: io::Error,
    },
    /// systemd did not do what it was asked.
    #[error("{operation} {unit}")]
    Systemd {
        /// What it was asked for.
        operation: &'static str,
        /// For which unit.
        unit: String,
        /// Its answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The metrics could not be written as a message.
    #[error("encode the metrics of {}", folder.display())]
    Encode {
        /// The cgroup.
        folder: PathBuf,
        /// Why not.
        source: containerd_shim_protos::protobuf::Error,
    },
}

impl CgroupError {
    /// Whether the cgroup is not there (any more).
    pub fn is_gone(&self) -> bool {
        match self {
            // A cgroup that is removed while a file of it is open answers ENODEV.
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
