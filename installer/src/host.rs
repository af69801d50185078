//! The host: its files below one root, its programs, and the lock that lets one installer at a time
//! change it.
//!
//! An installer's pod sees the host's paths below a root of its own, `/host`. A [`HostPath`] is a
//! path as the host knows it; only [`HostRoot::locate`] makes a path of this process of it, so that
//! the two cannot be mixed up.

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

/// Subcommand of this program that runs another one inside the host's root.
pub const IN_ROOT: &str = "in-root";

/// An absolute path on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPath(String);

/// A text that is no path on a host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no absolute path without `..`: write the path as the host knows it, beginning with \
     `/`"
)]
pub struct NoHostPath(String);

impl HostPath {
    /// A path that begins with `/` and climbs nowhere.
    ///
    /// # Errors
    /// When it does not.
    pub fn new(text: &str) -> Result<Self, NoHostPath> {
        let mut parts = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .peekable();
        if !text.starts_with('/') || text.contains('\0') || text.split('/').any(|part| part == "..")
        {
            return Err(NoHostPath(text.to_owned()));
        }
        if parts.peek().is_none() {
            return Ok(Self("/".to_owned()));
        }
        Ok(Self(
            parts.fold(String::new(), |path, part| path + "/" + part),
        ))
    }

    /// The path of `name`, a name or a relative path without `..`, below this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self(format!(
            "{}/{}",
            self.0.trim_end_matches('/'),
            name.trim_matches('/')
        ))
    }

    /// The folder that it lies in; the root's is the root.
    #[must_use]
    pub fn folder(&self) -> Self {
        Self(installer_protocol::layout::parent(&self.0).to_owned())
    }

    /// The last part of it.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is this folder or lies below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        Path::new(&self.0).starts_with(&folder.0)
    }

    /// The path as the host knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for HostPath {
    type Error = NoHostPath;

    fn try_from(text: String) -> Result<Self, NoHostPath> {
        Self::new(&text)
    }
}

impl From<HostPath> for String {
    fn from(path: HostPath) -> Self {
        path.0
    }
}

/// Where this process sees the host's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl HostRoot {
    /// Links that are followed in one path before it is taken for a ring, as the kernel does.
    const LINKS: usize = 40;

    /// The host's root is this folder.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The folder.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Where this process finds a path of the host. Links lead where they lead on the host: one to
    /// `/x` is below the root, and none leads out of it. What is absent is located where it would
    /// be.
    ///
    /// # Errors
    /// When links lead in a ring, or a part of the path cannot be looked at.
    pub fn locate(&self, path: &HostPath) -> io::Result<PathBuf> {
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
                    if links > Self::LINKS {
                        return Err(io::Error::other(format!(
                            "the links of {path} lead in a ring"
                        )));
                    }
                    if target.is_absolute() {
                        behind = PathBuf::new();
                    }
                    ahead.extend(parts(&target).rev());
                }
                // No link, or nothing at all.
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

    /// Whether the host has something at this path.
    pub fn has(&self, path: &HostPath) -> bool {
        self.locate(path).is_ok_and(|place| place.exists())
    }

    /// A file's bytes; none when it is absent.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &HostPath) -> io::Result<Option<Vec<u8>>> {
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

    /// A program of the host, to be run with the host's root as its root and an environment of its
    /// own.
    ///
    /// # Errors
    /// When this program does not know where it lies itself, which it starts again inside the root.
    pub fn command(&self, program: &HostPath) -> io::Result<Command> {
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

    /// Takes the lock that installers and guards of all runtimes share: on the folder of
    /// containerd's configuration.
    ///
    /// # Errors
    /// When somebody holds it until `wait` is over, or the folder cannot be opened.
    pub fn lock(&self, folder: &HostPath, wait: Duration) -> Result<Lock, LockError> {
        const PAUSE: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + wait;
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
                        waited: wait,
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(
                    PAUSE.min(deadline.saturating_duration_since(Instant::now())),
                ),
            }
        }
    }
}

/// The lock, held until it is dropped; the kernel drops it for a process that is killed.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// No lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "another installer held the lock on {folder} of the host for {} s: it will be tried again; \
         `fuser {folder}` on the node names its holder",
        waited.as_secs()
    )]
    Held {
        /// What the lock is on.
        folder: HostPath,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is nothing to lock.
    #[error("cannot lock {folder} of the host: is it the folder of containerd's configuration?")]
    Folder {
        /// What the lock is on.
        folder: HostPath,
        /// Why not.
        source: io::Error,
    },
}

/// Makes `root` the root of this process and becomes `program`. Returns only what went wrong.
pub fn become_program(root: &Path, program: &OsStr, arguments: &[OsString]) -> io::Error {
    let enter = std::os::unix::fs::chroot(root).and_then(|()| std::env::set_current_dir("/"));
    match enter {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// The names in a path, in its order, `..` among them.
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

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    #[test]
    fn a_host_path_is_absolute_and_climbs_nowhere() {
        assert_eq!(path("//etc/./containerd/").as_str(), "/etc/containerd");
        assert_eq!(path("/").join("opt").as_str(), "/opt");
        assert_eq!(path("/opt").folder().as_str(), "/");
        for wrong in ["etc", "", "/etc/../root", "/a\0"] {
            assert!(HostPath::new(wrong).is_err(), "{wrong:?}");
        }
        assert!(
            path("/opt/a").is_within(&path("/opt")) && !path("/optional").is_within(&path("/opt"))
        );
    }

    #[test]
    fn a_link_never_leads_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::new(folder.path());
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
                .contains("ring")
        );
    }

    #[test]
    fn one_at_a_time_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostRoot::new(folder.path());
        let first = root.lock(&path("/"), Duration::ZERO).unwrap();
        let second = root
            .lock(&path("/"), Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(second, LockError::Held { .. }), "{second}");
        drop(first);
        root.lock(&path("/"), Duration::ZERO).unwrap();
    }
}
