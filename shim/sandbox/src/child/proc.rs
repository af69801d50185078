//! `/proc` for Linux programs beside a guest: mounted where such a program sees it and the guest
//! does not.
//!
//! It is made once for a container, with its masked and read-only paths, in a mount namespace that
//! holds nothing of the container's: nothing that a guest can write decides what is masked. Each
//! program gets a copy.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cover::{self, NO_LINKS, Null, Top};
use super::orders::ViewOrders;
use super::{rename, root};
use crate::empty_root::MOUNT_POINT;
use crate::error::{Failure, Step as _};
use crate::plan::{PROC, Propagation, PropagationKind, Reach};
use crate::wire::WireFd;
use crate::{detached, kernel, procfs};

/// How often the folder is made: a guest may remove it at the same time.
const ATTEMPTS: usize = 8;

/// Makes the container's `/proc` in this process's mount namespace, a copy of the zygote's.
pub(super) fn make(orders: ViewOrders, _: &OwnedFd) -> Result<(), Failure> {
    let ViewOrders {
        name,
        context,
        proc,
    } = orders;
    rename(&name)?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let tree = detached::create(context, attributes).step(|| "make /proc")?;
    procfs::check(&tree).step(|| "make /proc")?;
    move_mount(
        &tree,
        "",
        CWD,
        MOUNT_POINT,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step(|| "mount /proc")?;
    let top = Top {
        folder: &tree,
        path: Path::new(PROC),
    };
    cover::mask(top, &proc.masked, &mut Null::of_zygote()?)?;
    cover::make_read_only(top, &proc.readonly)
}

/// Takes a copy of it, which is mounted nowhere, from the mount namespace that holds it; enters
/// that namespace.
pub(super) fn clone(view: &WireFd) -> Result<OwnedFd, Failure> {
    let step = || "copy the container's /proc";
    move_into_link_name_space(view.as_fd(), Some(LinkNameSpaceType::Mount)).step(step)?;
    let whole = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, MOUNT_POINT, whole).step(step)
}

/// Copies the container's mounts into a namespace of this process's own, and mounts the copy there.
/// A root that is read-only and has no folder for it gets none.
pub(super) fn show(seen: &OwnedFd) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "copy the container's mounts")?;
    let top = root::open()?;
    // What is mounted on the node goes on to appear in volumes; nothing from here appears in the
    // container.
    let slave = Propagation {
        kind: PropagationKind::Slave,
        reach: Reach::Recursive,
    };
    kernel::set_mount_propagation(&top, slave).step(|| "keep mounts from the container")?;
    place(&top)?
        .map_or(Ok(()), |place| cover::attach(seen, &place))
        .step(|| "mount /proc")
}

/// The folder `/proc` of a root that the guest can write, made where it is missing; none in a root
/// that is read-only.
fn place(top: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let step = || "find the folder /proc in the container";
    let name = Path::new(PROC).strip_prefix("/").step(step)?;
    for _ in 0..ATTEMPTS {
        match openat2(
            top,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            NO_LINKS,
        ) {
            Ok(place) => return Ok(Some(place)),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => {
                let cause = "it is a symbolic link, and programs are not shown processes through \
                             one: make it a folder in the image";
                return Err(Failure::of(step(), cause));
            }
            Err(error) => return Err(error).step(step),
        }
        match mkdirat(top, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::ROFS) => return Ok(None),
            Err(error) => return Err(error).step(|| "make the folder /proc in the container"),
        }
    }
    Err(Failure::of(
        step(),
        "something in the container removes it as soon as it is made",
    ))
}
