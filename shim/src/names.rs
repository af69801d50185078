//! Names of things in messages, as types of their own: paths of the node, and processes.

use std::fmt;
use std::path::{Path, PathBuf};

/// A path in the node's file system, which must not be mixed up with a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePath(PathBuf);

impl NodePath {
    /// Marks `path` as a path of the node.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the path, for a call into the node's file system.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// containerd's name of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessName {
    /// The container's id.
    pub(crate) container: String,
    /// The exec's id; empty for the first process.
    pub(crate) exec: String,
}

impl ProcessName {
    /// Returns the id in events: the exec's, or the container's.
    pub(crate) fn event_id(&self) -> &str {
        if self.exec.is_empty() {
            &self.container
        } else {
            &self.exec
        }
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exec.as_str() {
            "" => write!(f, "task {}", self.container),
            exec => write!(f, "process {exec} of task {}", self.container),
        }
    }
}
