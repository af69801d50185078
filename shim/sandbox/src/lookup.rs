//! A look-up of a program in a container's files, in a process of its own.
//!
//! ```text
//! host                               zygote                look-up process
//!  │ spawn request ──────────────────► │ clone3 ───────────► │ waits for the lookup request
//!  │ lookup request ───────────────────────────────────────► │ resolves, checks the type, inspects
//!  │ ◄──────────────── O_PATH descriptor of the file, reply ─│ exits
//! ```
//!
//! A file system that never answers (FUSE without its daemon, NFS without its server) blocks the
//! process that calls it. The host therefore makes no such call: it waits for a socket, and kills
//! the process at a deadline. It holds `O_PATH` descriptors only: closing another one can block too
//! (the flush request of FUSE, the close of NFS 4).

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use process_forker::{Child, SpawnRequest, Zygote};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, SandboxError, Step as _};
use crate::wire::{MAX_REPLY, Message, WireFd};

mod process;
mod reopened;
mod tree;

pub use reopened::Reopened;

/// How long the rest of a reply may take after its first byte.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// A look-up to start, by a host that knows `K` of files.
#[derive(Debug)]
pub struct NewLookup<K> {
    /// The container's id, for messages.
    pub name: String,
    /// The files to search.
    pub files: Files,
    /// The folder in the container at which relative candidates start.
    pub cwd: PathBuf,
    /// Paths in the container; the first that names a program is taken.
    pub candidates: Vec<PathBuf>,
    /// What the host knows of files already.
    pub known: K,
}

/// A container's files.
#[derive(Debug, Serialize, Deserialize)]
pub enum Files {
    /// Those of a container that is being created: its root file system, and the mounts that will
    /// be made below it, in this order.
    Planned {
        /// The root file system.
        root: WireFd,
        /// The mounts.
        mounts: Vec<PlannedMount>,
    },
    /// Those of a running container: the root of its first process.
    Running {
        /// That root.
        root: WireFd,
    },
}

/// A mount that a container will have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMount {
    /// The path in the container.
    pub destination: PathBuf,
    /// The mounted files.
    pub source: MountSource,
}

/// The source of a planned mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or folder of the node.
    Bind {
        /// Its absolute path on the node.
        path: PathBuf,
        /// Whether mounts below it are included.
        recursive: bool,
    },
    /// A file system without programs: a new tmpfs, or one of the kernel's (`proc`, `sysfs`, …).
    Empty,
}

/// An inspection of the found file, in the look-up process.
pub trait Inspect: Serialize + DeserializeOwned {
    /// What the host knows of files already, so that an inspection can be short.
    type Known: Serialize + DeserializeOwned;

    /// Inspects `file`, a regular file of `size` bytes. Runs in the look-up process.
    ///
    /// # Errors
    /// If the file cannot be read.
    fn inspect(file: &File, size: u64, known: &Self::Known) -> io::Result<Self>;

    /// Returns whether the kernel executes it. If so, candidates without any execute permission are
    /// skipped, as by execvp(3).
    fn is_executed(&self) -> bool;
}

/// The result of a look-up. Candidates are named by their index.
#[derive(Debug, Serialize, Deserialize)]
pub enum LookupReply<I> {
    /// A program.
    Found {
        /// The candidate.
        candidate: usize,
        /// The file: an `O_PATH` descriptor of exactly the file that was inspected.
        file: WireFd,
        /// Its size in bytes.
        size: u64,
        /// The result of the inspection.
        inspection: I,
    },
    /// No candidate exists.
    NotFound,
    /// No candidate is a program; this is the first that exists.
    Refused {
        /// The candidate.
        candidate: usize,
        /// Its type.
        what: NotAProgram,
    },
    /// A candidate that cannot be looked up or read.
    Unreadable {
        /// The candidate.
        candidate: usize,
        /// The error number.
        errno: i32,
    },
    /// A step before the candidates failed.
    Failed(Failure),
}

/// The type of an existing path that is not a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotAProgram {
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// An unknown type.
    Unknown,
    /// A Linux program without execute permission, when there were other candidates.
    NotExecutable,
}

/// The request to the look-up process.
#[derive(Serialize, Deserialize)]
struct LookupRequest<K> {
    /// The node's mount namespace: paths of the node are resolved there.
    node: WireFd,
    /// The node's `/proc`, to open what was checked.
    proc: WireFd,
    files: Files,
    cwd: PathBuf,
    candidates: Vec<PathBuf>,
    known: K,
}

