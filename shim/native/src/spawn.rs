//! The host's side of a worker: spawned, given its task, and listened to until it is done.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use process_forker::wire::Message;
use process_forker::{Child, Forkers, SpawnRequest, WireFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use rustix::io::retry_on_intr;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::error::{NativeError, ProgramFault};
use crate::reap::{self, pid_of};
use crate::reply::{Reply, control_socket};
use crate::stdio::Streams;
use crate::task::{Assignment, Task};
use crate::worker;

/// Has a worker do `task`, and returns the process that it made.
///
/// # Errors
/// When there is no worker or it fails. Then what it forked has ended and was waited for, as far as
/// that can be known.
pub(crate) fn run(forkers: &Forkers, task: Task, streams: Streams) -> Result<Child, NativeError> {
    let kernel = |action| move |source| NativeError::Kernel { action, source };
    let (control, theirs) = control_socket().map_err(kernel("open a socket"))?;
    // By which a process that was not noted is found.
    let inode = fstat(&theirs)
        .map_err(|error| kernel("look at a socket")(error.into()))?
        .st_ino;
    let assignment = Assignment {
        task,
        streams: streams.descriptors.map(WireFd::new),
    };
    let message = Message::of(&assignment).map_err(kernel("write the task of a worker"))?;
    let Assignment { task, streams } = assignment;
    let request = SpawnRequest::new(worker::run, theirs, 0);
    let worker = forkers.spawn(&request)?;
    // The other end must be the worker's alone, so that its end is seen.
    drop(request);
    // A worker that has ended already sends no reply.
    let sent = message.send(&control);
    // The descriptors are what ending a failed task's processes may need, where there are no
    // others.
    drop((message, streams));
    let replies = match sent {
        Ok(()) => Replies::collect(control.as_fd(), &worker.pidfd),
        Err(_) => Replies::default(),
    };
    let made = replies.into_result(&task).and_then(open);
    match &made {
        Ok(_) => reap::worker(worker.pid),
        Err(_) => reap::failed_task(worker.pid, &task, inode),
    }
    made
}

/// Opens `pid`, a child of this process that was not waited for.
fn open(pid: u32) -> Result<Child, NativeError> {
    let failed = |source| NativeError::Kernel {
        action: "open the new process",
        source,
    };
    let number = pid_of(pid).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    Ok(Child { pid, pidfd })
}

/// All replies about a task.
#[derive(Default)]
struct Replies {
    refused: Option<ProgramFault>,
    logged: Vec<String>,
    result: Option<Result<u32, String>>,
}

impl Replies {
    /// Collects them until the last one, or until the worker has ended: a process that it made may
    /// hold the other end of the socket for ever, waiting for the worker.
    fn collect(control: BorrowedFd<'_>, worker: &OwnedFd) -> Self {
        let mut replies = Self::default();
        while replies.result.is_none() && await_reply(control, worker) {
            let Ok(Some(reply)) = Reply::receive(control) else {
                break;
            };
            match reply {
                Reply::Refused(fault) => replies.refused = Some(fault),
                Reply::Logged(text) => replies.logged.push(text),
                Reply::Done(result) => replies.result = Some(result),
            }
        }
        replies
    }

    fn into_result(self, task: &Task) -> Result<u32, NativeError> {
        let Self {
            refused,
            logged,
            result,
        } = self;
        let what = task.to_string();
        match (result, refused) {
            (Some(Ok(pid)), _) => Ok(pid),
            (_, Some(fault)) => Err(NativeError::Program(fault)),
            (Some(Err(reason)), None) => Err(NativeError::Setup {
                what,
                reason: with_cause(reason, &logged),
            }),
            (None, None) => Err(NativeError::WorkerLost { what }),
        }
    }
}

/// Waits until there is a reply, or none can come from `worker` any more; returns whether there is
/// one.
fn await_reply(control: BorrowedFd<'_>, worker: &OwnedFd) -> bool {
    let mut ends = [
        PollFd::new(&control, PollFlags::IN),
        PollFd::new(worker, PollFlags::IN),
    ];
    let ready = retry_on_intr(|| poll(&mut ends, None));
    ready.is_ok() && !ends[0].revents().is_empty()
}

/// Adds its cause to `reason`: the first logged error, from where it happened. Those that follow
/// are the same, logged by each caller.
fn with_cause(reason: String, logged: &[String]) -> String {
    match logged.first() {
        Some(cause) => format!("{reason}; first of all: {cause}"),
        None => reason,
    }
}
