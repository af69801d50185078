//! The error of a wait for containerd.

use std::time::Duration;

use super::CriError;

/// A wait for containerd that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// It will not become ready.
    #[error(transparent)]
    Cri(#[from] CriError),
    /// It does not become ready.
    #[error("containerd is not ready after {} s: {last}", timeout.as_secs())]
    NotReady {
        /// Its last answer.
        last: String,
        /// The time that was waited.
        timeout: Duration,
    },
}
