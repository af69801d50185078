//! The host's handle on one forking process: a forker or a zygote.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group,
    pidfd_send_signal, waitid,
};

use crate::child;
use crate::error::{Failure, SpawnError, Step as _};
use crate::fork::{self, Child, Fork};
use crate::request::SpawnRequest;
use crate::serve::{self, Setup};
use crate::wire::{MAX_REPLY, Message};
use crate::zygote::Prepare;

/// A forking process replies in well under a millisecond, before the new process does anything;
/// loading an engine takes tens of milliseconds. What takes a thousand times as long has failed.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A process that forks others. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Forker {
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// What a forking process is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Forker,
    Zygote(Prepare),
}

impl Forker {
    /// Forks a forker from the calling process, which has one thread.
    pub(crate) fn fork() -> Result<Self, Failure> {
        let (socket, theirs) = pair()?;
        match fork::fork().step(|| "fork")? {
            Fork::InChild => child::run(serve::run, theirs),
            Fork::InParent(child) => {
                drop(theirs);
                Self::new(child, socket)?.set_up(Role::Forker)
            }
        }
    }

    /// Has a forking process spawned, and waits until it is ready.
    pub(crate) fn spawned(
        role: Role,
        spawn: impl FnOnce(&SpawnRequest) -> Result<Child, SpawnError>,
    ) -> Result<Self, SpawnError> {
        let (socket, theirs) = pair().map_err(SpawnError::Host)?;
        let request = SpawnRequest::new(serve::run, theirs, 0);
        let child = spawn(&request)?;
        // This end must be the process's alone, so that its end is seen.
        drop(request);
        Self::new(child, socket)
            .and_then(|forker| forker.set_up(role))
            .map_err(SpawnError::Host)
    }

    fn new(child: Child, socket: OwnedFd) -> Result<Self, Failure> {
        let Child { pid, pidfd } = child;
        Ok(Self {
            pid: number(pid)?,
            pidfd,
            socket,
        })
    }

    fn set_up(self, role: Role) -> Result<Self, Failure> {
        Message::of(&Setup::new(getpid(), role))
            .and_then(|setup| setup.send(&self.socket))
            .step(|| "set up a process that forks")?;
        let ready = self
            .receive()
            .and_then(Message::value::<Result<(), Failure>>);
        ready.step(|| "wait until a process that forks is ready")??;
        Ok(self)
    }

    /// Spawns a process. Nothing of it is left if that fails; after [`SpawnError::Ended`] this
    /// forking process is of no more use.
    pub(crate) fn spawn(&self, request: &Message) -> Result<Child, SpawnError> {
        let ended = |error: io::Error| SpawnError::Ended(error.to_string());
        let reply = request
            .send(&self.socket)
            .and_then(|()| self.receive())
            .map_err(ended)?;
        let (reply, mut descriptors) = reply.parts::<serve::Reply>().map_err(ended)?;
        let pid = reply.map_err(SpawnError::Fork)?;
        if let Some(pidfd) = descriptors.pop() {
            return Ok(Child { pid, pidfd });
        }
        // The kernel gave this process no descriptor of it. The number is the process's until it
        // is waited for.
        let pid = number(pid).map_err(SpawnError::Host)?;
        let _ = kill_process(pid, Signal::KILL);
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        Err(SpawnError::Host(Failure::of(
            "open the new process",
            Errno::MFILE,
        )))
    }

    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.try_clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&now))
            .is_ok_and(|ready| ready > 0)
    }

    fn receive(&self) -> io::Result<Message> {
        Message::receive_available(&self.socket, MAX_REPLY).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                io::Error::new(error.kind(), "it ended")
            }
            io::ErrorKind::WouldBlock => io::Error::new(
                error.kind(),
                format!("no reply within {} s", REPLY_TIMEOUT.as_secs()),
            ),
            _ => error,
        })
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(%error, "a process that forks had ended");
        }
        // With it goes what it forked and did not report, or what has not begun a group of its own:
        // nothing else waits for that. The number is the group's until the process is waited for.
        let _ = kill_process_group(self.pid, Signal::KILL);
        while retry_on_intr(|| waitid(WaitId::Pgid(Some(self.pid)), WaitIdOptions::EXITED)).is_ok()
        {
        }
        // Waited for already, unless it ended before it had its group.
        let _ = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

fn number(pid: u32) -> Result<Pid, Failure> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::of("fork", format!("{pid} is not the number of a process")))
}

/// A socket, of which the first end waits for replies no longer than a forking process takes.
fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .step(|| "make a socket")?;
    set_socket_timeout(&ours, Timeout::Recv, Some(REPLY_TIMEOUT)).step(|| "limit the wait")?;
    Ok((ours, theirs))
}
