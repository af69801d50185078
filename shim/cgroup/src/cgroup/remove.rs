//! Removal of a cgroup.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::{Cgroup, processes};
use crate::wait::{self, Probe};
use crate::{CgroupError, files};

/// How long exiting processes may take: they were killed, and the kernel first frees what they
/// used.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes every folder, even if one of them cannot be removed.
pub(super) fn folders(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut first_failure = Ok(());
    for folder in cgroup.folders() {
        let removed = wait::until(REMOVE_TIMEOUT, &folder, "empty", || tree(&folder));
        first_failure = first_failure.and(removed);
    }
    first_failure
}

/// Removes a cgroup and those below it, if they have no processes.
fn tree(folder: &Path) -> Result<Probe<()>, CgroupError> {
    // One call is enough if there is nothing below, which is nearly always so.
    match remove(folder)? {
        Probe::NotYet(_) => {}
        done @ Probe::Done(()) => return Ok(done),
    }
    for below in files::folders(folder)? {
        if let not_yet @ Probe::NotYet(_) = tree(&below)? {
            return Ok(not_yet);
        }
    }
    remove(folder)
}

fn remove(folder: &Path) -> Result<Probe<()>, CgroupError> {
    let Err(error) = fs::remove_dir(folder) else {
        return Ok(Probe::Done(()));
    };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NODEV) => Ok(Probe::Done(())),
        // Processes or cgroups below; a folder on a disk returns "not empty".
        Some(Errno::BUSY | Errno::NOTEMPTY) => Ok(Probe::NotYet(format!(
            "processes {}",
            processes::described(&processes::below(folder)?)
        ))),
        _ => Err(CgroupError::io("remove", folder)(error)),
    }
}
