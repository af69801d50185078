//! Mounts of native containers' root file systems: libcontainer expects them at the bundle's
//! `rootfs`. A guest's root is never mounted where other processes see it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::error::CreateError;

/// Mounts `root`, a detached mount, at `place`.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn attach(root: &OwnedFd, place: &Path) -> Result<(), CreateError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let moved = move_mount(root, "", CWD, place, flags);
    moved.map_err(|errno| CreateError::Attach {
        place: place.to_owned(),
        source: io::Error::from(errno),
    })
}

/// Unmounts everything at `place`. containerd, which unmounts too before it removes the bundle, may
/// have been faster: then nothing is mounted there (EINVAL) or the folder is gone.
pub(crate) fn detach(place: &Path) {
    while unmount(place, UnmountFlags::DETACH).is_ok() {}
}
