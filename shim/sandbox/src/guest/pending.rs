//! A process that applies its setup request.
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
use super::reap::ChildGuard;
use super::view::View;
use crate::child::messages::{CONTINUE, SetupReply};
use crate::error::{SandboxError, Step as _};
use crate::plan::Proc;
use crate::wire::{Inbox, write_all};
use crate::workload::Refusal;
use process_forker::Child;

/// A process that closed its socket counts as ended a moment later; it must not be taken for one
/// that was killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A process that applies its setup request. It is killed when this is dropped.
#[derive(Debug)]
pub struct Pending {
    name: String,
    control: Arc<OwnedFd>,
    child: ChildGuard,
    stage: Stage,
    inbox: Inbox,
    /// Whether the setup request could be sent.
    sent: io::Result<()>,
    users: Option<OwnedFd>,
    proc: Option<Proc>,
    view: Option<View>,
}

/// The stage of a process, which decides the replies that it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The process is the one that will run.
    Own,
    /// The process is about to fork that one into a container.
    Outside,
}

/// The progress of a process.
#[derive(Debug)]
pub enum Progress {
    /// More replies are to come.
    Pending(Pending),
    /// It waits for its start.
    Ready(Guest),
}

impl Pending {
    pub(super) fn new(
        name: String,
        control: OwnedFd,
        child: ChildGuard,
        sent: io::Result<()>,
    ) -> Self {
        let (control, inbox) = (Arc::new(control), Inbox::default());
        Self {
            name,
            control,
            child,
            stage: Stage::Own,
            inbox,
            sent,
            users: None,
            proc: None,
            view: None,
        }
    }

    /// Marks that it forks another one.
    pub(super) fn outside(self) -> Self {
        Self {
            stage: Stage::Outside,
            child: self.child.with_group(),
            ..self
        }
    }

    /// Adds its user namespace.
    pub(super) fn with_users(self, users: Option<OwnedFd>) -> Self {
        Self { users, ..self }
    }

    /// Adds the plan of the `/proc` for Linux programs beside it.
    pub(super) fn with_proc(self, proc: Option<Proc>) -> Self {
        Self { proc, ..self }
    }

