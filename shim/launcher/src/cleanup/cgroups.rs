//! Removal of a dead container's cgroups after killing their processes. On version 1 a container
//! has a folder in each hierarchy, on version 2 it has one.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// How long killed processes may take to exit: longer than any process that can be killed needs.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval between attempts to remove a cgroup after its last process exited: the kernel
/// releases it a little later, without a notification on version 1.
const REMOVE_INTERVAL: Duration = Duration::from_millis(1);

/// Kills every process in these cgroups and in those below, and removes all of them.
pub(super) fn remove(cgroups: &[PathBuf]) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut left = Vec::new();
        for cgroup in cgroups.iter().filter(|cgroup| is_cgroup(cgroup)) {
            ensure!(
                !is_root(cgroup),
                "the record names {}, which is the root of a hierarchy",
                cgroup.display()
            );
            // A parent comes after its children.
            below(cgroup, &mut left)?;
        }
        kill(&left, EXIT_TIMEOUT.saturating_sub(started.elapsed()))?;
        let Some(busy) = try_remove(&left)? else {
            return Ok(());
        };
        if started.elapsed() > EXIT_TIMEOUT {
            let file = busy.join("cgroup.procs");
            let pids = fs::read_to_string(&file).unwrap_or_default();
            bail!(
                "processes {:?} in {} did not end within {} s of being killed",
                pids.trim(),
                busy.display(),
                EXIT_TIMEOUT.as_secs()
            );
        }
        std::thread::sleep(REMOVE_INTERVAL);
    }
}

fn is_cgroup(folder: &Path) -> bool {
    folder.join("cgroup.procs").exists()
}

/// Returns whether the cgroup is the root of a hierarchy, which holds processes of the whole node.
fn is_root(cgroup: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev());
    match (
        device(cgroup),
        device(cgroup.parent().unwrap_or(Path::new("/"))),
    ) {
        (Ok(own), Ok(parents)) => own != parents,
        // Another launcher has just removed it.
        _ => false,
    }
}

/// Adds the cgroups below `cgroup`, then itself. A container may have created some.
fn below(cgroup: &Path, all: &mut Vec<PathBuf>) -> Result<()> {
    let Some(entries) =
        if_there(fs::read_dir(cgroup)).with_context(|| format!("list {}", cgroup.display()))?
    else {
        return Ok(());
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        below(&entry.path(), all)?;
    }
    all.push(cgroup.to_owned());
    Ok(())
}

/// Kills all processes in the cgroups, and waits until they have exited, at most for `timeout`.
fn kill(cgroups: &[PathBuf], timeout: Duration) -> Result<()> {
    for cgroup in cgroups {
        // A frozen process of version 1 does not die. On version 2 one write kills all at once,
        // including those of other pid namespaces, which have no number here; it needs Linux 5.14.
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.kill", "1")] {
            let file = cgroup.join(file);
            if file.exists() {
                if_there(fs::write(&file, word))
                    .with_context(|| format!("write {word} to {}", file.display()))?;
            }
        }
    }
    let mut opened = Vec::new();
    for pid in processes(cgroups)? {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => opened.push((pid, pidfd)),
            Err(Errno::SRCH) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("open process {}", pid.as_raw_nonzero()));
            }
        }
    }
    // Between reading and opening, a process may have exited and its number been reused: only
    // processes that are still listed belong to the container.
    let still = processes(cgroups)?;
    let ours: Vec<OwnedFd> = opened
        .into_iter()
        .filter(|(pid, _)| still.contains(pid))
        .map(|(_, pidfd)| pidfd)
        .collect();
    for pidfd in &ours {
        match pidfd_send_signal(pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("kill a process of the container"),
        }
    }
    await_exit(&ours, Instant::now() + timeout)
}

/// Returns the processes in these cgroups without this one, which must not kill itself.
fn processes(cgroups: &[PathBuf]) -> Result<HashSet<Pid>> {
    let mut pids = HashSet::new();
    for cgroup in cgroups {
        let file = cgroup.join("cgroup.procs");
        let text = if_there(fs::read_to_string(&file))
            .with_context(|| format!("read {}", file.display()))?
            .unwrap_or_default();
        pids.extend(
            text.lines()
                .filter_map(|line| Pid::from_raw(line.parse().ok()?)),
        );
    }
    pids.remove(&getpid());
    Ok(pids)
}

fn await_exit(processes: &[OwnedFd], deadline: Instant) -> Result<()> {
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("convert the timeout")?;
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left))
            .context("wait for a killed process to exit")?;
    }
    Ok(())
}

/// Removes the cgroups, children before parents; returns one that is still in use.
fn try_remove(cgroups: &[PathBuf]) -> Result<Option<&Path>> {
    for cgroup in cgroups {
        match if_there(fs::remove_dir(cgroup)) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(Some(cgroup)),
            result => {
                result.with_context(|| format!("remove the cgroup {}", cgroup.display()))?;
            }
        }
    }
    Ok(None)
}

/// Turns "not found" into `None`: files of a removed cgroup that are still open return ENODEV.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
