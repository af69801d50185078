//! The root of a guests' zygote: an empty file system in memory, in a mount namespace of its own.
//!
//! A guest's process gets a copy of that namespace. On a node with a hundred pods the host's has
//! hundreds of mounts, each of which would have to be copied and released again.

use nix::sched::{CloneFlags, unshare};
use process_forker::null;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};

use crate::error::{Failure, Step as _};
use crate::plan::{AttributeChange, Reach};
use crate::{detached, kernel};

/// A folder in the empty root, on which a guest's process mounts its own root.
pub(crate) const MOUNT_POINT: &str = "/root";
/// The node's null device in the empty root: processes that exec starts hide files behind a clone
/// of it. That of the container's `/dev` could be anything, since guests can replace it.
pub(crate) const NULL_DEVICE: &str = "/null";

/// Moves the calling process, which is to fork guests, into an empty root. Its descriptors stay as
/// they are. Part of the preparation of a zygote.
///
/// # Errors
/// When a step fails.
pub fn enter_empty_root() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "make the zygote's mount namespace")?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .step(|| "make the zygote's mounts private")?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let root = detached::make("tmpfs", [("size", Some("64k"))], attributes)
        .step(|| "make the zygote's root")?;
    rustix::fs::mkdirat(&root, MOUNT_POINT.trim_start_matches('/'), Mode::RWXU)
        .step(|| format!("make {MOUNT_POINT} in the zygote's root"))?;
    let step = || "open the node's null device";
    let null = null::open_on_node(OFlags::PATH).step(step)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let null = open_tree(&null, "", clone).step(step)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| "mount the zygote's root")?;
    let step = || format!("mount the null device on {NULL_DEVICE} in the zygote's root");
    let place = openat(
        &root,
        NULL_DEVICE.trim_start_matches('/'),
        OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::RUSR,
    )
    .step(step)?;
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&null, "", &place, "", by_descriptors).step(step)?;
    rustix::process::fchdir(&root).step(|| "enter the zygote's root")?;
    rustix::process::pivot_root(".", ".").step(|| "make the zygote's root the root")?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the host's root")?;
    rustix::process::chdir("/").step(|| "enter the zygote's root")?;
    kernel::set_mount_attributes(
        &root,
        AttributeChange {
            set: libc::MOUNT_ATTR_RDONLY,
            clear: 0,
        },
        Reach::Single,
    )
    .step(|| "make the zygote's root read-only")
}
