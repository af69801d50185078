//! `/proc` for Linux programs beside a guest: such a program sees it, the guest does not.
//!
//! It is made once for a container, with its masked and read-only paths, in a mount namespace that
//! holds nothing of the container's. So files that a guest can write do not decide what is masked.
//! Each program gets a copy.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cover::{self, NO_LINKS, Null, Top};
use super::messages::ViewSetup;
use super::{root, set_name};
use crate::empty_root::MOUNT_POINT;
use crate::error::{Failure, Step as _};
use crate::plan::{PROC, Propagation, PropagationKind, Reach};
use crate::wire::WireFd;
use crate::{detached, kernel, procfs};

/// Maximum number of times that the folder is made: a guest may remove it at the same time.
const MAX_ATTEMPTS: usize = 8;

/// Makes the container's `/proc` in this process's mount namespace, a copy of the zygote's.
pub(super) fn make(request: ViewSetup, _: &OwnedFd) -> Result<(), Failure> {
    let ViewSetup {
        name,
        context,
        proc,
    } = request;
    set_name(&name)?;
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

/// Clones it from the mount namespace that holds it, which the process enters. The clone is mounted
/// nowhere.
pub(super) fn clone(view: &WireFd) -> Result<OwnedFd, Failure> {
    let step = || "copy the container's /proc";
    move_into_link_name_space(view.as_fd(), Some(LinkNameSpaceType::Mount)).step(step)?;
    let whole = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, MOUNT_POINT, whole).step(step)
}

/// Copies the container's mounts into a mount namespace of this process, and mounts the clone
/// there, unless the root is read-only and has no folder for it.
pub(super) fn show(seen: &OwnedFd) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "copy the container's mounts")?;
    let top = root::open()?;
    // Mounts on the node still appear in volumes; mounts made here do not appear in the container.
    let slave = Propagation {
        kind: PropagationKind::Slave,
        reach: Reach::Recursive,
    };
    kernel::set_mount_propagation(&top, slave).step(|| "keep mounts from the container")?;
    place(&top)?
        .map_or(Ok(()), |place| cover::attach(seen, &place))
        .step(|| "mount /proc")
}

/// Opens the folder `/proc` of a root that the guest can write, and makes it if it is missing; none
/// if the root is read-only.
fn place(top: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let step = || "find the folder /proc in the container";
    let name = Path::new(PROC).strip_prefix("/").step(step)?;
    for _ in 0..MAX_ATTEMPTS {
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
                let cause = "it is a symbolic link, through which /proc is not mounted: make it \
                             a folder in the image";
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
