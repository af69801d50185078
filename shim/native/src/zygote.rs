//! The zygotes: processes forked while the host has one thread, because only from such a process
//! can libcontainer fork.
//!
//! They make a worker for each task and know nothing else. A worker is a child of the host, as is
//! what libcontainer forks in it. There are two, of which one is asked; when it is lost, the other
//! one takes its place and forks another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::prctl::set_name;
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitid,
};
use serde::{Deserialize, Serialize};

use crate::error::{NativeError, ProgramFault};
use crate::leftovers;
use crate::link::{self, Message};
use crate::stdio::Streams;
use crate::worker::{self, Job, Task};

/// The zygotes of this process. Kept for its life: when the host's ends are closed, the zygotes
/// end.
static ZYGOTES: OnceLock<Mutex<Zygotes>> = OnceLock::new();

struct Zygotes {
    /// Is asked.
    current: Zygote,
    /// Takes its place; none when that could not be forked.
    heir: Option<Zygote>,
}

struct Zygote {
    pid: Pid,
    /// The host's end.
    socket: OwnedFd,
}

/// What a zygote is asked for.
#[derive(Serialize, Deserialize)]
enum Request {
    /// A worker for this task. With it come its way back and three streams.
    Worker(Task),
    /// Another zygote. With it comes its end of the socket. The answer is its number.
    Heir,
}

/// Forks the zygotes of native containers. To be called once, while this process has one thread,
/// and by the thread that lives as long as the process: the kernel counts it as the parent of every
/// native container, which ends when it does. A second call changes nothing.
///
/// # Errors
/// When the kernel gives no socket or no process.
pub fn init() -> io::Result<()> {
    if ZYGOTES.get().is_some() {
        return Ok(());
    }
    let (current, heir) = (Zygote::fork()?, Some(Zygote::fork()?));
    ZYGOTES.get_or_init(|| Mutex::new(Zygotes { current, heir }));
    Ok(())
}

impl Zygotes {
    /// Sends what it takes to have a worker.
    fn send(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.current.is_lost()
            && let Some(heir) = self.heir.take()
        {
            tracing::error!(
                "the process that forks native containers was lost: another one takes its place"
            );
            std::mem::replace(&mut self.current, heir).end();
        }
        if self.heir.as_ref().is_none_or(Zygote::is_lost) {
            match self.current.have_another() {
                Ok(another) => drop(self.heir.replace(another).map(Zygote::end)),
                Err(error) => {
                    tracing::error!(%error, "the process that forks native containers has no heir");
                }
            }
        }
        link::send(self.current.socket.as_fd(), request, descriptors)
    }
}

impl Zygote {
    #[expect(unsafe_code, reason = "forking is unsafe in general")]
    fn fork() -> io::Result<Self> {
        let (ours, theirs) = link::pair()?;
        let host = getpid();
        // SAFETY: the caller of `init` has one thread, so the child finds no lock held and may go
        // on as any program does.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(ours);
                serve(theirs, host)
            }
            ForkResult::Parent { child } => Ok(Self {
                pid: process(child.as_raw())?,
                socket: ours,
            }),
        }
    }

    /// Whether nobody has the other end of its socket any more.
    fn is_lost(&self) -> bool {
        let mut ends = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().contains(PollFlags::HUP)
    }

    /// Has it fork another one.
    fn have_another(&self) -> io::Result<Self> {
        let (ours, theirs) = link::pair()?;
        link::send(self.socket.as_fd(), &Request::Heir, &[theirs.as_fd()])?;
        drop(theirs);
        let (pid, _) = link::receive::<Result<i32, String>>(self.socket.as_fd())?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Self {
            pid: process(pid.map_err(io::Error::other)?)?,
            socket: ours,
        })
    }

    /// Ends it, if it has not ended, and waits for it.
    fn end(self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = retry_on_intr(|| waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED));
    }
}