/// Starts a look-up. The reply arrives later, or never.
///
/// # Errors
/// If its process cannot be forked; nothing of it is left then.
pub fn look_up<I: Inspect>(
    zygote: &Zygote,
    new: NewLookup<I::Known>,
) -> Result<(LookupProcess, PendingReply<I>), SandboxError> {
    let NewLookup {
        name,
        files,
        cwd,
        candidates,
        known,
    } = new;
    let host = SandboxError::Host;
    let step = || format!("look for the program of {name}");
    let open = |path: &str| {
        File::open(path)
            .map(WireFd::new)
            .step(|| format!("open {path}"))
            .map_err(host)
    };
    let request = LookupRequest {
        node: open("/proc/self/ns/mnt")?,
        proc: open("/proc")?,
        files,
        cwd,
        candidates,
        known,
    };
    let request = Message::of(&request).step(step).map_err(host)?;
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let (socket, theirs) = pair.step(step).map_err(host)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_TIMEOUT))
        .step(step)
        .map_err(host)?;
    let Child { pid, pidfd } = zygote.spawn(&SpawnRequest::new(process::live::<I>, theirs, 0))?;
    let process = LookupProcess {
        pid,
        pidfd: Arc::new(pidfd),
    };
    // The process reads the request before it calls any file system, so this does not block.
    request.send(&socket).step(step).map_err(|failure| {
        process.end();
        host(failure)
    })?;
    Ok((
        process,
        PendingReply {
            name,
            socket: Arc::new(socket),
            inspection: PhantomData,
        },
    ))
}

/// The process of a look-up, a child of the calling process. Dropping it kills the process, which
/// must be reaped ([`LookupProcess::reap`]) when its pidfd is readable. In an uninterruptible call
/// that may take forever.
#[derive(Debug)]
pub struct LookupProcess {
    pid: u32,
    /// Shared, so that a host without free descriptors can wait for it too.
    pidfd: Arc<OwnedFd>,
}

impl LookupProcess {
    /// Returns the pidfd, which is readable when the process has exited.
    pub fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Returns the kernel function in which it waits, for messages; empty if that is unknown.
    pub fn wait_channel(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/wchan", self.pid)).unwrap_or_default()
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(pid = self.pid, %error, "the look-up process had exited");
        }
    }

    /// Reaps it if it has exited. Does not block.
    ///
    /// # Errors
    /// If it is not a child of this process.
    pub fn reap(&self) -> io::Result<()> {
        self.wait(WaitIdOptions::NOHANG)
    }

    /// Kills and reaps it before it has called any file system, so it exits at once.
    fn end(&self) {
        self.kill();
        if let Err(error) = self.wait(WaitIdOptions::empty()) {
            tracing::debug!(pid = self.pid, %error, "cannot wait for the look-up process");
        }
    }

    fn wait(&self, options: WaitIdOptions) -> io::Result<()> {
        rustix::io::retry_on_intr(|| {
            waitid(
                WaitId::PidFd(self.pidfd.as_fd()),
                options | WaitIdOptions::EXITED,
            )
        })?;
        Ok(())
    }
}

impl Drop for LookupProcess {
    fn drop(&mut self) {
        self.kill();
        // Usually it is reaped already.
        let _ = self.reap();
    }
}

/// A reply that may arrive.
#[derive(Debug)]
pub struct PendingReply<I> {
    name: String,
    socket: Arc<OwnedFd>,
    inspection: PhantomData<fn() -> I>,
}

impl<I: Inspect> PendingReply<I> {
    /// Returns the socket, which is readable when the reply has arrived, or none will.
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Receives the reply, once the socket is readable.
    ///
    /// # Errors
    /// If the process exited without a reply.
    pub fn receive(self) -> Result<LookupReply<I>, SandboxError> {
        let reply = Message::receive(&self.socket, MAX_REPLY).and_then(Message::value);
        reply.map_err(|error| {
            let how = format!("the process that looks for its program did not answer ({error})");
            SandboxError::Died {
                name: self.name.clone(),
                how,
            }
        })
    }
}

/// Returns `candidate` as a path from the container's root. `..` stays: its target depends on
/// symbolic links.
pub fn from_root(cwd: &Path, candidate: &Path) -> PathBuf {
    Path::new("/").join(cwd).join(candidate)
}

#[cfg(test)]
mod tests;
