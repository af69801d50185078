//! One process of a container: its first one, or one that exec added.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use container_io::{Io, Streams};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};

use crate::error::{CreateError, TaskError};
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
    pub fn by_signal(signal: Signal) -> Self {
        Self {
            status: u32::from(SIGNAL_BASE) + signal.as_raw().unsigned_abs(),
            at: SystemTime::now(),
        }
    }

    /// The end of what could not be run, now.
    pub fn of_the_unrunnable() -> Self {
        Self {
            status: u32::from(NOT_RUNNABLE),
            at: SystemTime::now(),
        }
    }

    /// Whether nothing but SIGKILL can have ended it, which is what the kernel sends when memory is
    /// out.
    pub fn is_kill(self) -> bool {
        self.status == u32::from(SIGNAL_BASE) + SIGKILL
    }

    /// What the kernel says of an end, at `at`.
    fn of(status: &WaitIdStatus, at: SystemTime) -> Self {
        let code = status
            .exit_status()
            .and_then(|code| u32::try_from(code).ok());
        let signal = status
            .terminating_signal()
            .and_then(|signal| u32::try_from(signal).ok());
        let status = code.or_else(|| Some(u32::from(SIGNAL_BASE) + signal?));
        Self {
            status: status.unwrap_or(u32::from(SIGNAL_BASE)),
            at,
        }
    }
}

/// The number of the signal that nothing survives.
pub const SIGKILL: u32 = 9;

/// The signal that containerd means.
///
/// # Errors
/// When there is none of that number.
pub fn signal(number: u32) -> Result<Signal, TaskError> {
    container_cgroup::signal(number).ok_or(TaskError::NoSignal { signal: number })
}

/// A process, from Create or Exec to Delete.
#[derive(Debug)]
pub struct Process {
    /// The container's id, and the exec's; the latter is empty for the first process.
    pub id: Name,
    /// The names of its standard streams.
    pub streams: Streams,
    life: Mutex<Life>,
    running: OnceLock<Running>,
    side: Mutex<Side>,
    ended: watch::Sender<Option<Exit>>,
    /// Whether its exit is not to be reported yet.
    exit_is_held: AtomicBool,
    exit_released: Notify,
    /// Held while something about this process is made true and told, so that events leave in the
    /// order of what happened.
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
        if self.exec.is_empty() {
            &self.container
        } else {
            &self.exec
        }
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

#[derive(Debug)]
struct Life {
    state: State,
    /// Whether it was sent what nothing survives.
    is_doomed: bool,
}

/// The host's side of a process's streams.
#[derive(Debug, Default)]
struct Side {
    /// Kept until the process is forgotten: output that nobody has read yet is in it.
    io: Option<Arc<Io>>,
    input: Input,
}

/// Whether more may come on the standard input. A client whose input is short says that it ends
/// before its process exists.
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
    pidfd: Option<Arc<OwnedFd>>,
}