fn process(pid: i32) -> io::Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A process that a worker made, a child of this one.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// Has `task` done by a worker.
///
/// # Errors
/// When there is no worker or it fails. Then what it forked has ended and was waited for, so far as
/// it can be known.
pub(crate) fn ask(task: &Task, streams: Streams) -> Result<Made, NativeError> {
    let zygotes = ZYGOTES.get().ok_or(NativeError::NoZygote)?;
    let (ours, theirs) = link::pair().map_err(|source| NativeError::Kernel {
        action: "open a socket",
        source,
    })?;
    let inode = fstat(&theirs)
        .map_err(|error| NativeError::Kernel {
            action: "look at a socket",
            source: error.into(),
        })?
        .st_ino;
    let [stdin, stdout, stderr] = &streams.descriptors;
    let request = Request::Worker(task.clone());
    let descriptors = [
        theirs.as_fd(),
        stdin.as_fd(),
        stdout.as_fd(),
        stderr.as_fd(),
    ];
    // What a panicking thread left is whole: every change is the last step of its own.
    zygotes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(&request, &descriptors)
        .map_err(NativeError::ZygoteLost)?;
    // The descriptors are what ending a failed task's processes may need, where there are no
    // others.
    drop((theirs, streams));
    let answer = Answer::collect(ours.as_fd());
    let worker = answer.worker;
    let made = answer.verdict(task).and_then(open);
    match (worker, &made) {
        (Some(worker), Ok(_)) => leftovers::reap(worker),
        (Some(worker), Err(_)) => leftovers::end(worker, task, inode),
        (None, _) => {}
    }
    made
}

/// Opens `pid`, a child of this process that nobody has waited for.
fn open(pid: u32) -> Result<Made, NativeError> {
    let failed = |source| NativeError::Kernel {
        action: "open the new process",
        source,
    };
    let number = pid_of(pid).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    Ok(Made { pid, pidfd })
}

/// All that came back from a task.
#[derive(Default)]
struct Answer {
    worker: Option<Pid>,
    /// The worker cannot be watched.
    unwatched: Option<NativeError>,
    not_hatched: Option<String>,
    refused: Option<ProgramFault>,
    complaints: Vec<String>,
    result: Option<Result<u32, String>>,
}

impl Answer {
    fn collect(link: BorrowedFd<'_>) -> Self {
        let mut answer = Self::default();
        let mut watched = None;
        while answer.not_hatched.is_none() && (answer.worker.is_none() || answer.result.is_none()) {
            // A process that the worker made may hold the other end for ever: it waits for the
            // worker.
            if watched
                .as_ref()
                .is_some_and(|worker| !has_news(link, worker))
            {
                break;
            }
            // No packet: all who could answer have ended.
            let Ok(Some((message, _))) = link::receive(link) else {
                break;
            };
            match message {
                Message::Hatched(pid) => {
                    answer.worker = pid_of(pid);
                    match open(pid) {
                        Ok(worker) => watched = Some(worker.pidfd),
                        Err(error) => {
                            answer.unwatched = Some(error);
                            break;
                        }
                    }
                }
                Message::NotHatched(reason) => answer.not_hatched = Some(reason),
                Message::Refused(fault) => answer.refused = Some(fault),
                Message::Complaint(text) => answer.complaints.push(text),
                Message::Done(result) => answer.result = Some(result),
            }
        }
        answer
    }

    fn verdict(self, task: &Task) -> Result<u32, NativeError> {
        let what = task.to_string();
        if let Some(error) = self.unwatched {
            return Err(error);
        }
        match self.result {
            Some(Ok(pid)) => Ok(pid),
            _ if self.refused.is_some() => Err(NativeError::Program(
                self.refused.expect("it was looked at just now"),
            )),
            Some(Err(reason)) => Err(NativeError::Setup {
                what,
                reason: with_cause(reason, &self.complaints),
            }),
            None if self.not_hatched.is_some() || self.worker.is_some() => {
                let detail = self
                    .not_hatched
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default();
                Err(NativeError::WorkerLost { what, detail })
            }
            None => Err(NativeError::ZygoteEnded { what }),
        }
    }
}

/// Waits until there is a packet, or none can come from `worker` any more: whether there is one.
fn has_news(link: BorrowedFd<'_>, worker: &OwnedFd) -> bool {
    let mut ends = [
        PollFd::new(&link, PollFlags::IN),
        PollFd::new(worker, PollFlags::IN),
    ];
    let ready = retry_on_intr(|| poll(&mut ends, None));
    ready.is_ok() && !ends[0].revents().is_empty()
}

