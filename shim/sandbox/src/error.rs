//! What can go wrong between the host, the zygote and a guest's process.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::guest::Killed;
use crate::wire::fitting;

/// Why there is no process, or why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The zygote ended or did not answer, and another one takes its place: the same can be asked
    /// for again.
    #[error(
        "the process that forks guests ended in the middle ({0}), and another one takes its place: \
         try again"
    )]
    ZygoteEnded(String),
    /// The zygote ended, and none can take its place: no guest can be created any more by this
    /// host.
    #[error("the process that forks guests is lost: {0}")]
    ZygoteLost(String),
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

/// Why there is no zygote.
#[derive(Debug, thiserror::Error)]
#[error("start the process that forks guests: {0}")]
pub struct ZygoteError(pub(crate) Failure);

/// A step that failed: what was tried, on what, and why it did not work.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct Failure {
    step: String,
    cause: String,
}

impl Failure {
    /// A failure of `step`.
    pub(crate) fn of(step: impl Into<String>, cause: impl Display) -> Self {
        Self {
            step: step.into(),
            cause: cause.to_string(),
        }
    }

    /// As much of it as an answer to the host has room for.
    pub(crate) fn fitting(self) -> Self {
        Self {
            step: fitting(self.step),
            cause: fitting(self.cause),
        }
    }
}

/// Says of an error which step failed.
pub(crate) trait Step<T> {
    /// `step` names operation and object.
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T, E: Display> Step<T> for Result<T, E> {
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|cause| Failure::of(step(), cause))
    }
}
