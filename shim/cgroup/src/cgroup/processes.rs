//! The processes in a cgroup, and signals to them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, freezer};
use crate::hierarchies::Tree;
use crate::wait::{self, Probe};
use crate::{CgroupError, files};

const PROCESSES: &str = "cgroup.procs";
/// cgroup v2, Linux 5.14: kills all processes in the cgroup, including those that are being forked.
const KILL: &str = "cgroup.kill";
/// How long to kill processes that are forked while the others are killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn all(cgroup: &Cgroup) -> Result<Vec<u32>, CgroupError> {
    below(&cgroup.main_folder())
}

/// Lists the processes in a cgroup and below it.
pub(crate) fn below(folder: &Path) -> Result<Vec<u32>, CgroupError> {
    let mut found = BTreeSet::<u32>::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(files::folders(&folder)?);
        let listed = files::read_if_there(&folder.join(PROCESSES))?.unwrap_or_default();
        // 0 is a process outside the caller's pid namespace.
        found.extend(
            listed
                .lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|process| *process != 0),
        );
    }
    Ok(found.into_iter().collect())
}

pub(super) fn kill(cgroup: &Cgroup, number: u32) -> Result<(), CgroupError> {
    let signal = signal(number).ok_or(CgroupError::NoSuchSignal(number))?;
    if signal != Signal::KILL {
        return all(cgroup)?
            .into_iter()
            .try_for_each(|process| send(process, signal, number));
    }
    if let Tree::V2(_) = cgroup.tree() {
        let file = cgroup.main_folder().join(KILL);
        if file.exists() {
            return match files::write(&file, "1", "killing the container") {
                Err(error) if error.is_gone() => Ok(()),
                written => written,
            };
        }
    }
    kill_all(cgroup)?;
    // On cgroup v1 a frozen process dies only when it is thawed.
    match freezer::thaw_if_frozen(cgroup) {
        Err(error) if error.is_gone() => Ok(()),
        thawed => thawed,
    }
}

/// Sends SIGKILL until the cgroup has no process that was not sent it.
fn kill_all(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut killed = BTreeSet::<u32>::new();
    wait::until(KILL_TIMEOUT, &cgroup.main_folder(), "killed", || {
        let new: Vec<u32> = all(cgroup)?
            .into_iter()
            .filter(|process| !killed.contains(process))
            .collect();
        for process in &new {
            send(*process, Signal::KILL, Signal::KILL.as_raw().unsigned_abs())?;
        }
        killed.extend(&new);
        Ok(if new.is_empty() {
            Probe::Done(())
        } else {
            Probe::NotYet(format!(
                "new processes {new:?} after {} killed ones",
                killed.len()
            ))
        })
    })
}

/// Sends a signal; a process that has exited is not an error.
fn send(process: u32, signal: Signal, number: u32) -> Result<(), CgroupError> {
    let failed = |source: io::Error| CgroupError::Signal {
        signal: number,
        process,
        source,
    };
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return Err(failed(Errno::INVAL.into()));
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Returns the signal of a number, including real-time ones. None if there is no such signal, or
/// the C library reserves it.
pub fn signal(number: u32) -> Option<Signal> {
    let number = i32::try_from(number).ok()?;
    Signal::from_named_raw(number)
        .or_else(|| REAL_TIME.contains(&number).then(|| real_time(number)))
}

/// The real-time signals that no C library reserves: glibc reserves 32 and 33, musl 34 too.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// Returns a signal of [`REAL_TIME`], such as the `SIGRTMIN+3` that stops a systemd in a container.
#[expect(
    unsafe_code,
    reason = "the safe constructor knows no real-time signals"
)]
fn real_time(number: i32) -> Signal {
    // SAFETY: the number is a signal, and not one that a C library relies on in its own process;
    // besides, it is only sent to other processes and never handled here.
    unsafe { Signal::from_raw_unchecked(number) }
}

/// Describes processes and their states for an error message: `12 (sh) D`.
pub(super) fn described(processes: &[u32]) -> String {
    let describe = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let end = status.rfind(") ").map_or(0, |end| end + 3);
        status
            .get(..end)
            .filter(|text| !text.is_empty())
            .map_or_else(|| format!("{process} (gone)"), str::to_owned)
    };
    processes
        .iter()
        .map(describe)
        .collect::<Vec<_>>()
        .join(", ")
}
