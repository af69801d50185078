//! A look-up of a program in a container's files, in a process of its own.
//!
//! ```text
//! host                               zygote                look-up process
//!  │ spawn request ──────────────────► │ clone3 ───────────► │ waits for the lookup request
//!  │ lookup request ───────────────────────────────────────► │ resolves, checks the type, inspects
//!  │ ◄──────────────── O_PATH descriptor of the file, verdict│ exits
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

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, SandboxError, Step as _};
use crate::kernel::Newborn;
use crate::wire::{LONGEST_ANSWER, Message, WireFd};
use crate::zygote::{Request, Zygote};

mod process;
mod reopened;
mod tree;

pub use reopened::Reopened;

/// How long the rest of an answer may take after its first byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a look-up is asked for.
#[derive(Debug)]
pub struct NewLookup {
    /// The container's id, for messages.
    pub name: String,
    /// Where to look.
    pub files: Files,
    /// The folder in the container from which relative candidates lead.
    pub cwd: PathBuf,
    /// Paths in the container; the first that names a program is taken.
    pub candidates: Vec<PathBuf>,
}

/// A container's files.
#[derive(Debug, Serialize, Deserialize)]
pub enum Files {
    /// Of a container that is being created: its root file system, and what will be mounted below
    /// it, in this order.
    Planned {
        /// The root file system.
        root: WireFd,
        /// The mounts.
        mounts: Vec<PlannedMount>,
    },
    /// Of a running container: the root of its first process.
    Running {
        /// That root.
        root: WireFd,
    },
}

/// A mount that a container will have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMount {
    /// Where, in the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or folder of the node.
    Bind {
        /// Its absolute path on the node.
        path: PathBuf,
        /// Whether the mounts below it come along.
        recursive: bool,
    },
    /// A file system without programs: a new tmpfs, or one of the kernel's (`proc`, `sysfs`, …).
    Empty,
}

/// What the look-up process reads of a file that it found.
pub trait Inspect: Serialize + DeserializeOwned {
    /// Inspects `file`, a regular file of `size` bytes. Runs in the look-up process.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn inspect(file: &File, size: u64) -> io::Result<Self>;

    /// Whether the kernel executes it. If so, candidates without any permission to execute are
    /// passed over, as by execvp(3).
    fn is_executed(&self) -> bool;
}

/// The result of a look-up. Candidates are named by their index.
#[derive(Debug, Serialize, Deserialize)]
pub enum LookupReply<I> {
    /// A program.
    Found {
        /// Which.
        candidate: usize,
        /// The file: an `O_PATH` descriptor of exactly the file that was inspected.
        file: WireFd,
        /// Its size in bytes.
        size: u64,
        /// What was read of it.
        inspection: I,
    },
    /// Nothing at any candidate.
    NotFound,
    /// No program at any candidate; this one exists.
    Refused {
        /// Which.
        candidate: usize,
        /// What it is.
        what: NotAProgram,
    },
    /// A candidate that cannot be looked up or read.
    Unreadable {
        /// Which.
        candidate: usize,
        /// The error number.
        errno: i32,
    },
    /// A step before the candidates failed.
    Failed(Failure),
}

/// Why a path that exists names no program.
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
    /// Of a type that is unknown.
    Unknown,
    /// A Linux program without permission to execute, which other candidates could have replaced.
    NotExecutable,
}

/// What the host sends to the look-up process.
#[derive(Serialize, Deserialize)]
struct LookupRequest {
    /// The node's mount namespace: paths of the node are resolved there.
    node: WireFd,
    /// The node's `/proc`, to open what was checked.
    proc: WireFd,
    files: Files,
    cwd: PathBuf,
    candidates: Vec<PathBuf>,
}

/// Starts a look-up. The answer arrives later, or never.
///
/// # Errors
/// When its process cannot be forked; nothing of it is left then.
pub fn look_up<I: Inspect>(
    zygote: &Zygote,
    new: NewLookup,
) -> Result<(LookupProcess, PendingAnswer<I>), SandboxError> {
    let NewLookup {
        name,
        files,
        cwd,
        candidates,
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
    };
    let request = Message::of(&request).step(step).map_err(host)?;
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let (socket, theirs) = pair.step(step).map_err(host)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))
        .step(step)
        .map_err(host)?;
    let Newborn { pid, pidfd } = zygote.fork(&Request::new(process::live::<I>, theirs, 0))?;
    let process = LookupProcess {
        pid,
        pidfd: Arc::new(pidfd),
    };
    // It reads the request before it calls any file system, so this does not block.
    request.send(&socket).step(step).map_err(|failure| {
        process.end();
        host(failure)
    })?;
    Ok((
        process,
        PendingAnswer {
            name,
            socket: Arc::new(socket),
            inspection: PhantomData,
        },
    ))
}

/// The process of a look-up, a child of the calling process. It is killed when this is dropped, and
/// has to be reaped ([`LookupProcess::reap`]) when its pidfd is readable. In an uninterruptible
/// call that may take for ever.
#[derive(Debug)]
pub struct LookupProcess {
    pid: u32,
    /// Shared, so that a host that may open no more files can wait for it too.
    pidfd: Arc<OwnedFd>,
}

impl LookupProcess {
    /// Readable when it has ended.
    pub fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// The kernel function in which it waits, for messages; empty if that is unknown.
    pub fn waits_in(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/wchan", self.pid)).unwrap_or_default()
    }

    /// Kills it.
    pub fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(pid = self.pid, %error, "the look-up process had ended");
        }
    }

    /// Reaps it if it has ended. Does not block.
    ///
    /// # Errors
    /// When it is not a child of this process.
    pub fn reap(&self) -> io::Result<()> {
        self.wait(WaitIdOptions::NOHANG)
    }

    /// Kills and reaps it before it has called any file system, which is at once.
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
        // Reaped before, as a rule.
        let _ = self.reap();
    }
}

/// An answer that may arrive.
#[derive(Debug)]
pub struct PendingAnswer<I> {
    name: String,
    socket: Arc<OwnedFd>,
    inspection: PhantomData<fn() -> I>,
}

impl<I: Inspect> PendingAnswer<I> {
    /// Readable when the answer has arrived, or none will.
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Takes the answer, once the socket is readable.
    ///
    /// # Errors
    /// When the process ended without one.
    pub fn receive(self) -> Result<LookupReply<I>, SandboxError> {
        let answer = Message::receive(&self.socket, LONGEST_ANSWER).and_then(Message::value);
        answer.map_err(|error| {
            let how = format!("the process that looks for its program did not answer ({error})");
            SandboxError::Died {
                name: self.name.clone(),
                how,
            }
        })
    }
}

/// `candidate` as a path from the container's root. `..` stays: what it leads to depends on links.
pub fn from_root(cwd: &Path, candidate: &Path) -> PathBuf {
    Path::new("/").join(cwd).join(candidate)
}

#[cfg(test)]
mod tests;
