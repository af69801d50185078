//! The path of a folder on a node, as an option has it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The longest path, in bytes.
const MAX_PATH: usize = 1024;
/// What the path is, as error messages name it.
pub(crate) const VALUES: &str = "an absolute path whose parts consist of letters, digits, `_`, \
                                 `-` and `.`, and do not begin with `.`";

/// The absolute path of a folder on a node. It has no part `.` or `..`, and needs no escapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeFolder(String);

/// The error of a path that is not a [`NodeFolder`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the folder {0:?} is not possible: it is {VALUES}")]
pub struct BadFolder(String);

impl NodeFolder {
    /// Checks a path. None if it is not absolute, or has a part that is not possible.
    pub fn new(path: &str) -> Option<Self> {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_letter);
        let is_possible = path.len() <= MAX_PATH && path.strip_prefix('/')?.split('/').all(is_part);
        is_possible.then(|| Self(path.to_owned()))
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeFolder {
    type Error = BadFolder;

    fn try_from(path: String) -> Result<Self, BadFolder> {
        Self::new(&path).ok_or(BadFolder(path))
    }
}

impl From<NodeFolder> for String {
    fn from(folder: NodeFolder) -> Self {
        folder.0
    }
}

impl fmt::Display for NodeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for NodeFolder {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodeFolder".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": MAX_PATH,
            "pattern": "^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_an_absolute_path_without_special_parts() {
        for path in [
            "/a",
            "/var/lib/wasmedge-runtime/artifacts",
            "/mnt/disk.1/a_B-2",
        ] {
            assert_eq!(NodeFolder::new(path).unwrap().as_path(), Path::new(path));
        }
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for path in [
            "", "/", "a", "./a", "/a/", "//a", "/a//b", "/..", "/a/../b", "/a/.", "/.hidden",
            "/a b", "/a\"", "/a\n", "/ä", &long,
        ] {
            assert_eq!(NodeFolder::new(path), None, "{path:?}");
            let error = serde_json::from_value::<NodeFolder>(path.into()).unwrap_err();
            assert!(
                error.to_string().contains("absolute path"),
                "{path:?}: {error}"
            );
        }
    }
}
