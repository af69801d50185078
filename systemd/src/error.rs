//! What can go wrong between us and systemd.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::unit::ActiveState;

/// Why systemd did not do, or did not say, what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The socket is not there, or nobody listens: the host is not run by systemd, or the wrong
    /// folder is mounted.
    #[error("connect to systemd at {}", socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// systemd does not accept us: not root, or root of another user namespace.
    #[error("systemd refuses this process: it must be the host's root (answer {answer:?})")]
    Refused {
        /// What it answered.
        answer: String,
    },
    /// No answer came.
    #[error("{what}: no answer from systemd within {} s", limit.as_secs())]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection broke.
    #[error("{what}: the connection to systemd broke")]
    Broken {
        /// What was asked.
        what: String,
        /// How.
        source: io::Error,
    },
    /// The answer is not what D-Bus or systemd's interface promise.
    #[error("{what}: systemd's answer cannot be read: {problem}")]
    Malformed {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// systemd answered with an error.
    #[error("{what}: {name}: {message}")]
    Answer {
        /// What was asked.
        what: String,
        /// D-Bus' name of the error.
        name: String,
        /// Its text.
        message: String,
    },
    /// The unit did not become what it was asked to become.
    #[error("{unit} did not do what it was asked: it is {state} (result {result:?})")]
    Failed {
        /// The unit.
        unit: String,
        /// What it became.
        state: ActiveState,
        /// systemd's word for how its last run ended: `exit-code`, `signal`, `start-limit-hit`, …
        result: String,
    },
    /// The unit took too long.
    #[error("{unit} is still {state} after {} s", limit.as_secs())]
    Unsettled {
        /// The unit.
        unit: String,
        /// What it was last seen as.
        state: ActiveState,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl SystemdError {
    /// Whether systemd has a unit of the name that another was to be started under.
    pub fn is_exists(&self) -> bool {
        self.is_named("org.freedesktop.systemd1.UnitExists")
    }

    pub(super) fn is_named(&self, error: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == error)
    }
}
