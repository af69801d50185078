//! The container's root file system: entered first, so that every path from there on is the container's and none leads
//! out of it; then mounted upon; then closed.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use super::target::{self, Kind};
use crate::error::{Failure, Step as _};
use crate::plan::{AttributeChange, GuestMount, Propagation, PropagationKind, Reach, Root, Tmpfs, TmpfsOption};
use crate::wire::WireFd;
use crate::zygote::STEP;
use crate::{detached, kernel};

const READ_ONLY: AttributeChange = AttributeChange { set: libc::MOUNT_ATTR_RDONLY, clear: 0 };

/// Makes `rootfs` the root, and leaves the zygote's.
pub(super) fn enter(rootfs: WireFd) -> Result<(), Failure> {
    let rootfs = rootfs.into_inner();
    // pivot_root refuses a shared root; nothing that is mounted in here may appear elsewhere.
    let private = Propagation { kind: PropagationKind::Private, reach: Reach::Recursive };
    kernel::set_mount_propagation(&rootfs, private).step(|| "make the root file system private")?;
    move_mount(&rootfs, "", CWD, STEP, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(|| "mount the root file system")?;
    rustix::process::fchdir(&rootfs).step(|| "enter the root file system")?;
    rustix::process::pivot_root(".", ".").step(|| "make the root file system the root")?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the zygote's root")?;
    rustix::process::chdir("/").step(|| "enter the root file system")
}

/// Makes the planned mounts, in order; `sources` has one entry for each.
pub(super) fn mount(mounts: &[GuestMount], sources: Vec<Option<WireFd>>) -> Result<(), Failure> {
    for (mount, source) in mounts.iter().zip(sources) {
        match (mount, source) {
            (GuestMount::Bind(bind), Some(tree)) => {
                attach(&tree.into_inner(), &bind.destination)
                    .step(|| format!("mount {} on {}", bind.source.display(), bind.destination.display()))?;
            }
            (GuestMount::Tmpfs(tmpfs), None) => {
                let Tmpfs { destination, options, attributes, propagation } = tmpfs;
                let step = || format!("mount a tmpfs on {}", destination.display());
                let made = memory_file_system(options, *attributes).step(step)?;
                kernel::set_mount_propagation(&made, *propagation).step(step)?;
                attach(&made, destination).step(step)?;
            }
            (GuestMount::Bind(_), None) | (GuestMount::Tmpfs(_), Some(_)) => {
                return Err(Failure::of("mount", "the host's sources do not fit the plan"));
            }
        }
    }
    Ok(())
}

/// A new file system in memory, not yet mounted anywhere.
pub(super) fn memory_file_system(options: &[TmpfsOption], attributes: AttributeChange) -> rustix::io::Result<OwnedFd> {
    detached::make("tmpfs", options.iter().map(|TmpfsOption { key, value }| (key.as_str(), value.as_deref())), attributes.set)
}

/// Mounts a tree on a path of the container's, which is made where it is missing.
pub(super) fn attach(tree: &OwnedFd, destination: &Path) -> std::io::Result<()> {
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) {
        FileType::Directory => Kind::Folder,
        _ => Kind::File,
    };
    let place = target::make(destination, kind)?;
    Ok(move_mount(tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Hides paths: a file behind `/dev/null`, a folder behind an empty one.
pub(super) fn mask(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let step = || format!("mask {}", path.display());
        let Some(place) = existing(path).step(step)? else { continue };
        let cover = match FileType::from_raw_mode(rustix::fs::fstat(&place).step(step)?.st_mode) {
            FileType::Directory => memory_file_system(&[], READ_ONLY),
            _ => open_tree(CWD, "/dev/null", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC),
        };
        cover_up(&cover.step(step)?, &place).step(step)?;
    }
    Ok(())
}

/// Makes paths read-only, with all below them.
pub(super) fn make_read_only(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let step = || format!("make {} read-only", path.display());
        let Some(place) = existing(path).step(step)? else { continue };
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(&place, "", clone | OpenTreeFlags::AT_EMPTY_PATH).step(step)?;
        kernel::set_mount_attributes(&tree, READ_ONLY, Reach::Recursive).step(step)?;
        cover_up(&tree, &place).step(step)?;
    }
    Ok(())
}

/// What stands at `path` in the container, if anything does.
fn existing(path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn cover_up(tree: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    move_mount(tree, "", place.as_fd(), "", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

/// Gives the root's mount what it is to have, when nothing more is mounted or made in it.
pub(super) fn finish(root: &Root) -> Result<(), Failure> {
    let place = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(|| "open the root")?;
    kernel::set_mount_attributes(&place, root.attributes, Reach::Single).step(|| "set the attributes of the root")?;
    // Of this mount alone, whatever the spec says of those below: each of them has its own by now.
    let own = Propagation { reach: Reach::Single, ..root.propagation };
    kernel::set_mount_propagation(&place, own).step(|| "set the propagation of the root")
}
