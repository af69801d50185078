//! A helper that runs, and its end.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use process_forker::Child;
use process_forker::wire::MAX_REPLY;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup::HelperCgroup;
use crate::kernel::{self, Reaped};
use crate::outcome::{self, Evidence, Outcome};
use crate::protocol::{Message, Reply};
use crate::{Backend, CompileError, Limits};

/// How long a killed helper may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the rest of a reply of an ended helper may take. All of it is there.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// The most replies that a helper makes.
const MAX_REPLIES: usize = 2;
/// The most bytes of what it printed that are read: what a pipe holds.
const MAX_OUTPUT: u64 = 64 << 10;

/// Why a helper is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The deadline has passed: a failure of the module.
    Deadline,
    /// Its result is not needed any more: not a failure of the module.
    Cancelled,
}

/// A compilation that is under way. It is cancelled when this is dropped.
#[derive(Debug)]
pub struct Compiling {
    helper: Helper,
    output: OwnedFd,
    origin: String,
    backend: Backend,
    limits: Limits,
    deadline: Instant,
    stopped: Option<Stop>,
}

impl Compiling {
    pub(crate) fn new(
        helper: Helper,
        output: OwnedFd,
        origin: String,
        backend: Backend,
        limits: Limits,
        deadline: Instant,
    ) -> Self {
        Self {
            helper,
            output,
            origin,
            backend,
            limits,
            deadline,
            stopped: None,
        }
    }

    /// Returns the helper's number, for messages.
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Returns the pidfd, which is readable when the helper has ended.
    pub fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.helper.pidfd)
    }

    /// Returns when it is to be stopped.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Kills the helper; its pidfd is readable soon. One that had ended keeps its result.
    pub fn stop(&mut self, why: Stop) {
        self.stopped.get_or_insert(why);
        self.helper.kill();
    }

    /// Waits until the helper has ended, stops it at its deadline, and returns the outcome.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn wait(mut self) -> Result<Outcome, CompileError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !self.helper.ends_within(left) {
            self.stop(Stop::Deadline);
            self.helper.ends_within(KILL_TIMEOUT);
        }
        self.finish()
    }

    /// Reaps the helper, which has ended, removes its cgroup and returns the outcome. Blocks for a
    /// moment.
    ///
    /// # Errors
    /// If the node failed, or the helper has not ended.
    pub fn finish(self) -> Result<Outcome, CompileError> {
        let Self {
            mut helper,
            output,
            origin,
            backend,
            limits,
            deadline: _,
            stopped,
        } = self;
        let Reaped { end, cpu, peak } = helper.reap().map_err(CompileError::Wait)?;
        let evidence = Evidence {
            end,
            replies: helper.replies(),
            stopped,
            oom_killed: helper.cgroup().has_oom_kills(),
            cpu,
            peak: peak.max(helper.cgroup().peak()),
            output: printed(output),
        };
        outcome::interpret(&origin, backend, limits, evidence)
    }
}

/// The helper's process and its cgroup. Both go when this is dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    pid: u32,
    /// Shared, so that a host without free descriptors can wait for it too.
    pidfd: Arc<OwnedFd>,
    control: OwnedFd,
    state: State,
    cgroup: HelperCgroup,
}

/// Whether a process was reaped.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Child,
    Reaped,
}

impl Helper {
    pub(crate) fn new(child: Child, control: OwnedFd, cgroup: HelperCgroup) -> Self {
        let Child { pid, pidfd } = child;
        Self {
            pid,
            pidfd: Arc::new(pidfd),
            control,
            state: State::Child,
            cgroup,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(crate) fn cgroup(&self) -> &HelperCgroup {
        &self.cgroup
    }

    fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(pid = self.pid, %error, "the compile helper had ended");
        }
    }

    /// Waits until it has ended, at most for `longest`; returns whether it has.
    fn ends_within(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    fn reap(&mut self) -> io::Result<Reaped> {
        let reaped = kernel::reap(self.pidfd.as_fd())?;
        self.state = State::Reaped;
        Ok(reaped)
    }

    /// Reads the replies of a process that has ended.
    fn replies(&self) -> Vec<Reply> {
        let mut replies = Vec::new();
        if let Err(error) = set_socket_timeout(&self.control, Timeout::Recv, Some(REPLY_TIMEOUT)) {
            tracing::debug!(%error, "cannot limit the wait for the compile helper's reply");
            return replies;
        }
        while replies.len() < MAX_REPLIES {
            match Message::receive(&self.control, MAX_REPLY).and_then(Message::value) {
                Ok(reply) => replies.push(reply),
                // The end, or no message: the end of the process shows what happened.
                Err(_) => break,
            }
        }
        replies
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.state == State::Reaped {
            return;
        }
        self.kill();
        self.ends_within(KILL_TIMEOUT);
        if let Err(error) = self.reap() {
            tracing::warn!(pid = self.pid, %error, "a killed compile helper does not end");
        }
    }
}

/// Reads what an ended helper has printed.
fn printed(output: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = std::fs::File::from(output)
        .take(MAX_OUTPUT)
        .read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
