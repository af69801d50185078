//! Killing and reaping of a process that does not become ready. Every wait has a timeout: a process
//! that is frozen on cgroup v1, or waits for a file system in the kernel, outlives SIGKILL.

use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process_group,
    pidfd_send_signal, waitid, waitpgid,
};

use process_forker::Child;

/// How long a killed process is waited for at first.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a process that ends by itself is waited for: its next step is its last.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which a group is polled, which has no descriptor.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Processes that were killed and did not end in time. They are reaped when the next one is killed.
static LINGERING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A child that is killed and reaped when this is dropped, unless it becomes ready.
#[derive(Debug)]
pub(super) struct ChildGuard {
    child: Option<Child>,
    scope: KillScope,
}

/// The processes that are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KillScope {
    Process,
    /// Also those in its group, which it forked and did not report: this process is their parent
    /// too.
    Group,
}

impl ChildGuard {
    pub(super) fn new(child: Child) -> Self {
        Self {
            child: Some(child),
            scope: KillScope::Process,
        }
    }

    /// Marks that it forks another one.
    pub(super) fn with_group(self) -> Self {
        let mut this = self;
        this.scope = KillScope::Group;
        this
    }

    pub(super) fn pid(&self) -> u32 {
        self.child
            .as_ref()
            .expect("it is taken out only when this is given up")
            .pid
    }

    pub(super) fn into_ready(mut self) -> Child {
        self.take()
    }

    /// Waits a moment for a process that is about to end by itself. One that takes longer is reaped
    /// by a later call.
    pub(super) fn leave(mut self) {
        let child = self.take();
        wait_for(&child, LEAVE_TIMEOUT);
        sweep(Some(child));
    }

    /// Kills it, unless it ends by itself within `grace`; returns how it ended, if it has.
    pub(super) fn end(mut self, grace: Duration) -> Option<String> {
        let child = self.take();
        wait_for(&child, grace);
        kill(child, self.scope)
    }

    /// Whether SIGKILL has ended it, or does within `timeout`. It is not reaped.
    pub(super) fn was_killed(&self, timeout: Duration) -> bool {
        let Some(child) = &self.child else {
            return false;
        };
        wait_for(child, timeout);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), options));
        status
            .ok()
            .flatten()
            .and_then(|status| status.terminating_signal())
            == Some(Signal::KILL.as_raw())
    }

    fn take(&mut self) -> Child {
        self.child
            .take()
            .expect("it is taken out only when this is given up")
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill(child, self.scope);
        }
    }
}

/// Kills a process that has not ended by itself, waits for its end and returns how it ended.
fn kill(child: Child, scope: KillScope) -> Option<String> {
    if scope == KillScope::Group
        && let Some(how) = kill_group(&child)
    {
        return Some(how);
    }
    if let Some(status) = reap(&child) {
        return describe(status.terminating_signal(), status.exit_status());
    }
    if let Err(error) = pidfd_send_signal(&child.pidfd, Signal::KILL) {
        tracing::debug!(pid = child.pid, %error, "the process had ended");
    }
    wait_for(&child, KILL_TIMEOUT);
    let status = reap(&child);
    if status.is_none() {
        tracing::warn!(
            pid = child.pid,
            "a killed process does not end: is it frozen, or does it wait for a file system?"
        );
    }
    sweep(status.is_none().then_some(child));
    status.and_then(|status| describe(status.terminating_signal(), status.exit_status()))
}

/// Kills the group that a process began, reaps all of it, and returns how the process itself ended;
/// none if it has begun no group yet, or does not end.
fn kill_group(child: &Child) -> Option<String> {
    let group = i32::try_from(child.pid).ok().and_then(Pid::from_raw)?;
    // The number is the group's: the process was not waited for.
    kill_process_group(group, Signal::KILL).ok()?;
    let (began, mut how) = (Instant::now(), None);
    while began.elapsed() < KILL_TIMEOUT {
        match rustix::io::retry_on_intr(|| waitpgid(group, WaitOptions::NOHANG)) {
            Ok(Some((pid, status))) if pid == group => {
                how = describe(status.terminating_signal(), status.exit_status());
            }
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(POLL_INTERVAL),
            Err(_) => break,
        }
    }
    how
}

/// Waits until a process has ended, or for `longest`.
fn wait_for(child: &Child, longest: Duration) {
    let longest = Timespec {
        tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: longest.subsec_nanos().into(),
    };
    if let Err(error) = poll(
        &mut [PollFd::new(&child.pidfd, PollFlags::IN)],
        Some(&longest),
    ) {
        tracing::debug!(pid = child.pid, %error, "the end of a process could not be waited for");
    }
}

/// Reaps a process and returns how it ended; none while it has not, or if it was reaped elsewhere.
fn reap(child: &Child) -> Option<WaitIdStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), options))
        .ok()
        .flatten()
}

/// Reaps the lingering processes that have ended meanwhile.
fn sweep(one_more: Option<Child>) {
    let mut lingering = failures::lock_ignoring_poison(&LINGERING);
    lingering.extend(one_more);
    lingering.retain(|child| reap(child).is_none());
}

fn describe(signal: Option<i32>, code: Option<i32>) -> Option<String> {
    let signal = signal.map(|signal| format!("it was ended by signal {signal}"));
    signal.or_else(|| code.map(|code| format!("it ended with code {code}")))
}
