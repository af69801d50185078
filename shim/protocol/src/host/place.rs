//! The files of a key, and who may change them.
//!
//! | file | holds |
//! |---|---|
//! | `<key>.lock` | nothing; a process that changes one of the others has it locked |
//! | `<key>.host` | the pointer: the path of the socket that new containers go to; its time says when one was last sent there |
//! | `<key>-<number>` | a host's socket; no two hosts ever have the same |
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
//! A launcher that is killed leaves a pointer to a socket on which nobody listens, or none: the
//! next one starts over. One that is killed after its fork leaves a host with a pointer to it. So
//! there is one host that new containers go to.
//!
//! Only root can open any of the files, or put one into the folder.

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

/// Where containerd's shims keep their sockets, if it does not say otherwise.
pub const SOCKETS: &str = "/run/containerd/s";
/// Connections that may wait for a host to accept them: the most that the kernel allows.
const BACKLOG: i32 = 4096;

/// Whether a process serves a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// One does, or will: it may be busy.
    Listens,
    /// Nobody ever will: the socket is gone, or whoever listened is.
    Dead,
}

/// Asks without waiting whether a process listens on `socket`.
///
/// # Errors
/// When the kernel will not say.
pub fn liveness(socket: &Path) -> Result<Liveness, FileError> {
    Ok(match connect(socket)? {
        Answer::Connected(_) | Answer::Crowded => Liveness::Listens,
        Answer::Refused => Liveness::Dead,
    })
}

/// As [`liveness`], where there is reason to believe that the host has died: one that was killed
/// closes its connections, by which others learn of its death, before it closes the socket that it
/// listens on, and what it forked may hold that a little longer. So a connection that is made is
/// watched for its end, for `patience` at most.
///
/// # Errors
/// When the kernel will not say.
pub fn liveness_after(socket: &Path, patience: Duration) -> Result<Liveness, FileError> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = match connect(socket)? {
            Answer::Refused => return Ok(Liveness::Dead),
            Answer::Connected(connection) => {
                ends(&connection, left).map_err(|error| FileError::new("watch", socket, error))?
            }
            Answer::Crowded => {
                // Nobody accepts, so there is nothing to watch.
                std::thread::sleep(AGAIN.min(left));
                left > AGAIN
            }
        };
        if !ended || left.is_zero() {
            return Ok(Liveness::Listens);
        }
    }
}

/// Between two tries to connect where others wait already.
const AGAIN: Duration = Duration::from_millis(10);

enum Answer {
    Connected(OwnedFd),
    /// So many wait already that the kernel takes no more: they wait for somebody.
    Crowded,
    Refused,
}

fn connect(socket: &Path) -> Result<Answer, FileError> {
    let asked = |error: Errno| FileError::new("connect to", socket, error);
    let address = SocketAddrUnix::new(socket).map_err(asked)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(asked)?;
    match rustix::net::connect(&client, &address) {
        Ok(()) => Ok(Answer::Connected(client)),
        Err(Errno::AGAIN) => Ok(Answer::Crowded),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Answer::Refused),
        Err(error) => Err(asked(error)),
    }
}

/// Whether the other side of `connection` goes away within `patience`. It says nothing unasked.
fn ends(connection: &OwnedFd, patience: Duration) -> Result<bool, Errno> {
    let mut watched = [PollFd::new(connection, PollFlags::RDHUP)];
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    match poll(&mut watched, Some(&patience)) {
        // Interrupted: the caller connects and watches again, until its own deadline.
        Err(Errno::INTR) => Ok(true),
        result => Ok(result? > 0),
    }
}

/// The files of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    key: HostKey,
}

/// What became of a wish to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// No new container will be sent to this host.
    Yes,
    /// A container was sent to it meanwhile: it must stay.
    No,
}

/// Who can put files into a folder.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    /// Root and this process alone.
    Own,
    /// Other users too.
    Others,
}

/// Decides by a folder's owner and mode, for a process of user `own`. A sticky bit does not help:
/// it lets others in.
fn access(owner: u32, mode: u32, own: u32) -> Access {
    if (owner == own || owner == 0) && mode & 0o022 == 0 {
        Access::Own
    } else {
        Access::Others
    }
}

impl Place {
    /// The files of `key` in `folder`, which is made when it is first locked.
    pub fn new(folder: impl Into<PathBuf>, key: HostKey) -> Self {
        Self {
            folder: folder.into(),
            key,
        }
    }

    /// Of the host that listens on `socket`.
    pub fn of_socket(socket: &Path, key: HostKey) -> Self {
        Self::new(socket.parent().unwrap_or(Path::new("/")), key)
    }

