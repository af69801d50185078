//! The container's root file system: entered first, so that every later path is the container's and
//! none leads out of it; then mounted upon; then closed. Every lookup starts at a descriptor of the
//! root.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::cover;
use super::target::{self, Kind};
use crate::empty_root::MOUNT_POINT;
use crate::error::{Failure, Step as _};
use crate::plan::{
    AttributeChange, GuestMount, Propagation, PropagationKind, Reach, Root, Tmpfs, TmpfsOption,
};
use crate::wire::WireFd;
use crate::{detached, kernel};

/// Makes `rootfs` the root, leaves the zygote's, and returns the root's folder.
pub(super) fn enter(rootfs: WireFd) -> Result<OwnedFd, Failure> {
    let rootfs = rootfs.into_inner();
    // pivot_root refuses a shared root, and mounts in here must not appear elsewhere.
    let private = Propagation {
        kind: PropagationKind::Private,
        reach: Reach::Recursive,
    };
    kernel::set_mount_propagation(&rootfs, private).step(|| "make the root file system private")?;
    move_mount(
        &rootfs,
        "",
        CWD,
        MOUNT_POINT,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step(|| "mount the root file system")?;
    rustix::process::fchdir(&rootfs).step(|| "enter the root file system")?;
    rustix::process::pivot_root(".", ".").step(|| "make the root file system the root")?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the zygote's root")?;
    rustix::process::chdir("/").step(|| "enter the root file system")?;
    open()
}

/// Opens the root's folder.
pub(super) fn open() -> Result<OwnedFd, Failure> {
    rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open the root")
}

/// Makes the planned mounts, in order; `sources` has one entry for each.
pub(super) fn mount(
    root: &OwnedFd,
    mounts: &[GuestMount],
    sources: Vec<Option<OwnedFd>>,
) -> Result<(), Failure> {
    for (mount, source) in mounts.iter().zip(sources) {
        match (mount, source) {
            (GuestMount::Bind(bind), Some(tree)) => {
                attach(root, &tree, &bind.destination).step(|| {
                    format!(
                        "mount {} on {}",
                        bind.source.display(),
                        bind.destination.display()
                    )
                })?;
            }
            (GuestMount::Tmpfs(tmpfs), None) => {
                let Tmpfs {
                    destination,
                    options,
                    attributes,
                    propagation,
                } = tmpfs;
                let step = || format!("mount a tmpfs on {}", destination.display());
                let made = memory_file_system(options, *attributes).step(step)?;
                kernel::set_mount_propagation(&made, *propagation).step(step)?;
                attach(root, &made, destination).step(step)?;
            }
            (GuestMount::Bind(_), None) | (GuestMount::Tmpfs(_), Some(_)) => {
                return Err(Failure::of("mount", "the sources do not fit the plan"));
            }
        }
    }
    Ok(())
}

/// Makes a file system in memory that is mounted nowhere.
pub(super) fn memory_file_system(
    options: &[TmpfsOption],
    attributes: AttributeChange,
) -> rustix::io::Result<OwnedFd> {
    detached::make(
        "tmpfs",
        options
            .iter()
            .map(|TmpfsOption { key, value }| (key.as_str(), value.as_deref())),
        attributes.set,
    )
}

/// Mounts a tree on a path of the container, which is made if it is missing.
pub(super) fn attach(root: &OwnedFd, tree: &OwnedFd, destination: &Path) -> std::io::Result<()> {
    let kind = match FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) {
        FileType::Directory => Kind::Folder,
        _ => Kind::File,
    };
    Ok(cover::attach(tree, target::make(root, destination, kind)?)?)
}

/// Sets the attributes of the root's mount, after the last mount and file was made in it.
pub(super) fn finish(folder: &OwnedFd, root: &Root) -> Result<(), Failure> {
    kernel::set_mount_attributes(folder, root.attributes, Reach::Single)
        .step(|| "set the attributes of the root")?;
    // Of this mount alone, also if the spec includes those below: each of them has its own by now.
    let own = Propagation {
        reach: Reach::Single,
        ..root.propagation
    };
    kernel::set_mount_propagation(folder, own).step(|| "set the propagation of the root")
}
