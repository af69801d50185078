//! The files of a host's key, and the rules for changing them.
//!
//! | file | contents |
//! |---|---|
//! | `<key>.lock` | nothing; locked by a process that changes one of the others |
//! | `<key>.host` | the pointer: the path of the socket for new containers; its time is that of the last new container |
//! | `<key>-<number>` | a host's socket; never reused |
//!
//! ```text
//! launcher                                        host
//!   lock                                            (idle for a while)
//!   the pointer's socket answers? ── yes: touch     lock
//!     no: listen on a new socket                    touched since it was idle? ── yes: stay
//!         point to it                                 no: remove pointer and socket
//!         start a host on it                        unlock, end
//!   unlock
//! ```
//!
//! A launcher that is killed may leave a pointer to a socket without a listener, or none: the next
//! launcher starts over. A launcher that is killed after its fork leaves a host with a pointer to
//! it. So there is always one host for new containers.
//!
//! Only root can open any of the files, or create files in the folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::HostKey;
use super::lock::{self, LOCK_TIMEOUT};
use crate::file::{FileError, if_found, remove, replace};

/// The default folder of containerd's shim sockets.
pub const SOCKETS: &str = "/run/containerd/s";
/// The backlog of the host's socket: the kernel's maximum.
const BACKLOG: i32 = 4096;

/// Whether a process serves a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A process listens, or will; it may be busy.
    Listens,
    /// No process ever will: the socket or its listener is gone.
    Dead,
}

/// Checks without waiting whether a process listens on `socket`.
///
/// # Errors
/// If the kernel's answer is inconclusive.
pub fn liveness(socket: &Path) -> Result<Liveness, FileError> {
    Ok(match connect(socket)? {
        ConnectResult::Connected(_) | ConnectResult::BacklogFull => Liveness::Listens,
        ConnectResult::Refused => Liveness::Dead,
    })
}

/// Checks like [`liveness`], for a host that has probably died. A killed host closes its
/// connections, from which others learn of its death, before its listening socket, and its forked
/// children may hold that a little longer. So an accepted connection is watched for its end, at
/// most for `timeout`.
///
/// # Errors
/// If the kernel's answer is inconclusive.
pub fn liveness_after(socket: &Path, timeout: Duration) -> Result<Liveness, FileError> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = match connect(socket)? {
            ConnectResult::Refused => return Ok(Liveness::Dead),
            ConnectResult::Connected(connection) => closes_within(&connection, left)
                .map_err(|error| FileError::new("watch", socket, error))?,
            ConnectResult::BacklogFull => {
                // Nothing is accepted, so there is nothing to watch.
                std::thread::sleep(CONNECT_RETRY_INTERVAL.min(left));
                left > CONNECT_RETRY_INTERVAL
            }
        };
        if !ended || left.is_zero() {
            return Ok(Liveness::Listens);
        }
    }
}

/// The interval between connection attempts while the backlog is full.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(10);

enum ConnectResult {
    Connected(OwnedFd),
    /// The backlog is full, so a process listens.
    BacklogFull,
    Refused,
}

fn connect(socket: &Path) -> Result<ConnectResult, FileError> {
    let asked = |error: Errno| FileError::new("connect to", socket, error);
    let address = SocketAddrUnix::new(socket).map_err(asked)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(asked)?;
    match rustix::net::connect(&client, &address) {
        Ok(()) => Ok(ConnectResult::Connected(client)),
        Err(Errno::AGAIN) => Ok(ConnectResult::BacklogFull),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(ConnectResult::Refused),
        Err(error) => Err(asked(error)),
    }
}

/// Returns whether the other side of `connection` closes it within `timeout`. It sends nothing on
/// its own.
fn closes_within(connection: &OwnedFd, timeout: Duration) -> Result<bool, Errno> {
    let mut watched = [PollFd::new(connection, PollFlags::RDHUP)];
    let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
    match poll(&mut watched, Some(&timeout)) {
        // Interrupted: the caller connects and watches again, until its own deadline.
        Err(Errno::INTR) => Ok(true),
        result => Ok(result? > 0),
    }
}

