//! A dead container's cgroups: their processes are killed, then they are removed. For version 1,
//! where a container has a folder in each hierarchy, and for version 2, where it has one.

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

/// How long killed processes may take to end: longer than any process needs that can be killed.
const LIMIT: Duration = Duration::from_secs(5);
/// Between attempts to remove a cgroup whose last process ended a moment ago: the kernel lets go of
/// it a little later, and tells nobody on version 1.
const PAUSE: Duration = Duration::from_millis(1);

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
            // A parent follows those below it.
            below(cgroup, &mut left)?;
        }
        kill(&left, LIMIT.saturating_sub(started.elapsed()))?;
        let Some(busy) = try_remove(&left)? else {
            return Ok(());
        };
        if started.elapsed() > LIMIT {
            let file = busy.join("cgroup.procs");
            let pids = fs::read_to_string(&file).unwrap_or_default();
            bail!(
                "processes {:?} in {} did not end within {} s of being killed",
                pids.trim(),
                busy.display(),
                LIMIT.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
}

fn is_cgroup(folder: &Path) -> bool {
    folder.join("cgroup.procs").exists()
}

/// Whether a hierarchy is mounted right there: then processes of the whole node are in it.
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

/// Adds the cgroups below `cgroup`, then itself. A container may have made some.
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

/// Kills what is in the cgroups, and waits until it has ended, `limit` at most.
fn kill(cgroups: &[PathBuf], limit: Duration) -> Result<()> {
    for cgroup in cgroups {
        // A stopped process of version 1 does not even die. On version 2, one write kills all at
        // once, also those of other pid namespaces, which have no number here; it came with Linux
        // 5.14.
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
    // Between reading and opening, a process may have ended and another one got its number: only
    // who is still listed is one of ours.
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
    await_end(&ours, Instant::now() + limit)
}

/// The processes in these cgroups. Never this one: it would not live to tell.
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

fn await_end(processes: &[OwnedFd], deadline: Instant) -> Result<()> {
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("count seconds")?;
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left))
            .context("wait for the end of a killed process")?;
    }
    Ok(())
}

/// Removes the cgroups, which stand with those below before them; returns one that is still in use.
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

/// `None` for what is gone: ENODEV is what a file of a removed cgroup says that was opened before.
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
