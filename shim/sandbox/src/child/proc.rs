//! `/proc` for a Linux program beside a guest: mounted where the program sees it and the guest does not.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::root;
use super::target::{self, Kind};
use crate::error::{Failure, Step as _};
use crate::plan::{PROC, Proc, Propagation, PropagationKind, Reach};
use crate::{detached, kernel};

/// Copies the container's mounts into a namespace of this process's own, and mounts `/proc` there. A root that is
/// read-only and has no such folder gets none.
pub(super) fn show(proc: &Proc) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "copy the container's mounts")?;
    // What is mounted on the node goes on to appear in volumes; nothing from here appears in the container.
    let step = || "keep mounts from the container";
    let top = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(step)?;
    kernel::set_mount_propagation(&top, Propagation { kind: PropagationKind::Slave, reach: Reach::Recursive }).step(step)?;
    let place = match target::make(Path::new(PROC), Kind::Folder) {
        Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => return Ok(()),
        place => place.step(|| "make /proc")?,
    };
    let step = || "mount /proc";
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let tree = detached::make("proc", [], attributes).step(step)?;
    move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(step)?;
    root::mask(&proc.masked)?;
    root::make_read_only(&proc.readonly)
}
