//! What can go wrong with a native container.

use std::io;
use std::path::PathBuf;

use process_forker::SpawnError;
use serde::{Deserialize, Serialize};

/// Why a native container, or a process in one, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// The worker could not be forked.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The worker ended before it sent its last reply, for example because it was killed.
    #[error("the process that was setting up {what} ended before it was done")]
    WorkerLost {
        /// What it was setting up.
        what: String,
    },
    /// A file of the container's state could not be written or read. Nothing of the container is
    /// left.
    #[error("cannot {action} {}", path.display())]
    State {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The bundle's configuration cannot be used.
    #[error("cannot use the container's configuration {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The container's root file system, with its mounts, must not be used.
    #[error("cannot use {} of the container's root file system: {reason}", path.display())]
    Root {
        /// A path of the container.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// There is no such program in the container, or it cannot be run.
    #[error(transparent)]
    Program(ProgramFault),
    /// libcontainer failed; what it had set up was removed.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// What it was setting up.
        what: String,
        /// Its error and causes.
        reason: String,
    },
    /// A process can be started in a running container only.
    #[error("container {id} is not running: it is {status}")]
    NotRunning {
        /// The container.
        id: String,
        /// What it is, in libcontainer's words.
        status: String,
    },
    /// Starting failed.
    #[error("cannot start container {id}: {reason}")]
    Start {
        /// The container.
        id: String,
        /// libcontainer's error and causes.
        reason: String,
    },
    /// Something of the container stays: a process that does not end, a cgroup, a folder.
    #[error("cannot delete container {id}: {reason}")]
    Remains {
        /// The container.
        id: String,
        /// What stays, and why.
        reason: String,
    },
    /// The kernel refused a system call that needs nothing but resources.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with the program that a process was to run. Known before the process is started,
/// or, for one that is started in a running container, when the kernel refuses to execute it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProgramFault {
    /// No such file in the container (a shell's 127).
    #[error("{0}")]
    NotFound(String),
    /// There is such a file, and it cannot be executed (a shell's 126).
    #[error("{0}")]
    NotExecutable(String),
    /// The process may not be confined as the container says.
    #[error("{0}")]
    NotConfinable(String),
}
