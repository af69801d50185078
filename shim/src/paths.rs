//! Node paths as a type, so that they are not mixed up with paths in a container.

use std::fmt;
use std::path::{Path, PathBuf};

/// A path in the node's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePath(PathBuf);

impl NodePath {
    /// Marks `path` as a path of the node.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the path, for a call into the node's file system.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
