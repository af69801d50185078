//! What can go wrong between us and containerd's CRI.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

/// Why containerd did not do, or did not say, what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nobody listens at the socket, or who listened went away.
    #[error("reach containerd at {}", socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// containerd listens, but has no CRI of version 1: it is too old, or the plugin is disabled or
    /// failed to load.
    #[error(
        "containerd at {} serves no CRI v1: it is older than 1.6, or its CRI plugin is disabled or \
         failed to start ({answer})",
        socket.display()
    )]
    NotServed {
        /// The socket's path.
        socket: PathBuf,
        /// What it answered.
        answer: String,
    },
    /// containerd answered with an error.
    #[error("{call}: {answer}")]
    Answer {
        /// Name of the call.
        call: &'static str,
        /// gRPC's code of the error.
        code: Code,
        /// Its text.
        answer: String,
    },
    /// No answer came.
    #[error("{call}: no answer from containerd within {} s", limit.as_secs())]
    TimedOut {
        /// Name of the call.
        call: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// containerd does not become ready.
    #[error("containerd is not ready after {} s: {last}", limit.as_secs())]
    NotReady {
        /// What it last answered.
        last: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl CriError {
    /// What a failed call means.
    pub(super) fn of(socket: &Path, call: &'static str, status: &Status) -> Self {
        let answer = status.message().to_owned();
        // A status that containerd sent has no cause; the cause of one that was made here is at the
        // chain's end.
        let mut cause = status.source();
        while let Some(deeper) = cause.and_then(|error| error.source()) {
            cause = Some(deeper);
        }
        match (cause, status.code()) {
            (Some(cause), _) => {
                let kind = cause
                    .downcast_ref::<io::Error>()
                    .map_or(io::ErrorKind::Other, io::Error::kind);
                Self::Unreachable {
                    socket: socket.to_owned(),
                    source: io::Error::new(kind, cause.to_string()),
                }
            }
            (None, Code::Unimplemented) => Self::NotServed {
                socket: socket.to_owned(),
                answer,
            },
            (None, code) => Self::Answer { call, code, answer },
        }
    }

    /// Whether containerd says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Answer {
                code: Code::NotFound,
                ..
            }
        )
    }
}