impl Process {
    /// One that does not exist yet.
    pub fn new(container: &str, exec: &str, streams: Streams) -> Self {
        Self {
            id: Name {
                container: container.to_owned(),
                exec: exec.to_owned(),
            },
            streams,
            life: Mutex::new(Life {
                state: State::Created,
                is_doomed: false,
            }),
            running: OnceLock::new(),
            side: Mutex::default(),
            ended: watch::Sender::new(None),
            exit_is_held: AtomicBool::new(false),
            exit_released: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// From now on it exists.
    pub fn exists(&self, pid: u32, pidfd: Option<Arc<OwnedFd>>, io: Option<Io>) {
        // A process comes to be once; a second number for it would be a mistake of ours, and the
        // first one stays true.
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
    pub fn pidfd(&self) -> Option<&Arc<OwnedFd>> {
        self.running.get()?.pidfd.as_ref()
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        lock(&self.life).state
    }

    /// Whether `verb` may be done now.
    ///
    /// # Errors
    /// When it may not.
    pub fn allows(&self, verb: Verb) -> Result<Verdict, TaskError> {
        match self.state().verdict(verb) {
            Verdict::Refuse(why) => Err(TaskError::WrongState {
                process: self.id.clone(),
                why,
            }),
            Verdict::AlreadyGone => Err(TaskError::Gone {
                process: self.id.clone(),
            }),
            verdict => Ok(verdict),
        }
    }

    /// `verb` is done.
    pub fn did(&self, verb: Verb) {
        let mut life = lock(&self.life);
        life.state = life.state.after(verb);
        drop(life);
        if verb == Verb::Start {
            self.release_exit();
        }
    }

    /// Holds the report of its exit back until it is started or signalled. It was killed while it
    /// was created, and containerd takes a container that exits before its start for one that could
    /// not be started.
    pub fn hold_exit(&self) {
        self.exit_is_held.store(true, Ordering::Release);
    }

    /// Lets its exit be reported.
    pub fn release_exit(&self) {
        self.exit_released.notify_one();
    }

    /// Waits until its exit may be reported.
    pub async fn exit_may_be_reported(&self) {
        if self.exit_is_held.load(Ordering::Acquire) {
            self.exit_released.notified().await;
        }
    }

    /// It is about to be sent what nothing survives. Said before that is sent: whoever freezes it
    /// meanwhile sees, after it has said that it is frozen, that it must not stay so.
    pub fn is_doomed(&self) {
        lock(&self.life).is_doomed = true;
    }

    /// Whether it was [doomed](Self::is_doomed).
    pub fn was_doomed(&self) -> bool {
        lock(&self.life).is_doomed
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the kernel refuses. A process that has just ended is no error: it is what was wanted.
    pub fn signal(&self, signal: Signal) -> Result<(), TaskError> {
        self.release_exit();
        let Some(pidfd) = self.pidfd() else {
            return Ok(());
        };
        match rustix::process::pidfd_send_signal(pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => {
                let signal = signal.as_raw().unsigned_abs();
                Err(TaskError::Signal {
                    process: self.id.clone(),
                    signal,
                    source: errno.into(),
                })
            }
        }
    }

    /// It has ended; those who wait are not told yet.
    pub fn is_over(&self) {
        lock(&self.life).state = State::Exited;
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
        told.ok()
            .and_then(|exit| *exit)
            .expect("the sender is this process's own, and it sends what is waited for")
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
            None => Err(TaskError::NotStarted {
                process: self.id.clone(),
            }),
        }
    }

    /// Waits, not for ever, until what it wrote was read.
    pub async fn drained(&self) {
        let io = lock(&self.side).io.clone();
        if let Some(io) = io {
            io.drain().await;
        }
    }
}

/// The pidfd of a process that was just made, to be shared by who signals it and who waits for it.
/// Where none is to be had the process ends: nobody could wait for it.
///
/// # Errors
/// When this process may open no more files.
pub fn claim(pidfd: BorrowedFd<'_>) -> Result<Arc<OwnedFd>, CreateError> {
    claim_by(pidfd, |pidfd| pidfd.try_clone_to_owned())
}

fn claim_by(
    pidfd: BorrowedFd<'_>,
    copy: impl FnOnce(BorrowedFd<'_>) -> io::Result<OwnedFd>,
) -> Result<Arc<OwnedFd>, CreateError> {
    copy(pidfd).map(Arc::new).map_err(|error| {
        give_up(pidfd);
        CreateError::Descriptors(error)
    })
}

/// Ends a process that was made and is of no use to anybody, and waits for its end. Blocks.
pub fn give_up(pidfd: BorrowedFd<'_>) {
    if let Err(error) = end(pidfd) {
        tracing::warn!("a process that nobody waits for may be left: {error}");
    }
}

/// Kills a child of ours and waits for its end. Blocks.
fn end(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    match rustix::process::pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ended = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)
    })?;
    Ok(ended.map_or_else(
        || Exit::by_signal(Signal::KILL),
        |status| Exit::of(&status, SystemTime::now()),
    ))
}

/// Waits for the process behind `pidfd`, a child of ours. One that cannot be watched is killed: it
/// would run on after its end was told.
///
/// # Errors
/// When somebody else has waited for it.
pub async fn end_of(pidfd: Arc<OwnedFd>) -> io::Result<Exit> {
    let watched = match readable(Arc::clone(&pidfd)) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!("a process that cannot be watched is killed: {error}");
            return tokio::task::spawn_blocking(move || end(pidfd.as_fd())).await?;
        }
    };
    loop {
        let mut ready = watched.readable().await?;
        let at = SystemTime::now();
        match rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(Some(status)) => return Ok(Exit::of(&status, at)),
            Ok(None) | Err(Errno::INTR) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `fd`, to be waited for until it is readable.
///
/// # Errors
/// When the runtime can watch no more.
#[expect(
    unsafe_code,
    reason = "a runtime that watches a descriptor must be sure that it stays open"
)]
pub fn readable(fd: impl Into<Arc<OwnedFd>>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an OwnedFd is open, and it is the same descriptor until it is dropped, which happens
    // no earlier than that the AsyncFd drops its share of it, and that does so last.
    let watched = unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// A lock whose holder panicked guards plain values, which are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
