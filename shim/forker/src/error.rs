//! Errors of forking a process.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::wire::truncated;

/// Why a process could not be spawned.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The forking process ended or did not answer. Another one takes its place, so the request can
    /// be repeated.
    #[error(
        "the process that forks containers ended in the middle ({0}), and another one takes its \
         place: try again"
    )]
    Ended(String),
    /// The forking process is lost and cannot be replaced: this host can spawn no more processes.
    #[error("the process that forks containers is lost: {0}")]
    Lost(String),
    /// A step in the host failed.
    #[error(transparent)]
    Host(Failure),
    /// The kernel refused the fork.
    #[error(transparent)]
    Fork(Failure),
}

/// Why the forkers could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the processes that fork containers: {0}")]
pub struct StartError(pub(crate) Failure);

/// A step that failed: what was tried, on what, and the cause.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {cause}")]
pub struct Failure {
    step: String,
    cause: String,
}

impl Failure {
    /// Makes a failure of `step`.
    pub fn of(step: impl Into<String>, cause: impl Display) -> Self {
        Self {
            step: step.into(),
            cause: cause.to_string(),
        }
    }

    /// Cuts its texts to what fits into a reply ([`wire::MAX_REPLY`](crate::wire::MAX_REPLY)).
    #[must_use]
    pub fn truncated(self) -> Self {
        Self {
            step: truncated(self.step),
            cause: truncated(self.cause),
        }
    }
}

/// Adds the step that failed to an error.
pub trait Step<T> {
    /// `step` names operation and object.
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T, E: Display> Step<T> for Result<T, E> {
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|cause| Failure::of(step(), cause))
    }
}
