//! The zygote: a process with one thread and the engine loaded, from which guests' processes are
//! forked.
//!
//! ```text
//! host ─ fork ─► spare
//!      ─ another, please ─► spare ─ clone3(CLONE_PARENT) ─► zygote: load, then a mount namespace with an empty root
//!      ─ request: function, namespaces, cgroup ─►
//!                           zygote ─ clone3(CLONE_PARENT) ─► guest's process: a child of the host
//!      ◄─ its number and pidfd ─
//! ```
//!
//! What the guest's process is to do does not pass through the zygote: the host and the new process
//! speak through a socket of their own.
//!
//! The host has threads by the time that a zygote may be lost, and can fork no other. So it forks a
//! spare at its start, which does nothing but fork zygotes, the first one too: losing a zygote
//! fails what it was asked for at that moment, and nothing after that.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid,
};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, SandboxError, Step as _, ZygoteError};
use crate::kernel::{self, Forked, Newborn};
use crate::wire::{LONGEST_ANSWER, Message, WireFd};

mod root;
mod serve;

pub(crate) use root::{NULL, STEP};

/// The zygote forks in well under a millisecond, and answers before the new process does anything;
/// loading an engine takes tens of milliseconds. What takes a thousand times as long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process that forks guests' processes. It ends with the host, and when this is dropped.
#[derive(Debug)]
pub struct Zygote {
    spare: Forker,
    /// None while it is lost.
    current: Mutex<Option<Forker>>,
}

/// A process of ours that forks others. It ends when this is dropped.
#[derive(Debug)]
struct Forker {
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// What a new process calls, with its end of the socket to the host; gives the exit code.
pub(crate) type Entry = fn(OwnedFd) -> u8;

/// What the host asks of the zygote.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    /// The address of an [`Entry`]: the same in both processes, since the zygote is a fork of the
    /// host.
    entry: usize,
    /// The new process's end of its socket to the host.
    control: WireFd,
    /// `CLONE_NEW*`: the namespaces that it gets new.
    namespaces: u64,
    /// The cgroup, of version 2, that it is born in.
    cgroup: Option<WireFd>,
}

impl Request {
    /// A process that calls `entry` with `control`, with the namespaces `CLONE_NEW*` new.
    pub(crate) fn new(entry: Entry, control: OwnedFd, namespaces: u64) -> Self {
        Self {
            entry: entry as usize,
            control: WireFd::new(control),
            namespaces,
            cgroup: None,
        }
    }

    /// Born in the cgroup of this folder.
    pub(crate) fn in_cgroup(mut self, folder: OwnedFd) -> Self {
        self.cgroup = Some(WireFd::new(folder));
        self
    }
}

/// What the zygote answers.
type Answer = Result<(u32, WireFd), Failure>;

impl Zygote {
    /// Forks the zygote off the calling process, which must have one thread: the zygote ends with
    /// that thread, and so does every guest. `load` is called once in it, where files can still be
    /// opened: it loads and warms the engine.
    ///
    /// # Errors
    /// When a step of its own set-up fails, or `load` does not come back.
    pub fn start(load: fn()) -> Result<Self, ZygoteError> {
        Self::try_start(load).map_err(ZygoteError)
    }

    fn try_start(load: fn()) -> Result<Self, Failure> {
        let (socket, theirs) = pair()?;
        let host = rustix::process::getpid();
        let spare = match kernel::fork().step(|| "fork")? {
            Forked::Child => serve::spare(&theirs, host, load),
            Forked::Parent(Newborn { pid, pidfd }) => Forker {
                pid: number(pid)?,
                pidfd,
                socket,
            },
        };
        drop(theirs);
        spare.await_ready()?;
        let first = spare.fork_zygote()?;
        Ok(Self {
            spare,
            current: Mutex::new(Some(first)),
        })
    }

