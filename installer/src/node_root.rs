//! The node's root: paths below it, programs of the node, and the lock that allows one installer at
//! a time.
//!
//! An installer's pod sees the node's paths below `/host`. A [`NodePath`] is a path as the node's
//! own processes see it. Only [`NodeRoot::locate`] turns it into a path of this process, so the two
//! cannot be confused.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Subcommand of this program that runs another one inside the node's root.
pub const IN_ROOT: &str = "in-root";

/// An absolute path on the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(String);

/// A text that is not a path on a node.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an absolute path without `..`: write the path as on the node, beginning with `/`"
)]
pub struct InvalidNodePath(String);

impl NodePath {
    /// Parses an absolute path without `..`.
    ///
    /// # Errors
    /// If it is relative or has `..`.
    pub fn new(text: &str) -> Result<Self, InvalidNodePath> {
        let mut parts = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .peekable();
        if !text.starts_with('/') || text.contains('\0') || text.split('/').any(|part| part == "..")
        {
            return Err(InvalidNodePath(text.to_owned()));
        }
        if parts.peek().is_none() {
            return Ok(Self("/".to_owned()));
        }
        Ok(Self(
            parts.fold(String::new(), |path, part| path + "/" + part),
        ))
    }

    /// Returns the path of `name`, a name or a relative path without `..`, below this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self(format!(
            "{}/{}",
            self.0.trim_end_matches('/'),
            name.trim_matches('/')
        ))
    }

    /// Returns its parent folder; the root's is the root.
    #[must_use]
    pub fn folder(&self) -> Self {
        Self(installer_protocol::layout::parent(&self.0).to_owned())
    }

    /// Returns its last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns whether it is `folder` or below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        Path::new(&self.0).starts_with(&folder.0)
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for NodePath {
    type Error = InvalidNodePath;

    fn try_from(text: String) -> Result<Self, InvalidNodePath> {
        Self::new(&text)
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> Self {
        path.0
    }
}

/// The folder at which this process sees the node's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRoot(PathBuf);

impl NodeRoot {
    /// Maximum number of links in one path, as in the kernel; more are taken for a loop.
    const MAX_LINKS: usize = 40;

    /// Makes the root that is mounted at `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Returns the folder.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Resolves a path of the node to the path of this process. Links are resolved as on the node:
    /// an absolute target is below the root, and none leads out of it. A path that does not exist
    /// resolves to the place where it would be.
    ///
    /// # Errors
    /// If links form a loop, or a component cannot be read.
    pub fn locate(&self, path: &NodePath) -> io::Result<PathBuf> {
        let mut ahead: Vec<OsString> = parts(Path::new(path.as_str())).rev().collect();
        let mut behind = PathBuf::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                behind.pop();
                continue;
            }
            let here = self.0.join(&behind).join(&part);
            match fs::read_link(&here) {
                Ok(target) => {
                    links += 1;
                    if links > Self::MAX_LINKS {
                        return Err(io::Error::other(format!("the links of {path} form a loop")));
                    }
                    if target.is_absolute() {
                        behind = PathBuf::new();
                    }
                    ahead.extend(parts(&target).rev());
                }
                // A file that is not a link, or no file.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                    ) =>
                {
                    behind.push(part);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.0.join(behind))
    }

    /// Returns whether the path exists on the node.
    pub fn has(&self, path: &NodePath) -> bool {
        self.locate(path).is_ok_and(|place| place.exists())
    }

    /// Reads a file; none if it is absent.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &NodePath) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.locate(path)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the command of a program of the node, with the node's root as its root and a minimal
    /// environment.
    ///
    /// # Errors
    /// If the path of this program, which changes the root, is not known.
    pub fn command(&self, program: &NodePath) -> io::Result<Command> {
        let mut command = if self.0 == Path::new("/") {
            Command::new(program.as_str())
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(IN_ROOT).arg(&self.0).arg(program.as_str());
            command
        };
        command.env_clear().env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        Ok(command)
    }

    /// Takes the lock on the folder of containerd's configuration. The installers and guards of all
    /// runtimes share it.
    ///
    /// # Errors
    /// If another process holds it for `timeout`, or the folder cannot be opened.
    pub fn lock(&self, folder: &NodePath, timeout: Duration) -> Result<Lock, LockError> {
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + timeout;
        let open = |source| LockError::Folder {
            folder: folder.clone(),
            source,
        };
        let file = self.locate(folder).and_then(File::open).map_err(open)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(source)) => return Err(open(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(LockError::Held {
                        folder: folder.clone(),
                        waited: timeout,
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(
                    POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now())),
                ),
            }
        }
    }
}

/// The lock. It is released when it is dropped or the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "another installer held the lock on {folder} of the node for {} s: retrying later; \
         `fuser {folder}` on the node names its holder",
        waited.as_secs()
    )]
    Held {
        /// The locked folder.
        folder: NodePath,
        /// The time that was waited.
        waited: Duration,
    },
    /// The folder cannot be opened.
    #[error("cannot lock {folder} on the node: is it the folder of containerd's configuration?")]
    Folder {
        /// The folder.
        folder: NodePath,
        /// The cause.
        source: io::Error,
    },
}

/// Changes the root of this process to `root` and executes `program`. Returns only on an error.
pub fn become_program(root: &Path, program: &OsStr, arguments: &[OsString]) -> io::Error {
    let enter = std::os::unix::fs::chroot(root).and_then(|()| std::env::set_current_dir("/"));
    match enter {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// Returns the components of a path in order, `..` included.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| {
            let name = part.as_os_str();
            OsStr::from_bytes(name.as_bytes()).to_owned()
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> NodePath {
        NodePath::new(text).unwrap()
    }

    #[test]
    fn node_path_is_absolute_and_has_no_parent_components() {
        assert_eq!(path("//etc/./containerd/").as_str(), "/etc/containerd");
        assert_eq!(path("/").join("opt").as_str(), "/opt");
        assert_eq!(path("/opt").folder().as_str(), "/");
        for wrong in ["etc", "", "/etc/../root", "/a\0"] {
            assert!(NodePath::new(wrong).is_err(), "{wrong:?}");
        }
        assert!(
            path("/opt/a").is_within(&path("/opt")) && !path("/optional").is_within(&path("/opt"))
        );
    }

    #[test]
    fn link_never_leads_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = NodeRoot::new(folder.path());
        fs::create_dir_all(folder.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", folder.path().join("lib")).unwrap();
        symlink("../../../../etc", folder.path().join("usr/up")).unwrap();
        symlink("ring", folder.path().join("ring")).unwrap();
        let at = |text| {
            root.locate(&path(text))
                .unwrap()
                .strip_prefix(folder.path())
                .unwrap()
                .to_owned()
        };
        assert_eq!(at("/lib/os-release"), Path::new("usr/lib/os-release"));
        assert_eq!(at("/usr/up/passwd"), Path::new("etc/passwd"));
        assert_eq!(at("/absent/below"), Path::new("absent/below"));
        assert!(
            root.locate(&path("/ring"))
                .unwrap_err()
                .to_string()
                .contains("loop")
        );
    }

    #[test]
    fn lock_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = NodeRoot::new(folder.path());
        let first = root.lock(&path("/"), Duration::ZERO).unwrap();
        let second = root
            .lock(&path("/"), Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(second, LockError::Held { .. }), "{second}");
        drop(first);
        root.lock(&path("/"), Duration::ZERO).unwrap();
    }
}
