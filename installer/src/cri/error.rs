//! What can go wrong between us and containerd's CRI.

use std::path::PathBuf;
use std::time::Duration;

/// Why containerd did not do, or did not say, what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nobody listens at the socket.
    #[error("connect to containerd at {}", socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// Why not.
        source: tonic::Status,
    },
    /// containerd listens, but has no CRI of version 1: it is too old, or the plugin is disabled or failed to load.
    #[error("containerd at {} serves no CRI v1: it is older than 1.6, or its CRI plugin is disabled or failed to start", socket.display())]
    NotServed {
        /// The socket's path.
        socket: PathBuf,
        /// What it answered.
        source: tonic::Status,
    },
    /// containerd answered with an error.
    #[error("{call}: {}", source.message())]
    Answer {
        /// Name of the call.
        call: &'static str,
        /// The error.
        source: tonic::Status,
    },
    /// No answer came.
    #[error("{call}: no answer from containerd within {} s", limit.as_secs())]
    TimedOut {
        /// Name of the call.
        call: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// containerd answers, but does not become ready.
    #[error("containerd is not ready after {} s: {last}", limit.as_secs())]
    NotReady {
        /// What it last answered.
        last: String,
        /// How long it was waited for.
        limit: Duration,
    },
}
