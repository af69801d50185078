//! The task of a worker.

use std::fmt;
use std::path::{Path, PathBuf};

use process_forker::WireFd;
use serde::{Deserialize, Serialize};

use crate::stdio::Terminal;

/// A task with the streams of the process that it makes, as the worker receives it over its control
/// socket.
#[derive(Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) task: Task,
    /// Standard input, output and error.
    pub(crate) streams: [WireFd; 3],
}

/// What a worker does. All files exist; the worker writes beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Create a container.
    Create {
        id: String,
        /// A folder with its configuration, as libcontainer is to see it.
        bundle: PathBuf,
        /// Where libcontainer makes the folder of its state, named by the id.
        root: PathBuf,
        /// Where the number of its process is noted, as soon as there is one.
        pid_file: PathBuf,
        /// Whether systemd makes its cgroup.
        systemd: bool,
        /// The SELinux label of its process.
        label: Option<String>,
        /// Whether its streams are a terminal.
        terminal: Terminal,
    },
    /// Run a process in a container that runs.
    Exec {
        /// The container's id.
        id: String,
        /// The folder of the container's configuration.
        bundle: PathBuf,
        /// Where a copy of libcontainer's state of the container lies, in a folder named by the id.
        root: PathBuf,
        /// The process, as containerd gave it; libcontainer's version of it is written beside it.
        process: PathBuf,
        /// Where the number of the process is noted, as soon as there is one.
        pid_file: PathBuf,
        /// Whether its streams are a terminal.
        terminal: Terminal,
    },
}

impl Task {
    /// Returns the file in which the number of the process is noted.
    pub(crate) fn pid_file(&self) -> &Path {
        match self {
            Self::Create { pid_file, .. } | Self::Exec { pid_file, .. } => pid_file,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { id, .. } => write!(formatter, "container {id}"),
            Self::Exec { id, .. } => write!(formatter, "a process in container {id}"),
        }
    }
}
