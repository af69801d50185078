//! The end of a process that is of no use: killed, and waited for. Nothing here waits without a
//! bound: a process that is frozen on cgroup v1, or waits for a file system in the kernel, outlives
//! SIGKILL.

use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process_group,
    pidfd_send_signal, waitid, waitpgid,
};

use process_forker::Child as Newborn;

/// How long a killed process is waited for at once.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a process that ends by itself is waited for: its next step is its last.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between looks at a group, of which no descriptor is at hand.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Processes that were killed and had not ended in time. Whoever kills the next one looks after
/// them.
static LINGERING: Mutex<Vec<Newborn>> = Mutex::new(Vec::new());

/// A process that is not ready: it is killed and waited for, unless it becomes so.
#[derive(Debug)]
pub(super) struct Unready {
    newborn: Option<Newborn>,
    kin: Kin,
}

/// What is killed with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kin {
    Nothing,
    /// What it has forked and not reported, in the group that it began: this process is the parent
    /// of that too.
    Group,
}

impl Unready {
    pub(super) fn new(newborn: Newborn) -> Self {
        Self {
            newborn: Some(newborn),
            kin: Kin::Nothing,
        }
    }

    /// It forks another one.
    pub(super) fn with_group(self) -> Self {
        let mut this = self;
        this.kin = Kin::Group;
        this
    }

    pub(super) fn pid(&self) -> u32 {
        self.newborn
            .as_ref()
            .expect("it is taken out only when this is given up")
            .pid
    }

    pub(super) fn into_ready(mut self) -> Newborn {
        self.take()
    }

    /// Leaves a process alone that is about to end by itself, and waits for that for a moment. The
    /// end of one that takes longer is collected by a later call.
    pub(super) fn leave(mut self) {
        let newborn = self.take();
        wait_for(&newborn, LEAVE_TIMEOUT);
        sweep(Some(newborn));
    }

    /// Kills it, unless it ends by itself within `grace`: how it ended, if it has.
    pub(super) fn end(mut self, grace: Duration) -> Option<String> {
        let newborn = self.take();
        wait_for(&newborn, grace);
        kill(newborn, self.kin)
    }

    /// Whether SIGKILL has ended it, or does within `timeout`. It is not reaped.
    pub(super) fn was_killed(&self, timeout: Duration) -> bool {
        let Some(newborn) = &self.newborn else {
            return false;
        };
        wait_for(newborn, timeout);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(newborn.pidfd.as_fd()), options));
        status
            .ok()
            .flatten()
            .and_then(|status| status.terminating_signal())
            == Some(Signal::KILL.as_raw())
    }

    fn take(&mut self) -> Newborn {
        self.newborn
            .take()
            .expect("it is taken out only when this is given up")
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(newborn) = self.newborn.take() {
            kill(newborn, self.kin);
        }
    }
}

/// Kills a process that has not ended by itself, and waits for its end: what it was.
fn kill(newborn: Newborn, kin: Kin) -> Option<String> {
    if kin == Kin::Group
        && let Some(how) = kill_group(&newborn)
    {
        return Some(how);
    }
    if let Some(status) = reap(&newborn) {
        return describe(status.terminating_signal(), status.exit_status());
    }
    if let Err(error) = pidfd_send_signal(&newborn.pidfd, Signal::KILL) {
        tracing::debug!(pid = newborn.pid, %error, "the process had ended");
    }
    wait_for(&newborn, KILL_TIMEOUT);
    let status = reap(&newborn);
    if status.is_none() {
        tracing::warn!(
            pid = newborn.pid,
            "a killed process does not end: is it frozen, or does it wait for a file system?"
        );
    }
    sweep(status.is_none().then_some(newborn));
    status.and_then(|status| describe(status.terminating_signal(), status.exit_status()))
}

/// Kills the group that a process began, and waits for all of it: how the process itself ended.
/// None if it began none yet, or does not end.
fn kill_group(newborn: &Newborn) -> Option<String> {
    let group = i32::try_from(newborn.pid).ok().and_then(Pid::from_raw)?;
    // The number is the group's: the process was not waited for.
    kill_process_group(group, Signal::KILL).ok()?;
    let (began, mut how) = (Instant::now(), None);
    while began.elapsed() < KILL_TIMEOUT {
        match rustix::io::retry_on_intr(|| waitpgid(group, WaitOptions::NOHANG)) {
            Ok(Some((pid, status))) if pid == group => {
                how = describe(status.terminating_signal(), status.exit_status());
            }
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(LOOK_INTERVAL),
            Err(_) => break,
        }
    }
    how
}

/// Waits until a process has ended, at most so long.
fn wait_for(newborn: &Newborn, longest: Duration) {
    let longest = Timespec {
        tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: longest.subsec_nanos().into(),
    };
    if let Err(error) = poll(
        &mut [PollFd::new(&newborn.pidfd, PollFlags::IN)],
        Some(&longest),
    ) {
        tracing::debug!(pid = newborn.pid, %error, "the end of a process could not be waited for");
    }
}

/// How a process ended; none while it has not, or when somebody else has waited for it.
fn reap(newborn: &Newborn) -> Option<WaitIdStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(newborn.pidfd.as_fd()), options))
        .ok()
        .flatten()
}

/// Waits for those that have ended meanwhile.
fn sweep(one_more: Option<Newborn>) {
    let mut lingering = LINGERING.lock().unwrap_or_else(PoisonError::into_inner);
    lingering.extend(one_more);
    lingering.retain(|newborn| reap(newborn).is_none());
}

fn describe(signal: Option<i32>, code: Option<i32>) -> Option<String> {
    let signal = signal.map(|signal| format!("it was ended by signal {signal}"));
    signal.or_else(|| code.map(|code| format!("it ended with code {code}")))
}