/// The files of a host's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFiles {
    folder: PathBuf,
    key: HostKey,
}

/// The result of retiring a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// No new container will be sent to this host.
    Yes,
    /// A container was sent to it meanwhile: it must stay.
    No,
}

/// The users that can create files in a folder.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    /// Root and this process alone.
    Own,
    /// Other users too.
    Others,
}

/// Decides by a folder's owner and mode, for a process of user `own`. A sticky bit does not help:
/// it still allows others to create files.
fn access(owner: u32, mode: u32, own: u32) -> Access {
    if (owner == own || owner == 0) && mode & 0o022 == 0 {
        Access::Own
    } else {
        Access::Others
    }
}

impl HostFiles {
    /// Returns the files of `key` in `folder`, which is created when it is first locked.
    pub fn new(folder: impl Into<PathBuf>, key: HostKey) -> Self {
        Self {
            folder: folder.into(),
            key,
        }
    }

    /// Returns the files of the host that listens on `socket`.
    pub fn from_socket(socket: &Path, key: HostKey) -> Self {
        Self::new(socket.parent().unwrap_or(Path::new("/")), key)
    }

    /// Returns the files of any host that listens or listened on `socket`; `None` for a path that
    /// no launcher made.
    pub fn from_any_socket(socket: &Path) -> Option<Self> {
        let (key, _) = socket.file_name()?.to_str()?.split_once('-')?;
        Some(Self::from_socket(socket, HostKey::from_name(key)?))
    }

    /// Returns when a container was last sent to the host of the pointer; `None` without a pointer.
    /// Compare the result with an earlier one only for equality, because clocks can be set back.
    pub fn touched(&self) -> Result<Option<SystemTime>, FileError> {
        let pointer = self.pointer();
        if_found(fs::metadata(&pointer).and_then(|facts| facts.modified()))
            .map_err(|error| FileError::new("look at", &pointer, error))
    }

    /// Waits until no other process changes these files. Dropping the result unlocks them.
    ///
    /// # Errors
    /// If other users can write to the folder, the lock cannot be opened, or another process holds
    /// it for too long.
    pub fn lock(&self) -> Result<LockedFiles<'_>, FileError> {
        self.prepare_folder()?;
        Ok(LockedFiles {
            files: self,
            _file: lock::lock(&self.lock_file(), LOCK_TIMEOUT)?,
        })
    }

    /// Creates the folder, or checks that no other user can create files in it: their pointer would
    /// lead containerd to their socket.
    fn prepare_folder(&self) -> Result<(), FileError> {
        let looked = |error: io::Error| FileError::new("look at", &self.folder, error);
        let Some(found) = if_found(fs::metadata(&self.folder)).map_err(looked)? else {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&self.folder);
            return made.map_err(|error| FileError::new("make", &self.folder, error));
        };
        let own = rustix::process::geteuid().as_raw();
        match access(found.uid(), found.mode(), own) {
            Access::Own => Ok(()),
            Access::Others => {
                let text = format!(
                    "user {} owns it with mode {:o}: give it to user {own} with mode 711",
                    found.uid(),
                    found.mode() & 0o7777
                );
                Err(FileError::new(
                    "use the folder of sockets",
                    &self.folder,
                    io::Error::new(ErrorKind::PermissionDenied, text),
                ))
            }
        }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}{ending}", self.key))
    }

    fn lock_file(&self) -> PathBuf {
        self.file(".lock")
    }

    fn pointer(&self) -> PathBuf {
        self.file(".host")
    }
}

/// The files of a key, locked.
#[derive(Debug)]
pub struct LockedFiles<'a> {
    files: &'a HostFiles,
    _file: File,
}