    /// Another handle of the process, which becomes readable when it is lost.
    ///
    /// # Errors
    /// When it is lost, and no other can take its place.
    pub fn pidfd(&self) -> Result<OwnedFd, SandboxError> {
        let mut current = self.lock();
        let pidfd = self.living(&mut current)?.pidfd.try_clone();
        pidfd
            .step(|| "watch the process that forks guests")
            .map_err(SandboxError::Host)
    }

    /// Forks a process.
    pub(crate) fn fork(&self, request: &Request) -> Result<Newborn, SandboxError> {
        let message = Message::of(request)
            .step(|| "address the process that forks guests")
            .map_err(SandboxError::Host)?;
        let mut current = self.lock();
        let socket = &self.living(&mut current)?.socket;
        match message
            .send(socket)
            .and_then(|()| receive::<Answer>(socket))
        {
            Ok(Ok((pid, pidfd))) => Ok(Newborn {
                pid,
                pidfd: pidfd.into_inner(),
            }),
            Ok(Err(failure)) => Err(SandboxError::Setup(failure)),
            Err(error) => {
                // Whatever it may still say would be taken for the answer to a later request. And
                // it may have forked before it was lost: asking another one for the same would make
                // two processes of one set of orders.
                *current = None;
                Err(SandboxError::ZygoteEnded(error.to_string()))
            }
        }
    }

    /// Poison does no harm: what a panicking thread left is a zygote or none.
    fn lock(&self) -> MutexGuard<'_, Option<Forker>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zygote, or another one in the place of one that has ended.
    fn living<'a>(&self, current: &'a mut Option<Forker>) -> Result<&'a Forker, SandboxError> {
        if current.as_ref().is_some_and(Forker::has_ended) {
            *current = None;
        }
        match current {
            Some(zygote) => Ok(zygote),
            None => Ok(current.insert(
                self.spare
                    .fork_zygote()
                    .map_err(|failure| SandboxError::ZygoteLost(failure.to_string()))?,
            )),
        }
    }
}

impl Forker {
    /// Has the spare fork a zygote, and waits until that is ready.
    fn fork_zygote(&self) -> Result<Self, Failure> {
        let (socket, theirs) = pair()?;
        let step = || "have another process forked that forks guests";
        Message::of(&WireFd::new(theirs))
            .and_then(|message| message.send(&self.socket))
            .step(step)?;
        let (pid, pidfd) = receive::<Answer>(&self.socket).step(step)??;
        let zygote = Self {
            pid: number(pid)?,
            pidfd: pidfd.into_inner(),
            socket,
        };
        zygote.await_ready()?;
        Ok(zygote)
    }

    fn await_ready(&self) -> Result<(), Failure> {
        receive::<Result<(), Failure>>(&self.socket).step(|| "wait until the engine is loaded")?
    }

    fn has_ended(&self) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now))
            .is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(%error, "a process that forks had ended");
        }
        // With it goes what it forked and had not told of, or what has not begun a group of its
        // own: nobody else may wait for that. The number is the group's until the process is waited
        // for.
        let _ = kill_process_group(self.pid, Signal::KILL);
        while rustix::io::retry_on_intr(|| {
            waitid(WaitId::Pgid(Some(self.pid)), WaitIdOptions::EXITED)
        })
        .is_ok()
        {}
        // Waited for already, unless it ended before it had its group.
        let _ = rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
    }
}

fn number(pid: u32) -> Result<Pid, Failure> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::of("fork", format!("{pid} is the number of no process")))
}

/// A socket, of which the first end waits for answers no longer than a process of ours takes.
fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .step(|| "make a socket")?;
    set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).step(|| "limit the wait")?;
    Ok((ours, theirs))
}

/// Waits for an answer; an error that says what its absence means.
fn receive<T: serde::de::DeserializeOwned>(socket: &OwnedFd) -> io::Result<T> {
    Message::receive(socket, LONGEST_ANSWER)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                io::Error::new(error.kind(), "it ended")
            }
            io::ErrorKind::WouldBlock => io::Error::new(
                error.kind(),
                format!("no answer within {} s", PATIENCE.as_secs()),
            ),
            _ => error,
        })?
        .value()
}
