//! A process that carries its orders out.
//!
//! Nothing here waits: the process may be stopped by another one of its container, or its guest's
//! bytes may have taken it over. Its user waits for the socket to be readable, as long as suits it,
//! and has the process advance.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::unistd::getsid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::Guest;
use super::reap::Unready;
use super::view::View;
use crate::child::orders::{Answer, GO_ON};
use crate::error::{SandboxError, Step as _};
use crate::plan::Proc;
use crate::wire::{Inbox, write_all};
use process_forker::Child as Newborn;

/// A process that closed its socket counts as ended a moment later; it is not to be taken for one
/// that was killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A process that carries its orders out. It is killed when this is dropped.
#[derive(Debug)]
pub struct Pending {
    name: String,
    control: Arc<OwnedFd>,
    newborn: Unready,
    stage: Stage,
    inbox: Inbox,
    /// Whether the orders could be sent.
    sent: io::Result<()>,
    users: Option<OwnedFd>,
    proc: Option<Proc>,
    view: Option<View>,
}

/// Where a process stands, which decides what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is the process that will run.
    Own,
    /// It is about to fork that one into a container.
    Outside,
}

/// How far a process is.
#[derive(Debug)]
pub enum Progress {
    /// Not done: it has more to say.
    Pending(Pending),
    /// It waits for its start.
    Ready(Guest),
}

impl Pending {
    pub(super) fn new(
        name: String,
        control: OwnedFd,
        newborn: Unready,
        sent: io::Result<()>,
    ) -> Self {
        let (control, inbox) = (Arc::new(control), Inbox::default());
        Self {
            name,
            control,
            newborn,
            stage: Stage::Own,
            inbox,
            sent,
            users: None,
            proc: None,
            view: None,
        }
    }

    /// It forks another one.
    pub(super) fn outside(self) -> Self {
        Self {
            stage: Stage::Outside,
            newborn: self.newborn.with_group(),
            ..self
        }
    }

    /// In this user namespace.
    pub(super) fn with_users(self, users: Option<OwnedFd>) -> Self {
        Self { users, ..self }
    }

    /// With this `/proc` for Linux programs beside it.
    pub(super) fn with_proc(self, proc: Option<Proc>) -> Self {
        Self { proc, ..self }
    }

