//! Ways into a cgroup.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Cgroup, Entrance};
use crate::hierarchies::Tree;
use crate::{CgroupError, files};

/// Joined by whole processes.
pub(crate) const PROCESSES: &str = "cgroup.procs";
/// Joined by single threads; cgroup v1 alone has it.
const TASKS: &str = "tasks";

pub(super) fn entrance(cgroup: &Cgroup) -> Result<Entrance, CgroupError> {
    if cgroup.place.scope.is_some() {
        return Ok(Entrance::Afterwards);
    }
    match cgroup.tree() {
        Tree::V1(_) => {
            let open =
                |folder: &std::path::PathBuf| files::open(&folder.join(TASKS)).map(OwnedFd::from);
            Ok(Entrance::Tasks(
                cgroup
                    .folders()
                    .iter()
                    .map(open)
                    .collect::<Result<_, _>>()?,
            ))
        }
        Tree::V2(root) => folder(&root.join(&cgroup.place.path)).map(Entrance::Folder),
    }
}

pub(super) fn add(cgroup: &Cgroup, process: u32) -> Result<(), CgroupError> {
    cgroup
        .folders()
        .iter()
        .try_for_each(|folder| enter(folder, process))
}

/// Puts a process into one hierarchy's part of a cgroup.
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
