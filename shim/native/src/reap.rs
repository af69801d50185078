//! Reaping of the processes that a task forked beside the container's process, and killing of all
//! of them if the task failed.
//!
//! The host has no reaper that waits for any child: it would take exits from waits for a particular
//! process. So a worker leads a process group, in which libcontainer's intermediate process stays,
//! while the container's process leaves it. The worker leaves the group before its last reply and
//! is reaped last: until then its number, which is also the group's, cannot be reused.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard};

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::config::YoukiConfig;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::config;
use crate::task::Task;

/// The name that libcontainer gives to the process that it sets up, as the kernel shows it.
const SETUP_NAME: &str = "(youki:[2:INIT]) ";

/// Reaps the worker of a task that succeeded, and its group.
pub(crate) fn worker(worker: u32) {
    if let Some(worker) = pid_of(worker) {
        reap(worker);
    }
}

fn reap(worker: Pid) {
    while retry_on_intr(|| waitid(WaitId::Pgid(Some(worker)), WaitIdOptions::EXITED)).is_ok() {}
    // Reaped already if it died before it could leave its group.
    let _ = retry_on_intr(|| waitid(WaitId::Pid(worker), WaitIdOptions::EXITED));
}

/// Kills and reaps the worker of a task that failed, and all that it left. `control` is the inode
/// of the task's control socket.
pub(crate) fn failed_task(worker: u32, task: &Task, control: u64) {
    let Some(worker) = pid_of(worker) else {
        return;
    };
    // One of them may be missing: the worker may have left its group, and the group may be empty.
    let _ = kill_process_group(worker, Signal::KILL);
    let _ = kill_process(worker, Signal::KILL);
    kill_noted(task.pid_file());
    if let Task::Create {
        id,
        bundle,
        systemd,
        ..
    } = task
        && let Err(error) = kill_cgroup(id, bundle, *systemd)
    {
        tracing::warn!(
            container = id,
            error,
            "the cgroup of a container that could not be created is left"
        );
    }
    reap(worker);
    if let Err(error) = kill_unnoted(control) {
        tracing::warn!(%error, "a process that could not be set up may be left");
    }
}

/// Kills the process that the task made, if its worker was killed before it could note the number.
/// A child that is never reaped keeps its container's pid namespace, and so the container's first
/// process, from ending.
fn kill_unnoted(control: u64) -> io::Result<()> {
    let host = std::process::id();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // Not a process, or one that has ended by now.
        let Ok(stat) = fs::read_to_string(folder.join("stat")) else {
            continue;
        };
        let Some(pid) = child_in_setup(&stat, host).filter(|pid| !is_container(*pid)) else {
            continue;
        };
        if holds(&folder, control) != Some(false) {
            kill_child(pid);
        }
    }
    Ok(())
}

/// Returns the number of the process that a line of `/proc/<pid>/stat` describes, if it is a child
/// of `parent` that libcontainer is setting up: `pid (name) state parent …` (proc(5)).
fn child_in_setup(stat: &str, parent: u32) -> Option<Pid> {
    let (pid, rest) = stat.split_once(' ')?;
    let rest = rest.strip_prefix(SETUP_NAME)?;
    let of_parent = rest.split_whitespace().nth(1)?.parse() == Ok(parent);
    Pid::from_raw(pid.parse().ok()?).filter(|_| of_parent)
}

/// Returns whether the process `folder` holds the socket with the inode `socket`; none if it has
/// ended or is about to, which holds nothing.
fn holds(folder: &Path, socket: u64) -> Option<bool> {
    let mut held = fs::read_dir(folder.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .peekable();
    held.peek()?;
    let socket = format!("socket:[{socket}]");
    Some(held.any(|target| target.as_os_str() == socket.as_str()))
}

fn is_container(pid: Pid) -> bool {
    u32::try_from(pid.as_raw_pid()).is_ok_and(|pid| containers().contains(&pid))
}

/// Returns the first processes of this host's containers. One that waits for its start has the name
/// of one that is being set up.
pub(crate) fn containers() -> MutexGuard<'static, HashSet<u32>> {
    static CONTAINERS: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);
    failures::lock_ignoring_poison(&CONTAINERS)
}

/// Kills the process with the number that libcontainer noted in `pid_file`.
fn kill_noted(pid_file: &Path) {
    let noted = fs::read_to_string(pid_file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(pid) = noted.and_then(pid_of) {
        kill_child(pid);
    }
}

/// Kills and reaps `pid` if it is a child of this process that was not reaped; until then its
/// number is not reused.
fn kill_child(pid: Pid) {
    let looked = retry_on_intr(|| {
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
        )
    });
    if looked.is_err_and(|error| error == Errno::CHILD) {
        return;
    }
    let _ = kill_process(pid, Signal::KILL);
    let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
}

/// Kills every process in the cgroup of the container that `bundle` describes, and removes the
/// cgroup.
fn kill_cgroup(id: &str, bundle: &Path, systemd: bool) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let spec = config::read(bundle).map_err(|error| text(&error))?;
    let cgroup = YoukiConfig::from_spec(&spec, id)
        .map_err(|error| text(&error))?
        .cgroup_path;
    let cgroup = CgroupConfig {
        cgroup_path: cgroup,
        systemd_cgroup: systemd,
        container_name: id.to_owned(),
    };
    let manager = create_cgroup_manager(cgroup).map_err(|error| text(&error))?;
    // It fails if there is no cgroup: then no process is in it.
    for pid in manager.get_all_pids().unwrap_or_default() {
        if let Some(pid) = Pid::from_raw(pid.as_raw()) {
            kill_child(pid);
        }
    }
    manager.remove().map_err(|error| text(&error))
}

/// Returns `pid` in the form in which system calls take it; none for a number that no process has.
pub(crate) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Removes the folder `path` and everything in it. A missing folder is not an error.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_in_setup_is_recognized_by_its_name_and_parent() {
        assert_eq!(
            child_in_setup("12 (youki:[2:INIT]) Z 7 12 12", 7),
            Pid::from_raw(12)
        );
        assert_eq!(child_in_setup("12 (youki:[2:INIT]) S 8 12 12", 7), None);
        assert_eq!(child_in_setup("12 (native) S 7 12 12", 7), None);
        assert_eq!(child_in_setup("", 7), None);
    }

    #[test]
    fn process_that_holds_a_socket_is_recognized() {
        let (ours, _theirs) = crate::reply::control_socket().unwrap();
        let inode = rustix::fs::fstat(&ours).unwrap().st_ino;
        assert_eq!(holds(Path::new("/proc/self"), inode), Some(true));
        assert_eq!(holds(Path::new("/proc/self"), 1), Some(false));
        assert_eq!(holds(Path::new("/proc/no-such-process"), inode), None);
    }
}