    /// Readable when the process has said something, or has ended.
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.control)
    }

    /// Takes what the process has said so far, and waits for nothing.
    ///
    /// # Errors
    /// When a step failed, the workload refuses, or the process has ended: then nothing of it is
    /// left.
    pub fn advance(mut self) -> Result<Progress, SandboxError> {
        loop {
            let (bytes, descriptor) = match self.inbox.receive(&*self.control) {
                Ok(Some(arrived)) => arrived,
                Ok(None) if self.sent.is_ok() => return Ok(Progress::Pending(self)),
                Ok(None) => return Err(self.died_of_silence()),
                Err(error) => return Err(self.died(&error)),
            };
            match (self.stage, rmp_serde::from_slice(&bytes)) {
                (Stage::Own, Ok(Answer::Entered)) => self.entered(descriptor),
                (Stage::Outside, Ok(Answer::Born(number))) => self = self.born(number)?,
                (Stage::Own, Ok(Answer::Ready(told))) => {
                    return Ok(Progress::Ready(self.ready(told)));
                }
                (Stage::Own, Ok(Answer::Refused(text))) => return Err(SandboxError::Refused(text)),
                (_, Ok(Answer::Failed(failure))) => return Err(SandboxError::Setup(failure)),
                (_, Ok(_)) => return Err(self.died(&io::Error::other("it does not fit its stage"))),
                (_, Err(error)) => return Err(self.died(&io::Error::other(error))),
            }
        }
    }

    /// Waits until it is ready, and blocks meanwhile: for processes that run nothing of a
    /// container's.
    ///
    /// # Errors
    /// As [`Pending::advance`], and when it takes longer than `timeout`.
    pub fn wait(self, timeout: Duration) -> Result<Guest, SandboxError> {
        let (socket, began) = (self.socket(), Instant::now());
        let mut pending = self;
        loop {
            pending = match pending.advance()? {
                Progress::Ready(guest) => return Ok(guest),
                Progress::Pending(pending) => pending,
            };
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(pending.time_out(timeout));
            }
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let waited = rustix::io::retry_on_intr(|| {
                poll(&mut [PollFd::new(&*socket, PollFlags::IN)], Some(&left))
            });
            waited
                .step(|| format!("wait for {}", pending.name))
                .map_err(SandboxError::Host)?;
        }
    }

    /// Gives up a process that took longer than `timeout`.
    pub fn time_out(self, timeout: Duration) -> SandboxError {
        let wait = std::fs::read_to_string(format!("/proc/{}/wchan", self.newborn.pid()))
            .unwrap_or_default();
        let name = self.name.clone();
        self.newborn.end(Duration::ZERO);
        SandboxError::TimedOut {
            name,
            seconds: timeout.as_secs(),
            wait,
        }
    }

    /// Gives up a process that nobody waits for any more.
    pub fn cancel(self) -> SandboxError {
        let name = self.name.clone();
        self.newborn.end(Duration::ZERO);
        SandboxError::Cancelled { name }
    }

    /// A container's first process reports this once, before anything of its guest is read.
    fn entered(&mut self, context: Option<OwnedFd>) {
        let proc = self.proc.take();
        if let (Some(context), Some(proc)) = (context, proc) {
            self.view = Some(View::new(context, proc));
        }
    }

    /// The process is born in its container, and the one that forked it there ends.
    fn born(mut self, number: u32) -> Result<Self, SandboxError> {
        let born = match self.child(number) {
            Ok(born) => born,
            Err(error) => return Err(self.died(&error)),
        };
        std::mem::replace(&mut self.newborn, Unready::new(born)).leave();
        self.stage = Stage::Own;
        // If it is gone, its socket says so.
        let _ = write_all(&*self.control, &[GO_ON]);
        Ok(self)
    }

    /// The process of this number, if it can be nothing but what this one forked: its setsid holds
    /// for both. A program of the container that took the new process over could send any number.
    fn child(&self, number: u32) -> io::Result<Newborn> {
        let pid = |number: u32| {
            i32::try_from(number)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or(Errno::SRCH)
        };
        let (leader, pid) = (pid(self.newborn.pid())?, pid(number)?);
        // First: then the number stays that of this process, or of none.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // Of a process that is not seen from here it is 0.
        let of = getsid(Some(nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get())))?;
        if pid == leader || of.as_raw() != leader.as_raw_nonzero().get() {
            return Err(io::Error::other(format!(
                "{number} is not the process that it forked"
            )));
        }
        // Fails for what is no child of this process.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), look))?;
        Ok(Newborn { pid: number, pidfd })
    }

    fn ready(self, told: Option<String>) -> Guest {
        let Self {
            name,
            control,
            newborn,
            users,
            view,
            ..
        } = self;
        let Newborn { pid, pidfd } = newborn.into_ready();
        Guest {
            name,
            pid,
            pidfd,
            control: Mutex::new(Some(control)),
            told,
            users,
            view,
            was_killed: false,
        }
    }

    /// How it ended, given that its socket had nothing to say but `error`.
    fn died(self, error: &io::Error) -> SandboxError {
        let gone = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        if gone && self.newborn.was_killed(EXIT_TIMEOUT) {
            return SandboxError::Killed(Killed(Box::new(self)));
        }
        let name = self.name.clone();
        let how = match self.newborn.end(Duration::ZERO) {
            _ if !gone => format!("its answer makes no sense ({error})"),
            Some(end) => end,
            None => "it ended".to_owned(),
        };
        SandboxError::Died { name, how }
    }

    /// It was not given its orders, and said nothing.
    fn died_of_silence(self) -> SandboxError {
        let name = self.name.clone();
        let why = self
            .sent
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        let how = match self.newborn.end(EXIT_TIMEOUT) {
            Some(end) => end,
            None => format!("its orders could not be sent ({why})"),
        };
        SandboxError::Died { name, how }
    }
}

/// A process that SIGKILL ended before it was ready: the kernel did for lack of memory, or another
/// process did. It is reaped when this is dropped.
#[derive(Debug)]
pub struct Killed(Box<Pending>);

impl Killed {
    /// Returns the process as one that can be started, and whose exit the caller waits for.
    pub fn into_guest(self) -> Guest {
        Guest {
            control: Mutex::default(),
            was_killed: true,
            ..self.0.ready(None)
        }
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: it was ended by signal 9 before it was ready",
            self.0.name
        )
    }
}
