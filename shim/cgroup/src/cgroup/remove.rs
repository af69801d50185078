//! Removing a cgroup.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::{Cgroup, processes};
use crate::wait::{self, Look};
use crate::{CgroupError, files};

/// How long the last processes have to end: they were killed, and the kernel frees what they used
/// first.
const LIMIT: Duration = Duration::from_secs(10);

/// Removes every folder. One that cannot be removed does not keep the others.
pub(super) fn folders(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut first_failure = Ok(());
    for folder in cgroup.folders() {
        let removed = wait::until(LIMIT, &folder, "empty", || tree(&folder));
        first_failure = first_failure.and(removed);
    }
    first_failure
}

/// Removes a cgroup and those below it, if nobody is in them.
fn tree(folder: &Path) -> Result<Look<()>, CgroupError> {
    // The whole in one call if there is nothing below, as nearly always.
    match remove(folder)? {
        Look::NotYet(_) => {}
        done @ Look::Done(()) => return Ok(done),
    }
    for below in files::folders(folder)? {
        if let not_yet @ Look::NotYet(_) = tree(&below)? {
            return Ok(not_yet);
        }
    }
    remove(folder)
}

fn remove(folder: &Path) -> Result<Look<()>, CgroupError> {
    let Err(error) = fs::remove_dir(folder) else {
        return Ok(Look::Done(()));
    };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NODEV) => Ok(Look::Done(())),
        // Processes, or cgroups below, which a folder on a disk calls "not empty".
        Some(Errno::BUSY | Errno::NOTEMPTY) => Ok(Look::NotYet(format!(
            "processes {}",
            processes::described(&processes::below(folder)?)
        ))),
        _ => Err(CgroupError::io("remove", folder)(error)),
    }
}
