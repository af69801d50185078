//! Ways for a process to join a cgroup.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Cgroup, JoinMethod};
use crate::hierarchies::Tree;
use crate::{CgroupError, files};

/// Moves whole processes.
pub(crate) const PROCESSES: &str = "cgroup.procs";
/// Moves single threads; cgroup v1 only.
const TASKS: &str = "tasks";

pub(super) fn join_method(cgroup: &Cgroup) -> Result<JoinMethod, CgroupError> {
    if cgroup.location.scope.is_some() {
        return Ok(JoinMethod::Scope);
    }
    match cgroup.tree() {
        Tree::V1(_) => {
            let open =
                |folder: &std::path::PathBuf| files::open(&folder.join(TASKS)).map(OwnedFd::from);
            Ok(JoinMethod::Tasks(
                cgroup
                    .folders()
                    .iter()
                    .map(open)
                    .collect::<Result<_, _>>()?,
            ))
        }
        Tree::V2(root) => folder(&root.join(&cgroup.location.path)).map(JoinMethod::Folder),
    }
}

pub(super) fn add(cgroup: &Cgroup, process: u32) -> Result<(), CgroupError> {
    cgroup
        .folders()
        .iter()
        .try_for_each(|folder| enter(folder, process))
}

/// Moves a process into a cgroup of one hierarchy.
pub(crate) fn enter(folder: &Path, process: u32) -> Result<(), CgroupError> {
    files::write(
        &folder.join(PROCESSES),
        &process.to_string(),
        "the container's process",
    )
}

fn folder(path: &Path) -> Result<OwnedFd, CgroupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| CgroupError::io("open", path)(errno.into()))
}
