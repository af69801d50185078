//! Detection of dead runs, and removal of everything that bears a run's name: processes, mounts,
//! cgroups, folders.

use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

use super::{KEPT, LOCK, NAMESPACES, Places, Process, cgroups};
use crate::wait;

/// Timeout for the processes of a killed namespace to be gone.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Clears every run of a dead owner, and returns their names. The caller holds the lock of all
/// runs.
pub(super) fn dead_runs(places: &Places) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for name in places.names()? {
        if !is_alive(places, &name)? {
            clear(places, &name).with_context(|| format!("clean up after the dead run {name}"))?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Returns whether the run's process is alive, or the run was kept and one of its namespaces is
/// alive.
pub(super) fn is_alive(places: &Places, name: &str) -> Result<bool> {
    let folder = places.run(name);
    if try_lock(&folder.join(LOCK))?.is_none() {
        return Ok(true);
    }
    Ok(folder.join(KEPT).exists() && first_processes(&folder).iter().any(Process::is_alive))
}

/// Takes the lock at `path` unless another process holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file =
        File::create(path).with_context(|| format!("open the lock file {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("lock {}", path.display())),
    }
}

/// Removes everything that bears the name of this run.
pub(super) fn clear(places: &Places, name: &str) -> Result<()> {
    let (folder, disk) = (places.run(name), places.disk(name));
    let first_processes = first_processes(&folder);
    first_processes.iter().for_each(Process::kill);
    wait::until(
        format_args!("the processes of {name} to be gone"),
        EXIT_TIMEOUT,
        || Ok((!first_processes.iter().any(Process::is_alive)).then_some(())),
        || format!("first processes of its namespaces: {first_processes:?}"),
    )?;
    cgroups::remove(name)?;
    for folder in [&folder, &disk] {
        unmount_below(folder)?;
        match fs::remove_dir_all(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("remove {}", folder.display()));
            }
        }
    }
    // Succeeds only for the last of several runs; an empty parent folder on disk would be a
    // leftover too.
    let _ = fs::remove_dir(&places.disks);
    Ok(())
}

/// Returns the processes that the run with this folder has recorded.
pub(super) fn first_processes(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(folder.join(NAMESPACES)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Process::from_text(&fs::read_to_string(entry.path()).ok()?))
        .collect()
}

fn unmount_below(folder: &Path) -> Result<()> {
    let mut mounts = mounts_below(folder)?;
    mounts.reverse();
    for mount in &mounts {
        umount2(mount, MntFlags::MNT_DETACH)
            .with_context(|| format!("unmount {}", mount.display()))?;
    }
    // Removing a folder below a mount point would delete the mounted files.
    match mounts_below(folder)?.first() {
        None => Ok(()),
        Some(left) => bail!(
            "{} is still mounted, so {} is left alone",
            left.display(),
            folder.display()
        ),
    }
}

fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let points = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape);
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}

/// Decodes blanks and backslashes, which mountinfo writes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (b'\\', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_in_a_mount_point_is_decoded() {
        assert_eq!(unescape(r"/mnt/a\040b"), PathBuf::from("/mnt/a b"));
        assert_eq!(unescape("/mnt/plain"), PathBuf::from("/mnt/plain"));
    }
}
