//! The errors of the client.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::unit::ActiveState;

/// An operation that systemd did not complete.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The socket is absent, or no process listens: the node does not run systemd, or the wrong
    /// folder is mounted.
    #[error("connect to systemd at {}", socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// systemd refuses the user: not root, or root of another user namespace.
    #[error("systemd refuses this process: it must be the node's root user (answer {answer:?})")]
    Refused {
        /// Its answer.
        answer: String,
    },
    /// No reply came in time.
    #[error("{what}: no answer from systemd within {} s", limit.as_secs())]
    TimedOut {
        /// The operation.
        what: String,
        /// The time that was waited.
        limit: Duration,
    },
    /// The connection broke.
    #[error("{what}: the connection to systemd broke")]
    Broken {
        /// The operation.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The reply does not follow D-Bus or systemd's interface.
    #[error("{what}: systemd's answer cannot be read: {problem}")]
    Malformed {
        /// The operation.
        what: String,
        /// The problem.
        problem: String,
    },
    /// systemd replied with an error.
    #[error("{what}: {name}: {message}")]
    Answer {
        /// The operation.
        what: String,
        /// D-Bus name of the error.
        name: String,
        /// Its text.
        message: String,
    },
    /// The job failed.
    #[error("the job of {unit} failed: the unit is {state} (result {result:?})")]
    Failed {
        /// The unit.
        unit: String,
        /// The unit's state.
        state: ActiveState,
        /// systemd's result of its last run: `exit-code`, `signal`, `start-limit-hit`, …
        result: String,
    },
    /// The job took too long.
    #[error("{unit} is still {state} after {} s", limit.as_secs())]
    Unsettled {
        /// The unit.
        unit: String,
        /// Its last known state.
        state: ActiveState,
        /// The time that was waited.
        limit: Duration,
    },
}

impl SystemdError {
    /// Returns whether the error is that a unit of the requested name exists.
    pub fn is_exists(&self) -> bool {
        self.is_named("org.freedesktop.systemd1.UnitExists")
    }

    pub(super) fn is_named(&self, error: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == error)
    }
}
