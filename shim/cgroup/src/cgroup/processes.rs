//! The processes in a cgroup, and signals to all of them.

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
use crate::wait::{self, Look};
use crate::{CgroupError, files};

const PROCESSES: &str = "cgroup.procs";
/// cgroup v2, Linux 5.14: kills what is in the cgroup, also what is being forked.
const KILL: &str = "cgroup.kill";
/// How long new processes are followed that are forked while all are killed.
const FORKING: Duration = Duration::from_secs(5);

pub(super) fn all(cgroup: &Cgroup) -> Result<Vec<u32>, CgroupError> {
    below(&cgroup.main_folder())
}

/// The processes in a cgroup and below it.
pub(crate) fn below(folder: &Path) -> Result<Vec<u32>, CgroupError> {
    let mut found = BTreeSet::<u32>::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(files::folders(&folder)?);
        let listed = files::read_if_there(&folder.join(PROCESSES))?.unwrap_or_default();
        // 0 is a process that the caller's pid namespace does not number.
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
            return match files::write(&file, "1", "the container's end") {
                Err(error) if error.is_gone() => Ok(()),
                written => written,
            };
        }
    }
    kill_all(cgroup)?;
    // On cgroup v1 a frozen process dies when it goes on.
    match freezer::thaw_if_frozen(cgroup) {
        Err(error) if error.is_gone() => Ok(()),
        thawed => thawed,
    }
}

/// Kills until nobody is there who was not killed.
fn kill_all(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut killed = BTreeSet::<u32>::new();
    wait::until(FORKING, &cgroup.main_folder(), "killed", || {
        let new: Vec<u32> = all(cgroup)?
            .into_iter()
            .filter(|process| !killed.contains(process))
            .collect();
        for process in &new {
            send(*process, Signal::KILL, Signal::KILL.as_raw().unsigned_abs())?;
        }
        killed.extend(&new);
        Ok(if new.is_empty() {
            Look::Done(())
        } else {
            Look::NotYet(format!(
                "new processes {new:?} after {} killed ones",
                killed.len()
            ))
        })
    })
}

/// Sends a signal; whoever is gone needs none.
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

/// The signal of a number, real-time ones among them. None where there is no such signal, or it is
/// the C library's own.
pub fn signal(number: u32) -> Option<Signal> {
    let number = i32::try_from(number).ok()?;
    Signal::from_named_raw(number)
        .or_else(|| REAL_TIME.contains(&number).then(|| real_time(number)))
}

/// The real-time signals that neither C library keeps for itself: glibc has 32 and 33, musl 34 too.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// A signal of [`REAL_TIME`], such as the `SIGRTMIN+3` that stops a systemd in a container.
#[expect(
    unsafe_code,
    reason = "the safe constructor knows no real-time signals"
)]
fn real_time(number: i32) -> Signal {
    // SAFETY: the number is a signal, and not one that a C library relies on in its own process;
    // besides, it is sent to others alone and never handled here.
    unsafe { Signal::from_raw_unchecked(number) }
}

/// What processes are doing, for an error message: `12 (sh) D`.
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
