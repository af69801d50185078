//! Two kinds of path that must never be mixed up.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// A path on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath(PathBuf);

impl HostPath {
    /// Names `path` as the node sees it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path, for a call into the node's file system.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// An absolute path as the container sees it, without `.` and `..`.
///
/// `..` is resolved by name, as a shell's `cd` does, and never leads above `/`. Symbolic links are the kernel's
/// business: a guest path is only ever opened below a root (see [`crate::guest::rootfs`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuestPath(PathBuf);

impl GuestPath {
    /// `path` as seen from `cwd`.
    pub fn resolve(cwd: &Path, path: &Path) -> Self {
        let mut resolved = PathBuf::from("/");
        for part in Path::new("/").join(cwd).join(path).components() {
            match part {
                // Popping `/` leaves `/`.
                Component::ParentDir => {
                    resolved.pop();
                }
                Component::Normal(name) => resolved.push(name),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Self(resolved)
    }

    /// The path, starting with `/`.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// What is left of this path below `folder`, if it lies there.
    pub fn below(&self, folder: &Self) -> Option<&Path> {
        self.0.strip_prefix(&folder.0).ok()
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_path_is_absolute_and_never_leads_above_the_root() {
        for (cwd, path, expected) in [
            ("/", "app.wasm", "/app.wasm"),
            ("/data", "app.wasm", "/data/app.wasm"),
            ("/data", "./x/../app.wasm", "/data/app.wasm"),
            ("/data", "/app.wasm", "/app.wasm"),
            ("/", "../../etc/passwd", "/etc/passwd"),
            ("", "app.wasm", "/app.wasm"),
        ] {
            assert_eq!(GuestPath::resolve(Path::new(cwd), Path::new(path)).as_path(), Path::new(expected), "{path} from {cwd}");
        }
    }

    #[test]
    fn below_compares_whole_names() {
        let root = |path: &str| GuestPath::resolve(Path::new("/"), Path::new(path));
        assert_eq!(root("/data/app.wasm").below(&root("/data")), Some(Path::new("app.wasm")));
        assert_eq!(root("/database/app.wasm").below(&root("/data")), None);
    }
}
