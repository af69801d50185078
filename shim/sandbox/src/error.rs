//! What can go wrong between the host, the zygote and a guest's process.

use process_forker::SpawnError;
pub(crate) use process_forker::{Failure, Step};

use crate::guest::Killed;

/// Why there is no process, or why it does not run.
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
    /// The workload cannot run: its own words.
    #[error("{0}")]
    Refused(String),
    /// The process ended before it was ready, and said nothing.
    #[error("{name}: {how} before it was ready")]
    Died {
        /// Which container.
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
         low, or does something in the container stop its processes?"
    )]
    TimedOut {
        /// Which container, or which process.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// Where in the kernel it waited.
        wait: String,
    },
    /// Whoever had asked for the process gave it up, and it was killed.
    #[error("{name}: the request was cancelled before it was ready")]
    Cancelled {
        /// Which container, or which process.
        name: String,
    },
    /// [`Guest::start`](crate::Guest::start) was called before.
    #[error("{0} was started before")]
    Started(String),
    /// The process has ended.
    #[error("{0} has ended")]
    Gone(String),
}
