//! One process of a container: its first one, or one that exec added.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use container_io::{Io, Streams};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::error::TaskError;
use crate::lifecycle::{State, Verb, Verdict};
use crate::outcome::{NOT_RUNNABLE, SIGNAL_BASE};

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 plus the signal that ended the process.
    pub status: u32,
    /// When.
    pub at: SystemTime,
}

impl Exit {
    /// The end by `signal`, now.
    pub fn by_signal(signal: u32) -> Self {
        Self { status: u32::from(SIGNAL_BASE) + signal, at: SystemTime::now() }
    }

    /// The end of what could not be run, now.
    pub fn of_the_unrunnable() -> Self {
        Self { status: u32::from(NOT_RUNNABLE), at: SystemTime::now() }
    }

    /// Whether nothing but SIGKILL can have ended it, which is what the kernel sends when memory is out.
    pub fn is_kill(self) -> bool {
        self.status == u32::from(SIGNAL_BASE) + SIGKILL
    }
}

/// The signal that nothing survives.
pub const SIGKILL: u32 = 9;

/// A process, from Create or Exec to Delete.
#[derive(Debug)]
pub struct Process {
    /// The container's id, and the exec's; the latter is empty for the first process.
    pub id: Name,
    /// The names of its standard streams.
    pub streams: Streams,
    state: Mutex<State>,
    running: OnceLock<Running>,
    side: Mutex<Side>,
    ended: watch::Sender<Option<Exit>>,
    /// Held while something about this process is made true and told, so that events leave in the order of what happened.
    pub turn: tokio::sync::Mutex<()>,
}

/// By what containerd knows a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The container's id.
    pub container: String,
    /// The exec's id; empty for the first process.
    pub exec: String,
}

impl Name {
    /// What events call it: the exec's id, or the container's.
    pub fn of_events(&self) -> &str {
        if self.exec.is_empty() { &self.container } else { &self.exec }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exec.as_str() {
            "" => write!(f, "task {}", self.container),
            exec => write!(f, "process {exec} of task {}", self.container),
        }
    }
}

/// The host's side of a process's streams.
#[derive(Debug, Default)]
struct Side {
    /// Kept until the process is forgotten: output that nobody has read yet is in it.
    io: Option<Arc<Io>>,
    input: Input,
}

/// Whether more may come on the standard input. A client whose input is short says that it ends before its process exists.
#[derive(Debug, Clone, Copy, Default)]
enum Input {
    #[default]
    Open,
    Ended,
}

#[derive(Debug)]
struct Running {
    pid: u32,
    /// None for a pod's sandbox, which is a thread.
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// One that does not exist yet.
    pub fn new(container: &str, exec: &str, streams: Streams) -> Self {
        Self {
            id: Name { container: container.to_owned(), exec: exec.to_owned() },
            streams,
            state: Mutex::new(State::Created),
            running: OnceLock::new(),
            side: Mutex::default(),
            ended: watch::Sender::new(None),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// From now on it exists.
    pub fn exists(&self, pid: u32, pidfd: Option<OwnedFd>, io: Option<Io>) {
        // A process comes to be once; a second number for it would be a mistake of ours, and the first one stays true.
        let _ = self.running.set(Running { pid, pidfd });
        let mut side = lock(&self.side);
        side.io = io.map(Arc::new);
        if let (Some(io), Input::Ended) = (&side.io, side.input) {
            io.close_input();
        }
    }

    /// Its number on the node; 0 while it does not exist.
    pub fn pid(&self) -> u32 {
        self.running.get().map_or(0, |running| running.pid)
    }

    /// By which it can be waited for and joined.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.running.get()?.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Whether `verb` may be done now.
    ///
    /// # Errors
    /// When it may not.
    pub fn allows(&self, verb: Verb) -> Result<Verdict, TaskError> {
        match self.state().verdict(verb) {
            Verdict::Refuse(why) => Err(TaskError::WrongState { process: self.id.clone(), why }),
            Verdict::AlreadyGone => Err(TaskError::Gone { process: self.id.clone() }),
            verdict => Ok(verdict),
        }
    }

    /// `verb` is done.
    pub fn did(&self, verb: Verb) {
        let mut state = lock(&self.state);
        *state = state.after(verb);
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When there is no such signal. A process that has just ended is no error: it is what was wanted.
    pub fn signal(&self, signal: u32) -> Result<(), TaskError> {
        let number = i32::try_from(signal).ok().and_then(Signal::from_named_raw).ok_or(TaskError::NoSignal { signal })?;
        let Some(pidfd) = self.pidfd() else { return Ok(()) };
        match rustix::process::pidfd_send_signal(pidfd, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(TaskError::Signal { process: self.id.clone(), signal, source: errno.into() }),
        }
    }

    /// It has ended; those who wait are not told yet.
    pub fn is_over(&self) {
        *lock(&self.state) = State::Exited;
    }

    /// Tells those who wait how it ended.
    pub fn tell(&self, exit: Exit) {
        self.ended.send_replace(Some(exit));
    }

    /// How it ended, once that was told.
    pub fn exit(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// Waits until it has ended and all that it wrote has left us.
    pub async fn wait(&self) -> Exit {
        let mut ended = self.ended.subscribe();
        let told = ended.wait_for(Option::is_some).await;
        told.ok().and_then(|exit| *exit).expect("the sender is this process's own, and it sends what is waited for")
    }

    /// Closes our end of its standard input, now or as soon as it exists.
    pub fn close_input(&self) {
        let mut side = lock(&self.side);
        side.input = Input::Ended;
        if let Some(io) = &side.io {
            io.close_input();
        }
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it has none.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), TaskError> {
        match &lock(&self.side).io {
            Some(io) => Ok(io.resize(columns, rows)?),
            None => Err(TaskError::NotStarted { process: self.id.clone() }),
        }
    }

    /// Waits, not for ever, until what it wrote was read.
    pub async fn drained(&self) {
        let io = lock(&self.side).io.clone();
        if let Some(io) = io {
            io.drained().await;
        }
    }
}

/// Waits for the process behind `pidfd`, a child of ours.
///
/// # Errors
/// When somebody else has waited for it.
pub async fn end_of(pidfd: OwnedFd) -> io::Result<Exit> {
    let pidfd = readable(pidfd)?;
    loop {
        let mut ready = pidfd.readable().await?;
        let at = SystemTime::now();
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => {
                let code = status.exit_status().and_then(|code| u32::try_from(code).ok());
                let signal = status.terminating_signal().and_then(|signal| u32::try_from(signal).ok());
                let status = code.or_else(|| Some(u32::from(SIGNAL_BASE) + signal?));
                return Ok(Exit { status: status.unwrap_or(u32::from(SIGNAL_BASE)), at });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `fd`, to be waited for until it is readable.
///
/// # Errors
/// When the runtime can watch no more.
#[expect(unsafe_code, reason = "a runtime that watches a descriptor must be sure that it stays open")]
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and it is the same descriptor until it is dropped, which the AsyncFd does last.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// A lock whose holder panicked guards plain values, which are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