    /// Of whichever host listens, or listened, on `socket`; `None` for a path that no launcher
    /// made.
    pub fn of_any_socket(socket: &Path) -> Option<Self> {
        let (key, _) = socket.file_name()?.to_str()?.split_once('-')?;
        Some(Self::of_socket(socket, HostKey::of_name(key)?))
    }

    /// When a container was last sent to the host that the pointer points to; `None` without a
    /// pointer. Compare it with an earlier answer only for being the same: clocks are set.
    pub fn touched(&self) -> Result<Option<SystemTime>, FileError> {
        let pointer = self.pointer();
        if_found(fs::metadata(&pointer).and_then(|facts| facts.modified()))
            .map_err(|error| FileError::new("look at", &pointer, error))
    }

    /// Waits until no other process changes these files. Dropping the answer lets the next one in.
    ///
    /// # Errors
    /// When the folder is open to other users, the lock cannot be opened, or another process holds
    /// it for too long.
    pub fn lock(&self) -> Result<Locked<'_>, FileError> {
        self.prepare_folder()?;
        Ok(Locked {
            place: self,
            _file: lock::lock(&self.lock_file(), LOCK_TIMEOUT)?,
        })
    }

    /// Makes the folder, or checks that no other user can put files into it: a pointer of theirs
    /// would lead containerd to their socket.
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

/// The files of a key while nobody else changes them.
#[derive(Debug)]
pub struct Locked<'a> {
    place: &'a Place,
    _file: File,
}

impl Locked<'_> {
    /// The socket that the pointer points to, be it alive or not.
    pub fn pointed(&self) -> Result<Option<PathBuf>, FileError> {
        let pointer = self.place.pointer();
        let text = if_found(fs::read(&pointer))
            .map_err(|error| FileError::new("read", &pointer, error))?;
        Ok(text.map(|text| PathBuf::from(std::ffi::OsString::from_vec(text))))
    }

    /// The socket of the host that new containers go to, if it lives.
    pub fn current(&self) -> Result<Option<PathBuf>, FileError> {
        let Some(socket) = self.pointed()? else {
            return Ok(None);
        };
        Ok(match liveness(&socket)? {
            Liveness::Listens => Some(socket),
            Liveness::Dead => None,
        })
    }

    /// Points to a socket that no host had before, and listens on it: from now on, new containers
    /// go there. Only root can connect. Removes the socket that was pointed to before, if nobody
    /// listens on it.
    pub fn listen(&self) -> Result<(PathBuf, UnixListener), FileError> {
        let before = self.pointed()?;
        let socket = self.unused_socket()?;
        let pointer = self.place.pointer();
        // Before the socket is there: whoever is killed between the two leaves no socket that
        // nothing points to.
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
        // The number need only differ from those before it: two launchers are never here at once.
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut number = since_1970.as_nanos();
        loop {
            let socket = self.place.file(&format!("-{number:x}"));
            if !fs::exists(&socket).map_err(|error| FileError::new("look at", &socket, error))? {
                return Ok(socket);
            }
            // The clock was set back to the very moment at which another host was started.
            number += 1;
        }
    }

    /// Says that a container is being sent to the host that the pointer points to.
    pub fn touch(&self) -> Result<(), FileError> {
        let pointer = self.place.pointer();
        let file = File::options()
            .write(true)
            .open(&pointer)
            .and_then(|file| file.set_modified(SystemTime::now()));
        file.map_err(|error| FileError::new("touch", &pointer, error))
    }

    /// Sends no further containers to `socket`: removes the pointer if it points there. Who is
    /// connected stays, and containerd can connect again: the socket itself is removed with
    /// [`Locked::remove`].
    pub fn retire(&self, socket: &Path) -> Result<(), FileError> {
        if self.pointed()?.as_deref() == Some(socket) {
            remove(&self.place.pointer())
        } else {
            Ok(())
        }
    }

    /// As [`Locked::retire`], unless a container was sent to `socket` since [`Place::touched`] said
    /// `seen`.
    pub fn retire_unless_touched(
        &self,
        socket: &Path,
        seen: Option<SystemTime>,
    ) -> Result<Retired, FileError> {
        if self.pointed()?.as_deref() == Some(socket) && self.place.touched()? != seen {
            return Ok(Retired::No);
        }
        self.retire(socket).map(|()| Retired::Yes)
    }

    /// Removes everything of a host that ends, or has died: the pointer if it points to `socket`,
    /// the socket, and the lock when nothing else is left that it guards.
    pub fn remove(self, socket: &Path) -> Result<(), FileError> {
        self.retire(socket)?;
        if self.pointed()?.is_none() {
            // Whoever waits for the lock finds its file gone, and makes a new one.
            remove(&self.place.lock_file())?;
        }
        // Last: as long as it is there, whoever was killed before is made up for.
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
    // Before anybody can connect.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(UnixListener::from(listener))
}

#[cfg(test)]
mod tests;
