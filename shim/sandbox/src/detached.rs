//! File systems that are made and mounted nowhere. A process with the descriptor can mount one in a
//! mount namespace of its own.

use std::os::fd::OwnedFd;

use rustix::fd::AsFd;
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// Makes a file system of this type, with parameters for fsconfig(2) (one without a value is a
/// flag) and the attributes `MOUNT_ATTR_*` of its mount.
pub(crate) fn make<'a>(
    fs_type: &str,
    parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attributes: u64,
) -> Result<OwnedFd> {
    let system = open(fs_type)?;
    for (key, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&system, key, value)?,
            None => fsconfig_set_flag(&system, key)?,
        }
    }
    create(system, attributes)
}

/// Opens the context of a new file system, which belongs to the current namespaces of the calling
/// process.
pub(crate) fn open(fs_type: &str) -> Result<OwnedFd> {
    fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)
}

/// Makes the file system of a context, with the attributes `MOUNT_ATTR_*` of its mount.
pub(crate) fn create(context: impl AsFd, attributes: u64) -> Result<OwnedFd> {
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::from_bits_retain(u32::try_from(attributes).map_err(|_| Errno::INVAL)?);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
