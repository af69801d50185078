//! Errors of a guest's process, on the host's side.

use process_forker::SpawnError;
pub(crate) use process_forker::{Failure, Step};

use crate::guest::Killed;

/// An error of forking, setting up or starting a process.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The process could not be forked.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A step in the host failed, before there was a process.
    #[error(transparent)]
    Host(Failure),
    /// A step of the process's set-up failed.
    #[error(transparent)]
    Setup(Failure),
    /// The workload cannot run; with its own text.
    #[error("{0}")]
    Refused(String),
    /// The compiled code of the workload does not load; with its own text. A process that was taken
    /// over can report it too.
    #[error("{0}")]
    CodeRefused(String),
    /// The process ended before it was ready, without a report.
    #[error("{name}: {how} before it was ready")]
    Died {
        /// The container.
        name: String,
        /// How it ended.
        how: String,
    },
    /// SIGKILL ended the process before it was ready, and this process did not send it.
    #[error("{0}")]
    Killed(Killed),
    /// The process took too long, and was killed.
    #[error(
        "{name}: it was not ready after {seconds} s, and was killed (waiting in the kernel: \
         {wait}): is its container's CPU limit too \
         low, does something in the container stop its processes, or does the file system of a \
         volume not answer?"
    )]
    TimedOut {
        /// The container or process.
        name: String,
        /// The timeout.
        seconds: u64,
        /// The kernel function in which it waited.
        wait: String,
    },
    /// The request for the process was cancelled, and it was killed.
    #[error("{name}: the request was cancelled before it was ready")]
    Cancelled {
        /// The container or process.
        name: String,
    },
    /// [`Guest::start`](crate::Guest::start) was called before.
    #[error("{0} was started before")]
    Started(String),
    /// The process has ended.
    #[error("{0} has ended")]
    Gone(String),
}
