//! The zygote's root: an empty file system in memory, in a mount namespace of its own.
//!
//! A guest's process gets a copy of that namespace. On a node with a hundred pods the host's has hundreds of mounts, and
//! each would have to be copied and let go again.

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};

use crate::error::{Failure, Step as _};
use crate::plan::{AttributeChange, Reach};
use crate::{detached, kernel};

/// A folder in the empty root, on which a guest's process mounts its own root.
pub(crate) const STEP: &str = "/root";

/// Moves the calling process into an empty root. Its descriptors stay as they are.
pub(super) fn enter_empty() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "make the zygote's mount namespace")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step(|| "make the zygote's mounts private")?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let root = detached::make("tmpfs", [("size", Some("64k"))], attributes).step(|| "make the zygote's root")?;
    rustix::fs::mkdirat(&root, STEP.trim_start_matches('/'), Mode::RWXU).step(|| format!("make {STEP} in the zygote's root"))?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(|| "mount the zygote's root")?;
    rustix::process::fchdir(&root).step(|| "enter the zygote's root")?;
    rustix::process::pivot_root(".", ".").step(|| "make the zygote's root the root")?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the host's root")?;
    rustix::process::chdir("/").step(|| "enter the zygote's root")?;
    kernel::set_mount_attributes(&root, AttributeChange { set: libc::MOUNT_ATTR_RDONLY, clear: 0 }, Reach::Single)
        .step(|| "make the zygote's root read-only")
}