/// `reason` with its cause: what was logged first, where it happened. What follows is the same,
/// told by each caller.
fn with_cause(reason: String, complaints: &[String]) -> String {
    match complaints.first() {
        Some(cause) => format!("{reason}; first of all: {cause}"),
        None => reason,
    }
}

/// `pid` in the form in which system calls take it; none for a number that is no process's.
pub(crate) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Runs in a zygote, until the host is gone.
fn serve(socket: OwnedFd, host: Pid) -> ! {
    // To be told from the host in a list of processes.
    let _ = set_name(c"native-zygote");
    // Not needed where the host closes its end by ending, as it does. But a copy of that end may
    // have come into another process: then this ends the zygote.
    let dies = set_parent_process_death_signal(Some(Signal::KILL));
    if dies.is_err()
        || getppid() != Some(host)
        || close_all_but(&socket).is_err()
        || leave_streams().is_err()
    {
        leave(1);
    }
    while let Ok(Some((request, descriptors))) = link::receive::<Request>(socket.as_fd()) {
        match request {
            Request::Worker(task) => {
                // Anything else did not come from `ask`.
                let Ok([link, streams @ ..]) = <[OwnedFd; 4]>::try_from(descriptors) else {
                    continue;
                };
                match fork_sibling() {
                    Ok(Fork::Child) => {
                        // No process but the zygote may hold its socket: the host learns from it
                        // that the zygote has ended.
                        drop(socket);
                        worker::work(Job {
                            task,
                            streams,
                            link,
                        })
                    }
                    // That the host is gone by now is found out at the next turn.
                    Ok(Fork::Parent(pid)) => {
                        drop(link::send(link.as_fd(), &Message::Hatched(pid), &[]));
                    }
                    Err(error) => drop(link::send(
                        link.as_fd(),
                        &Message::NotHatched(error.to_string()),
                        &[],
                    )),
                }
            }
            Request::Heir => {
                let Ok([theirs]) = <[OwnedFd; 1]>::try_from(descriptors) else {
                    continue;
                };
                let forked = match fork_sibling() {
                    Ok(Fork::Child) => {
                        drop(socket);
                        serve(theirs, host)
                    }
                    Ok(Fork::Parent(pid)) => i32::try_from(pid).map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                drop(theirs);
                drop(link::send(socket.as_fd(), &forked, &[]));
            }
        }
    }
    leave(0)
}

/// The host's standard streams are nothing to the zygote, and somebody may wait for their end.
fn leave_streams() -> io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// Closes what came from the host, beside the standard streams and `kept`: a host counts as ended
/// when nobody holds its listening socket any more.
#[expect(unsafe_code, reason = "descriptors of unknown owners are closed")]
fn close_all_but(kept: &OwnedFd) -> io::Result<()> {
    let kept = libc::c_long::from(kept.as_raw_fd());
    for (first, last) in [
        (3, kept - 1),
        (kept + 1, libc::c_long::from(libc::c_int::MAX)),
    ] {
        if first > last {
            continue;
        }
        // SAFETY: their owners are objects of the host of which this process has copies. It never
        // returns to the code that uses or drops them.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if closed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// In which of the two processes a fork returned.
enum Fork {
    Parent(u32),
    Child,
}

/// Forks a process that has the same parent as this one.
#[expect(unsafe_code, reason = "no library offers CLONE_PARENT to safe code")]
fn fork_sibling() -> io::Result<Fork> {
    // struct clone_args of clone3(2): flags first, and all else zero. The signal at its end is that
    // of this process's.
    let arguments = [
        u64::try_from(libc::CLONE_PARENT).expect("a flag, not a sign"),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the arguments are a whole clone_args and outlive the call, which gives the child a
    // copy of this process's memory and its one thread's stack. With one thread there is no lock
    // that another one holds.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of_val(&arguments),
        )
    };
    match u32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Ok(Fork::Parent(pid)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once. What the host registered to be done at its own end must not be done
/// here.
#[expect(
    unsafe_code,
    reason = "the C library's own `exit` runs what the host registered"
)]
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: the call has no precondition, and does not return.
    unsafe { libc::_exit(code) }
}
