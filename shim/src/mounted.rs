//! The root file system of a native container, where libcontainer looks for it: mounted at the
//! bundle's `rootfs`. A guest's root is never mounted where others see it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::error::CreateError;

/// Mounts `root`, which is mounted nowhere yet, at `place`.
///
/// # Errors
/// When the kernel refuses.
pub fn attach(root: &OwnedFd, place: &Path) -> Result<(), CreateError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let moved = move_mount(root, "", CWD, place, flags);
    moved.map_err(|errno| CreateError::Attach {
        place: place.to_owned(),
        source: io::Error::from(errno),
    })
}

/// Unmounts what is mounted at `place`. containerd, which unmounts too before it removes the
/// bundle, may have been faster: then nothing is mounted there (EINVAL) or the folder is gone.
pub fn detach(place: &Path) {
    while unmount(place, UnmountFlags::DETACH).is_ok() {}
}
