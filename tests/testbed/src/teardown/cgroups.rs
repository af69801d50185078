//! The cgroups that bear a run's name, in every hierarchy of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Timeout for the kernel to release a cgroup of killed processes.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills the processes in the cgroups of the run `name` and removes the cgroups.
///
/// # Errors
/// Fails if one cannot be removed in time.
pub(super) fn remove(name: &str) -> Result<()> {
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for hierarchy in hierarchies(&mountinfo) {
        let Ok(entries) = fs::read_dir(&hierarchy) else {
            continue;
        };
        for entry in entries.flatten() {
            if belongs_to_run(&entry.file_name().to_string_lossy(), name) && entry.path().is_dir() {
                remove_tree(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Returns the mount points of cgroup hierarchies of either version.
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let is_cgroup = |line: &&str| {
        line.split_once(" - ")
            .is_some_and(|(_, rest)| rest.starts_with("cgroup"))
    };
    mountinfo
        .lines()
        .filter(is_cgroup)
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

/// Returns whether a cgroup's name is `name`, or `name` with a suffix that does not make it another
/// run's name.
fn belongs_to_run(cgroup: &str, name: &str) -> bool {
    cgroup
        .strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'))
}

fn remove_tree(root: &Path) -> Result<()> {
    wait::until(
        format_args!("cgroup {} to be empty", root.display()),
        REMOVE_TIMEOUT,
        || {
            // Children were listed after their parents, so the reverse order removes the deepest
            // first.
            let tree = list(root);
            for folder in &tree {
                kill_all(folder);
            }
            for folder in tree.iter().rev() {
                match nix::unistd::unlinkat(
                    nix::fcntl::AT_FDCWD,
                    folder,
                    nix::unistd::UnlinkatFlags::RemoveDir,
                ) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(Errno::EBUSY) => return Ok(None),
                    Err(errno) => {
                        return Err(errno)
                            .with_context(|| format!("remove the cgroup {}", folder.display()));
                    }
                }
            }
            Ok(Some(()))
        },
        || {
            format!(
                "processes in it: {:?}",
                list(root)
                    .iter()
                    .flat_map(|folder| processes(folder))
                    .collect::<Vec<_>>()
            )
        },
    )
}

fn list(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    found
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 1)
        .collect()
}

fn kill_all(cgroup: &Path) {
    for pid in processes(cgroup) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_run_name_is_another_run() {
        assert!(belongs_to_run("wr-node-12", "wr-node-12"));
        assert!(belongs_to_run("wr-node-12.slice", "wr-node-12"));
        assert!(!belongs_to_run("wr-node-123", "wr-node-12"));
        assert!(!belongs_to_run("wr-node-12-1", "wr-node-12"));
    }

    #[test]
    fn cgroup_hierarchies_of_both_versions_are_found() {
        let mountinfo = "30 20 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 20 0:26 / \
                         /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
                         32 20 0:27 / /proc rw - proc proc rw\n";
        assert_eq!(
            hierarchies(mountinfo),
            [
                PathBuf::from("/sys/fs/cgroup/cpu"),
                PathBuf::from("/sys/fs/cgroup/unified")
            ]
        );
    }
}
