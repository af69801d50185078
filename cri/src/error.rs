//! The errors of calls.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// No process listens at the socket, or the connection broke.
    #[error("reach containerd at {}", socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// containerd has no CRI of version 1: it is too old, or the plugin is disabled or failed to
    /// load.
    #[error(
        "containerd at {} serves no CRI v1: it is older than 1.6, or its CRI plugin is disabled or \
         failed to start ({answer})",
        socket.display()
    )]
    NotServed {
        /// The socket's path.
        socket: PathBuf,
        /// Its answer.
        answer: String,
    },
    /// containerd answered with an error.
    #[error("{call}: {answer}")]
    Answer {
        /// The call.
        call: &'static str,
        /// The gRPC code.
        code: Code,
        /// Its text.
        answer: String,
    },
    /// No answer came in time.
    #[error("{call}: no answer from containerd within {} s", timeout.as_secs())]
    TimedOut {
        /// The call.
        call: &'static str,
        /// The time that was waited.
        timeout: Duration,
    },
}

impl CriError {
    /// Classifies the status of a failed call.
    pub(crate) fn of(socket: &Path, call: &'static str, status: &Status) -> Self {
        let answer = status.message().to_owned();
        // A status from containerd has no cause. A status that the client made has the cause at the
        // end of its chain.
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

    /// Returns whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Answer {
                code: Code::NotFound,
                ..
            }
        )
    }
}
