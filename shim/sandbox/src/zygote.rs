//! The zygote: a process with one thread and the engine loaded, from which guests' processes are forked.
//!
//! ```text
//! host ─ fork ─► zygote: load, then a mount namespace of its own with an empty root
//!      ─ request: function, namespaces, cgroup ─►
//!                zygote ─ clone3(CLONE_PARENT) ─► guest's process: a child of the host
//!      ◄─ its number and pidfd ─
//! ```
//!
//! What the guest's process is to do does not pass through the zygote: the host and the new process speak through a
//! socket of their own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, SandboxError, Step as _, ZygoteError};
use crate::kernel::{self, Forked, Newborn};
use crate::wire::{LONGEST_ANSWER, Message, WireFd};

mod root;
mod serve;

pub(crate) use root::STEP;

/// The zygote forks in well under a millisecond, and answers before the new process does anything; loading an engine
/// takes tens of milliseconds. What takes a thousand times as long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process that forks guests' processes. It ends with the host, and when this is dropped.
#[derive(Debug)]
pub struct Zygote {
    pidfd: OwnedFd,
    /// None once the zygote is lost.
    socket: Mutex<Option<OwnedFd>>,
}

/// What a new process calls, with its end of the socket to the host; gives the exit code.
pub(crate) type Entry = fn(OwnedFd) -> u8;

/// What the host asks of the zygote.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    /// The address of an [`Entry`]: the same in both processes, since the zygote is a fork of the host.
    entry: usize,
    /// The new process's end of its socket to the host.
    control: WireFd,
    /// `CLONE_NEW*`: the namespaces that it gets new.
    namespaces: u64,
    /// The cgroup, of version 2, that it is born in.
    cgroup: Option<WireFd>,
    /// A process in whose pid namespace it is born.
    inside: Option<WireFd>,
}

impl Request {
    /// A process that calls `entry` with `control`, with the namespaces `CLONE_NEW*` new.
    pub(crate) fn new(entry: Entry, control: OwnedFd, namespaces: u64) -> Self {
        Self { entry: entry as usize, control: WireFd::new(control), namespaces, cgroup: None, inside: None }
    }

    /// Born in the cgroup of this folder.
    pub(crate) fn in_cgroup(mut self, folder: OwnedFd) -> Self {
        self.cgroup = Some(WireFd::new(folder));
        self
    }

    /// Born in the pid namespace of the process that `pidfd` refers to.
    pub(crate) fn inside(mut self, pidfd: OwnedFd) -> Self {
        self.inside = Some(WireFd::new(pidfd));
        self
    }
}

/// What the zygote answers.
type Answer = Result<(u32, WireFd), Failure>;

impl Zygote {
    /// Forks the zygote off the calling process, which must have one thread: the zygote ends with that thread, and so
    /// does every guest. `load` is called once in it, where files can still be opened: it loads and warms the engine.
    ///
    /// # Errors
    /// When a step of its own set-up fails, or `load` does not come back.
    pub fn start(load: fn()) -> Result<Self, ZygoteError> {
        Self::try_start(load).map_err(ZygoteError)
    }

    fn try_start(load: fn()) -> Result<Self, Failure> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).step(|| "make a socket")?;
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).step(|| "limit the wait")?;
        let host = rustix::process::getpid();
        let zygote = match kernel::fork().step(|| "fork")? {
            Forked::Child => serve::zygote(&theirs, host, load),
            Forked::Parent(Newborn { pid: _, pidfd }) => Self { pidfd, socket: Mutex::new(Some(ours)) },
        };
        drop(theirs);
        let answer = {
            let socket = zygote.socket.lock().expect("nobody else has it yet");
            receive::<Result<(), Failure>>(socket.as_ref().expect("it was just made"))
        };
        answer.step(|| "wait until the engine is loaded")??;
        Ok(zygote)
    }

    /// Becomes readable when the zygote is lost.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Forks a process.
    pub(crate) fn fork(&self, request: &Request) -> Result<Newborn, SandboxError> {
        let message = Message::of(request).step(|| "address the process that forks guests").map_err(SandboxError::Host)?;
        // Poison does no harm: what a panicking thread left is the socket or none.
        let mut socket = self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(open) = socket.as_ref() else {
            return Err(SandboxError::ZygoteLost("it did not answer before".to_owned()));
        };
        match message.send(open).and_then(|()| receive::<Answer>(open)) {
            Ok(Ok((pid, pidfd))) => Ok(Newborn { pid, pidfd: pidfd.into_inner() }),
            Ok(Err(failure)) => Err(SandboxError::Setup(failure)),
            Err(error) => {
                // Whatever it may still say would be taken for the answer to a later request.
                *socket = None;
                self.kill();
                Err(SandboxError::ZygoteLost(error.to_string()))
            }
        }
    }

    fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(%error, "the zygote had ended");
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)) {
            tracing::warn!(%error, "the zygote could not be waited for");
        }
    }
}

/// Waits for an answer; an error that says what its absence means.
fn receive<T: serde::de::DeserializeOwned>(socket: &OwnedFd) -> io::Result<T> {
    Message::receive(socket, LONGEST_ANSWER)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(error.kind(), "it ended"),
            io::ErrorKind::WouldBlock => io::Error::new(error.kind(), format!("no answer within {} s", PATIENCE.as_secs())),
            _ => error,
        })?
        .value()
}
