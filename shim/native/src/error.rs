//! Errors of native containers.

use std::io;
use std::path::PathBuf;

use process_forker::SpawnError;
use serde::{Deserialize, Serialize};

/// An error of creating, starting or deleting a native container, or a process in one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// The worker could not be forked.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The worker ended before it sent its last reply, for example because it was killed.
    #[error("the process that was setting up {what} ended before it was done")]
    WorkerLost {
        /// The container, or the process in one.
        what: String,
    },
    /// A file of the container's state could not be written or read. Nothing of the container is
    /// left.
    #[error("cannot {action} {}", path.display())]
    State {
        /// The operation.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The bundle's configuration cannot be used.
    #[error("cannot use the container's configuration {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The container's root file system, with its mounts, must not be used.
    #[error("cannot use {} of the container's root file system: {reason}", path.display())]
    Root {
        /// A path of the container.
        path: PathBuf,
        /// The cause, and the next step.
        reason: &'static str,
    },
    /// The container has no such program, or it cannot be run.
    #[error(transparent)]
    Program(ProgramFault),
    /// libcontainer failed; what it had set up was removed.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// The container, or the process in one.
        what: String,
        /// Its error and causes.
        reason: String,
    },
    /// A process can be started in a running container only.
    #[error("container {id} is not running: it is {status}")]
    NotRunning {
        /// The container.
        id: String,
        /// Its status, as libcontainer names it.
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
    /// A part of the container could not be removed: a process that does not end, a cgroup, a
    /// folder.
    #[error("cannot delete container {id}: {reason}")]
    NotDeleted {
        /// The container.
        id: String,
        /// The part, and the cause.
        reason: String,
    },
    /// The kernel refused a system call that needs nothing but resources.
    #[error("cannot {action}")]
    Kernel {
        /// The operation.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The fault of a process's program. It is found before the process is started, or, for a process
/// of exec, when the kernel refuses to execute the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProgramFault {
    /// The container has no such file (exit code 127 of a shell).
    #[error("{0}")]
    NotFound(String),
    /// The file cannot be executed (exit code 126 of a shell).
    #[error("{0}")]
    NotExecutable(String),
    /// The process cannot be confined as the container requires.
    #[error("{0}")]
    NotConfinable(String),
}
