//! The container's `/dev`: a file system in memory of its own.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, makedev, mkdirat, mknodat, symlinkat,
};
use rustix::io::Errno;

use super::cover::Null;
use super::root::{attach, memory_file_system};
use crate::error::{Failure, Step as _};
use crate::plan::{AttributeChange, Device, DeviceKind, Devices};

/// Device nodes work on it; programs and set-uid files do not.
const ATTRIBUTES: AttributeChange = AttributeChange {
    set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_STRICTATIME,
    clear: 0,
};

/// Makes and mounts it, and returns its null device.
pub(super) fn make(root: &OwnedFd, devices: &Devices) -> Result<Null, Failure> {
    let Devices {
        options,
        nodes,
        links,
    } = devices;
    let folder = memory_file_system(options, ATTRIBUTES).step(|| "make /dev")?;
    for node in nodes {
        make_node(&folder, node).step(|| format!("make /dev/{}", node.path.display()))?;
    }
    for (name, target) in links {
        let made = make_parents(&folder, name).and_then(|()| symlinkat(target, &folder, name));
        made.step(|| format!("link /dev/{} to {}", name.display(), target.display()))?;
    }
    attach(root, &folder, Path::new("/dev")).step(|| "mount /dev")?;
    Null::of_devices(&folder)
}

fn make_node(folder: &OwnedFd, node: &Device) -> Result<(), Errno> {
    let Device {
        path,
        kind,
        mode,
        uid,
        gid,
    } = node;
    make_parents(folder, path)?;
    let (file_type, number) = match *kind {
        DeviceKind::Char { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
        DeviceKind::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
        DeviceKind::Fifo => (FileType::Fifo, 0),
    };
    mknodat(folder, path, file_type, Mode::from_raw_mode(*mode), number)?;
    if (*uid, *gid) == (0, 0) {
        return Ok(());
    }
    chownat(
        folder,
        path,
        Some(Uid::from_raw(*uid)),
        Some(Gid::from_raw(*gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn make_parents(folder: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let mut parents: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty())
        .collect();
    parents.reverse();
    for parent in parents {
        match mkdirat(folder, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
