//! A path of the node, so that it is not mixed up with a path in a container.

use std::fmt;
use std::path::{Path, PathBuf};

/// A path on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePath(PathBuf);

impl NodePath {
    /// Names `path` as the node sees it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path, for a call into the node's file system.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