impl LockedFiles<'_> {
    /// Returns the socket of the pointer, with or without a listener.
    pub fn pointed_socket(&self) -> Result<Option<PathBuf>, FileError> {
        let pointer = self.files.pointer();
        let text = if_found(fs::read(&pointer))
            .map_err(|error| FileError::new("read", &pointer, error))?;
        Ok(text.map(|text| PathBuf::from(std::ffi::OsString::from_vec(text))))
    }

    /// Returns the socket of the host for new containers, if it is alive.
    pub fn current(&self) -> Result<Option<PathBuf>, FileError> {
        let Some(socket) = self.pointed_socket()? else {
            return Ok(None);
        };
        Ok(match liveness(&socket)? {
            Liveness::Listens => Some(socket),
            Liveness::Dead => None,
        })
    }

    /// Points to a new socket and listens on it, so that new containers go there. Only root can
    /// connect. Removes the former socket of the pointer if it has no listener.
    pub fn listen(&self) -> Result<(PathBuf, UnixListener), FileError> {
        let before = self.pointed_socket()?;
        let socket = self.unused_socket()?;
        let pointer = self.files.pointer();
        // Before the socket exists: a process killed between the two leaves no socket without a
        // pointer.
        replace(&pointer, socket.as_os_str().as_bytes())?;
        let listener =
            listen_on(&socket).map_err(|error| FileError::new("listen on", &socket, error))?;
        match before {
            Some(before) if liveness(&before)? == Liveness::Dead => remove(&before)?,
            _ => {}
        }
        Ok((socket, listener))
    }

    fn unused_socket(&self) -> Result<PathBuf, FileError> {
        // The number need only differ from earlier ones: two launchers are never here at once.
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut number = since_1970.as_nanos();
        loop {
            let socket = self.files.file(&format!("-{number:x}"));
            if !fs::exists(&socket).map_err(|error| FileError::new("look at", &socket, error))? {
                return Ok(socket);
            }
            // The clock was set back to the very moment of another host's start.
            number += 1;
        }
    }

    /// Records that a container is being sent to the host of the pointer.
    pub fn touch(&self) -> Result<(), FileError> {
        let pointer = self.files.pointer();
        let file = File::options()
            .write(true)
            .open(&pointer)
            .and_then(|file| file.set_modified(SystemTime::now()));
        file.map_err(|error| FileError::new("touch", &pointer, error))
    }

    /// Sends no further containers to `socket`: removes the pointer if it points there. Existing
    /// connections stay, and containerd can connect again: [`LockedFiles::remove`] removes the
    /// socket itself.
    pub fn retire(&self, socket: &Path) -> Result<(), FileError> {
        if self.pointed_socket()?.as_deref() == Some(socket) {
            remove(&self.files.pointer())
        } else {
            Ok(())
        }
    }

    /// Retires like [`LockedFiles::retire`], unless a container was sent to `socket` since
    /// [`HostFiles::touched`] returned `seen`.
    pub fn retire_unless_touched(
        &self,
        socket: &Path,
        seen: Option<SystemTime>,
    ) -> Result<Retired, FileError> {
        if self.pointed_socket()?.as_deref() == Some(socket) && self.files.touched()? != seen {
            return Ok(Retired::No);
        }
        self.retire(socket).map(|()| Retired::Yes)
    }

    /// Removes all files of a host that ends or has died: the pointer if it points to `socket`, the
    /// socket, and the lock if it guards nothing else.
    pub fn remove(self, socket: &Path) -> Result<(), FileError> {
        self.retire(socket)?;
        if self.pointed_socket()?.is_none() {
            // Processes that wait for the lock see that its file is gone, and create a new one.
            remove(&self.files.lock_file())?;
        }
        // Remove the socket last: while it exists, a later launcher can finish an interrupted
        // clean-up.
        remove(socket)
    }
}

fn listen_on(socket: &Path) -> rustix::io::Result<UnixListener> {
    let address = SocketAddrUnix::new(socket)?;
    let listener: OwnedFd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&listener, &address)?;
    // Set before any process can connect.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(UnixListener::from(listener))
}

#[cfg(test)]
mod tests;
