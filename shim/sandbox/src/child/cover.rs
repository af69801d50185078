//! Mounts over masked and read-only paths.
//!
//! A path is looked up below a descriptor of the runtime's, and no link on it is followed: a guest
//! may have written the root that it leads through. A path counts as absent only if that lookup
//! does not find it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use process_forker::null;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::root::memory_file_system;
use crate::empty_root::NULL_DEVICE;
use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::{AttributeChange, Reach};

const READ_ONLY: AttributeChange = AttributeChange {
    set: libc::MOUNT_ATTR_RDONLY,
    clear: 0,
};
const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// An opened folder, and its path in the container.
#[derive(Clone, Copy)]
pub(super) struct Top<'a> {
    pub(super) folder: &'a OwnedFd,
    pub(super) path: &'a Path,
}

/// The null device that hides files.
pub(super) enum Null {
    /// A mount that is not attached yet.
    Detached(OwnedFd),
    /// A place in this process's mount namespace, of which mounts are cloned.
    Attached(OwnedFd),
}

impl Null {
    /// Clones that of the zygote's root, for a process that has not left it.
    pub(super) fn of_zygote() -> Result<Self, Failure> {
        let step = || "clone the zygote's null device";
        let mount = open_tree(rustix::fs::CWD, NULL_DEVICE, CLONE).step(step)?;
        null::check(&mount).step(step)?;
        Ok(Self::Detached(mount))
    }

    /// Opens that of a `/dev` which this process made and attached, and which no other process has
    /// seen yet.
    pub(super) fn of_devices(folder: &OwnedFd) -> Result<Self, Failure> {
        let null = openat(
            folder,
            "null",
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        null.map(Self::Attached)
            .step(|| "open the null device of the container's /dev")
    }

    fn hide(&mut self, place: &OwnedFd) -> std::io::Result<()> {
        match self {
            Self::Detached(mount) => {
                attach(mount, place)?;
                // From now on it can be cloned.
                *self = Self::Attached(mount.try_clone()?);
            }
            Self::Attached(null) => {
                // The spec can put another device in the place of a container's.
                null::check(&*null)?;
                attach(
                    &open_tree(&*null, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?,
                    place,
                )?;
            }
        }
        Ok(())
    }
}

/// Masks paths: a file with the null device, a folder with an empty one.
pub(super) fn mask(top: Top<'_>, paths: &[PathBuf], null: &mut Null) -> Result<(), Failure> {
    for path in paths {
        let step = || format!("mask {}", path.display());
        let Some(place) = existing(top, path).step(step)? else {
            continue;
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&place).step(step)?.st_mode) {
            FileType::Directory => {
                attach(&memory_file_system(&[], READ_ONLY).step(step)?, &place).step(step)?;
            }
            _ => null.hide(&place).step(step)?,
        }
    }
    Ok(())
}

/// Makes paths read-only, and everything below them.
pub(super) fn make_read_only(top: Top<'_>, paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let step = || format!("make {} read-only", path.display());
        let Some(place) = existing(top, path).step(step)? else {
            continue;
        };
        let tree = open_tree(
            &place,
            "",
            CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .step(step)?;
        kernel::set_mount_attributes(&tree, READ_ONLY, Reach::Recursive).step(step)?;
        attach(&tree, &place).step(step)?;
    }
    Ok(())
}

/// Mounts a tree on the place that a descriptor refers to.
pub(super) fn attach(tree: &OwnedFd, place: impl AsFd) -> rustix::io::Result<()> {
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place.as_fd(), "", by_descriptors)
}

/// Opens the file at a path of the container below `top`, if there is one.
fn existing(top: Top<'_>, path: &Path) -> std::io::Result<Option<OwnedFd>> {
    let outside = || std::io::Error::other(format!("it does not lie below {}", top.path.display()));
    let below = path.strip_prefix(top.path).map_err(|_| outside())?;
    if below.as_os_str().is_empty() && top.path == Path::new("/") {
        // It would not be seen.
        return Err(std::io::Error::other("the whole root cannot be covered"));
    }
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    match openat2(
        top.folder,
        below,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        NO_LINKS,
    ) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(Errno::LOOP) => Err(std::io::Error::other(format!(
            "{} leads through a symbolic link",
            path.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The flags for a lookup below a root that a guest can write.
pub(super) const NO_LINKS: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
