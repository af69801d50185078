//! A process of a container: the first one, or an exec.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use container_io::{Io, Streams};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};

use crate::error::{CreateError, TaskError};
use crate::lifecycle::{State, Verb, Verdict};
use crate::names::ProcessName;
use crate::outcome::{NOT_RUNNABLE, SIGNAL_BASE};

/// The exit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code, or 128 plus the signal that killed the process.
    pub(crate) status: u32,
    /// The time of the exit.
    pub(crate) at: SystemTime,
}

impl Exit {
    /// Returns the exit by `signal`, now.
    pub(crate) fn by_signal(signal: Signal) -> Self {
        Self {
            status: u32::from(SIGNAL_BASE) + signal.as_raw().unsigned_abs(),
            at: SystemTime::now(),
        }
    }

    /// Returns the exit of a process that could not be run, now.
    pub(crate) fn not_runnable() -> Self {
        Self {
            status: u32::from(NOT_RUNNABLE),
            at: SystemTime::now(),
        }
    }

    /// Returns whether SIGKILL ended it, which is the signal that the kernel sends on OOM.
    pub(crate) fn is_kill(self) -> bool {
        self.status == u32::from(SIGNAL_BASE) + SIGKILL
    }

    /// Converts a wait status of the time `at`.
    fn from_status(status: &WaitIdStatus, at: SystemTime) -> Self {
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

/// The number of SIGKILL.
pub(crate) const SIGKILL: u32 = 9;

/// Converts a signal's number.
///
/// # Errors
/// If there is no such signal.
pub(crate) fn signal(number: u32) -> Result<Signal, TaskError> {
    container_cgroup::signal(number).ok_or(TaskError::NoSignal { signal: number })
}

/// A process, from Create or Exec to Delete.
#[derive(Debug)]
pub(crate) struct Process {
    /// The ids of the container and the exec.
    pub(crate) id: ProcessName,
    /// The names of its standard streams.
    pub(crate) streams: Streams,
    lifecycle: Mutex<Lifecycle>,
    running: OnceLock<Running>,
    io: Mutex<HostIo>,
    exit: watch::Sender<Option<Exit>>,
    /// Whether the exit must not be published yet.
    exit_is_held: AtomicBool,
    exit_released: Notify,
    /// Held during a change of the process and its event, so that events are sent in the order of
    /// the changes.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Lifecycle {
    state: State,
    /// Whether SIGKILL was sent, or is about to be sent.
    is_kill_pending: bool,
}

/// The host's end of a process's streams.
#[derive(Debug, Default)]
struct HostIo {
    /// Kept until the process is deleted: it has output that was not read yet.
    io: Option<Arc<Io>>,
    input: Input,
}

/// The state of standard input. A client with short input closes it before the process exists.
#[derive(Debug, Clone, Copy, Default)]
enum Input {
    #[default]
    Open,
    Closed,
}

#[derive(Debug)]
struct Running {
    pid: u32,
    /// None for a pod's sandbox, which is a thread.
    pidfd: Option<Arc<OwnedFd>>,
}

impl Process {
    /// Creates the state of a process that does not exist yet.
    pub(crate) fn new(container: &str, exec: &str, streams: Streams) -> Self {
        Self {
            id: ProcessName {
                container: container.to_owned(),
                exec: exec.to_owned(),
            },
            streams,
            lifecycle: Mutex::new(Lifecycle {
                state: State::Created,
                is_kill_pending: false,
            }),
            running: OnceLock::new(),
            io: Mutex::default(),
            exit: watch::Sender::new(None),
            exit_is_held: AtomicBool::new(false),
            exit_released: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Attaches the operating system's process, once it exists.
    pub(crate) fn attach(&self, pid: u32, pidfd: Option<Arc<OwnedFd>>, io: Option<Io>) {
        // A process is attached once. A second call would be a bug, and keeps the first pid.
        let _ = self.running.set(Running { pid, pidfd });
        let mut host_io = failures::lock_ignoring_poison(&self.io);
        host_io.io = io.map(Arc::new);
        if let (Some(io), Input::Closed) = (&host_io.io, host_io.input) {
            io.close_input();
        }
    }

    /// Returns the pid on the node; 0 while there is no process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.get().map_or(0, |running| running.pid)
    }

    /// Returns the pidfd; none while there is no process, and for a pod's thread.
    pub(crate) fn pidfd(&self) -> Option<&Arc<OwnedFd>> {
        self.running.get()?.pidfd.as_ref()
    }

    /// Returns the state.
    pub(crate) fn state(&self) -> State {
        failures::lock_ignoring_poison(&self.lifecycle).state
    }

    /// Checks whether `verb` is allowed now.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn check(&self, verb: Verb) -> Result<Verdict, TaskError> {
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

    /// Advances the state after `verb` was done.
    pub(crate) fn advance(&self, verb: Verb) {
        let mut lifecycle = failures::lock_ignoring_poison(&self.lifecycle);
        lifecycle.state = lifecycle.state.after(verb);
        drop(lifecycle);
        if verb == Verb::Start {
            self.release_exit();
        }
    }

    /// Holds the exit back until the process is started or signalled. It was killed while it was
    /// created, and containerd treats a container that exits before its start as one that failed to
    /// start.
    pub(crate) fn hold_exit(&self) {
        self.exit_is_held.store(true, Ordering::Release);
    }

    /// Allows the exit to be published.
    pub(crate) fn release_exit(&self) {
        self.exit_released.notify_one();
    }

    /// Waits until the exit may be published.
    pub(crate) async fn wait_for_release(&self) {
        if self.exit_is_held.load(Ordering::Acquire) {
            self.exit_released.notified().await;
        }
    }

    /// Marks that SIGKILL is about to be sent. A pause that is under way checks the mark after it
    /// has set its state, and thaws the process.
    pub(crate) fn mark_kill_pending(&self) {
        failures::lock_ignoring_poison(&self.lifecycle).is_kill_pending = true;
    }

    /// Returns whether SIGKILL was sent, or is about to be sent.
    pub(crate) fn is_kill_pending(&self) -> bool {
        failures::lock_ignoring_poison(&self.lifecycle).is_kill_pending
    }

    /// Sends `signal`. A process that has exited already is not an error.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), TaskError> {
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

    /// Marks the process as exited; waiters are notified later.
    pub(crate) fn mark_exited(&self) {
        failures::lock_ignoring_poison(&self.lifecycle).state = State::Exited;
    }

    /// Publishes the exit to waiters.
    pub(crate) fn publish_exit(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Returns the exit, once it was published.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the exit is published, after all output was drained.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        let published = exit.wait_for(Option::is_some).await;
        published
            .ok()
            .and_then(|exit| *exit)
            .expect("this process owns the sender, and the sent value is Some")
    }

    /// Closes the host's end of standard input, now or as soon as the process exists.
    /// Closes our end of its standard input, now or as soon as it exists.
    pub(crate) fn close_input(&self) {
        let mut host_io = failures::lock_ignoring_poison(&self.io);
        host_io.input = Input::Closed;
        if let Some(io) = &host_io.io {
            io.close_input();
        }
    }

    /// Sets the size of the terminal.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<(), TaskError> {
        match &failures::lock_ignoring_poison(&self.io).io {
            Some(io) => Ok(io.resize(columns, rows)?),
            None => Err(TaskError::NotStarted {
                process: self.id.clone(),
            }),
        }
    }

    /// Waits, for a bounded time, until the output was read.
    pub(crate) async fn drain(&self) {
        let io = failures::lock_ignoring_poison(&self.io).io.clone();
        if let Some(io) = io {
            io.drain().await;
        }
    }
}

/// Copies the pidfd of a new process, so that signalling and waiting can share it. If that fails,
/// kills the process, for which nothing could wait.
///
/// # Errors
/// If this process has no file descriptor left.
pub(crate) fn share_pidfd(pidfd: BorrowedFd<'_>) -> Result<Arc<OwnedFd>, CreateError> {
    share_by(pidfd, |pidfd| pidfd.try_clone_to_owned())
}

fn share_by(
    pidfd: BorrowedFd<'_>,
    copy: impl FnOnce(BorrowedFd<'_>) -> io::Result<OwnedFd>,
) -> Result<Arc<OwnedFd>, CreateError> {
    copy(pidfd).map(Arc::new).map_err(|error| {
        discard(pidfd);
        CreateError::Descriptors(error)
    })
}

/// Kills a process that cannot be used, and reaps it. Blocks.
pub(crate) fn discard(pidfd: BorrowedFd<'_>) {
    if let Err(error) = kill_and_reap(pidfd) {
        tracing::warn!("cannot reap an unused process: {error}");
    }
}

/// Kills a child of this process and reaps it. Blocks.
fn kill_and_reap(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    match rustix::process::pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ended = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)
    })?;
    Ok(ended.map_or_else(
        || Exit::by_signal(Signal::KILL),
        |status| Exit::from_status(&status, SystemTime::now()),
    ))
}

/// Waits for the exit of the process behind `pidfd`, a child of this process, and reaps it. If it
/// cannot be watched, it is killed: it would run on after its exit was published.
///
/// # Errors
/// If it was reaped elsewhere.
pub(crate) async fn wait_for_exit(pidfd: Arc<OwnedFd>) -> io::Result<Exit> {
    let watched = match readable(Arc::clone(&pidfd)) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!("a process that cannot be watched is killed: {error}");
            return tokio::task::spawn_blocking(move || kill_and_reap(pidfd.as_fd())).await?;
        }
    };
    loop {
        let mut ready = watched.readable().await?;
        let at = SystemTime::now();
        match rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(Some(status)) => return Ok(Exit::from_status(&status, at)),
            Ok(None) | Err(Errno::INTR) => ready.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Registers `fd` with the runtime, to wait until it is readable.
///
/// # Errors
/// If the runtime cannot watch it.
#[expect(
    unsafe_code,
    reason = "a descriptor must stay open while the runtime watches it"
)]
pub(crate) fn readable(fd: impl Into<Arc<OwnedFd>>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an OwnedFd is open, and is the same descriptor until it is dropped. That happens
    // after the AsyncFd has dropped its share of it, which is its last action.
    let watched = unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) };
    watched.map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