    /// Returns the socket, which is readable when the process has replied or has ended.
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.control)
    }

    /// Handles the replies so far, and does not block.
    ///
    /// # Errors
    /// When a step failed, the workload refuses, or the process has ended: then nothing of it is
    /// left.
    pub fn advance(mut self) -> Result<Progress, SandboxError> {
        loop {
            let (bytes, descriptor) = match self.inbox.receive(&*self.control) {
                Ok(Some(arrived)) => arrived,
                Ok(None) if self.sent.is_ok() => return Ok(Progress::Pending(self)),
                Ok(None) => return Err(self.not_set_up()),
                Err(error) => return Err(self.died(&error)),
            };
            match (self.stage, rmp_serde::from_slice(&bytes)) {
                (Stage::Own, Ok(SetupReply::Entered)) => self.entered(descriptor),
                (Stage::Outside, Ok(SetupReply::Forked(number))) => self = self.forked(number)?,
                (Stage::Own, Ok(SetupReply::Ready)) => return Ok(Progress::Ready(self.ready())),
                (Stage::Own, Ok(SetupReply::Refused(refusal))) => {
                    return Err(match refusal {
                        Refusal::Guest(text) => SandboxError::Refused(text),
                        Refusal::Code(text) => SandboxError::CodeRefused(text),
                    });
                }
                (_, Ok(SetupReply::Failed(failure))) => return Err(SandboxError::Setup(failure)),
                (_, Ok(_)) => return Err(self.died(&io::Error::other("it does not fit its stage"))),
                (_, Err(error)) => return Err(self.died(&io::Error::other(error))),
            }
        }
    }

    /// Blocks until it is ready: for processes that run nothing of a container's.
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

    /// Kills a process that took longer than `timeout`.
    pub fn time_out(self, timeout: Duration) -> SandboxError {
        let wait = std::fs::read_to_string(format!("/proc/{}/wchan", self.child.pid()))
            .unwrap_or_default();
        let name = self.name.clone();
        self.child.end(Duration::ZERO);
        SandboxError::TimedOut {
            name,
            seconds: timeout.as_secs(),
            wait,
        }
    }

    /// Kills the process after its request was cancelled.
    pub fn cancel(self) -> SandboxError {
        let name = self.name.clone();
        self.child.end(Duration::ZERO);
        SandboxError::Cancelled { name }
    }

    /// Takes the context of a `/proc`. A container's first process sends it once, before anything
    /// of its guest is read.
    fn entered(&mut self, context: Option<OwnedFd>) {
        let proc = self.proc.take();
        if let (Some(context), Some(proc)) = (context, proc) {
            self.view = Some(View::new(context, proc));
        }
    }

    /// Goes on with the process that was forked into the container; the one that forked it ends.
    fn forked(mut self, number: u32) -> Result<Self, SandboxError> {
        let forked = match self.child(number) {
            Ok(forked) => forked,
            Err(error) => return Err(self.died(&error)),
        };
        std::mem::replace(&mut self.child, ChildGuard::new(forked)).leave();
        self.stage = Stage::Own;
        // If it has ended, its socket is closed.
        let _ = write_all(&*self.control, &[CONTINUE]);
        Ok(self)
    }

    /// Opens the process of this number, if it can only be the one that this one forked: setsid
    /// of this one holds for both. A program that took the process over could send any number.
    fn child(&self, number: u32) -> io::Result<Child> {
        let pid = |number: u32| {
            i32::try_from(number)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or(Errno::SRCH)
        };
        let (leader, pid) = (pid(self.child.pid())?, pid(number)?);
        // First: from here on the number is that of this process, or of none.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // It is 0 of a process that is not visible from here.
        let of = getsid(Some(nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get())))?;
        if pid == leader || of.as_raw() != leader.as_raw_nonzero().get() {
            return Err(io::Error::other(format!(
                "{number} is not the process that it forked"
            )));
        }
        // Fails unless it is a child of this process.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), look))?;
        Ok(Child { pid: number, pidfd })
    }

    fn ready(self) -> Guest {
        let Self {
            name,
            control,
            child,
            users,
            view,
            ..
        } = self;
        let Child { pid, pidfd } = child.into_ready();
        Guest {
            name,
            pid,
            pidfd,
            control: Mutex::new(Some(control)),
            users,
            view,
            was_killed: false,
        }
    }

    /// Returns how it ended, after its socket failed with `error`.
    fn died(self, error: &io::Error) -> SandboxError {
        let gone = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        if gone && self.child.was_killed(EXIT_TIMEOUT) {
            return SandboxError::Killed(Killed(Box::new(self)));
        }
        let name = self.name.clone();
        let how = match self.child.end(Duration::ZERO) {
            _ if !gone => format!("its reply is not valid ({error})"),
            Some(end) => end,
            None => "it ended".to_owned(),
        };
        SandboxError::Died { name, how }
    }

    /// Returns the error of a process that got no setup request and sent no reply.
    fn not_set_up(self) -> SandboxError {
        let name = self.name.clone();
        let why = self
            .sent
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        let how = match self.child.end(EXIT_TIMEOUT) {
            Some(end) => end,
            None => format!("its setup request could not be sent ({why})"),
        };
        SandboxError::Died { name, how }
    }
}

/// A process that SIGKILL ended before it was ready: the kernel did for lack of memory, or another
/// process did. It is reaped when this is dropped.
#[derive(Debug)]
pub struct Killed(Box<Pending>);

impl Killed {
    /// Returns the process as a guest, for a caller that waits for its exit.
    pub fn into_guest(self) -> Guest {
        Guest {
            control: Mutex::default(),
            was_killed: true,
            ..self.0.ready()
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
