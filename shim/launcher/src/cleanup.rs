//! Clean-up after the death of a host: a container's record lists everything to remove.
//!
//! | part | module |
//! |---|---|
//! | processes and cgroups | [`cgroups`] |
//! | mounts | here |
//! | libcontainer's state | here |
//!
//! Missing parts are not an error: an earlier launcher may have been killed half-way, and another
//! one may be running now.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use shim_protocol::record::Record;

mod cgroups;

/// More mounts than any container has on one mount point.
const MAX_STACKED_MOUNTS: usize = 64;

/// Kills every process of the container, and removes its cgroups, mounts and libcontainer state.
pub(crate) fn remove(record: &Record, rootfs: &Path) -> Result<()> {
    // Processes first, because they keep the rest busy.
    cgroups::remove(&record.cgroups)
        .with_context(|| format!("remove the cgroups of container {}", record.id))?;
    for mount in record
        .mounts
        .iter()
        .rev()
        .map(AsRef::as_ref)
        .chain([rootfs])
    {
        unmount_all(mount)?;
    }
    if let Some(state) = &record.native {
        match fs::remove_dir_all(state) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result
                .with_context(|| format!("remove libcontainer's state {}", state.display()))?,
        }
    }
    Ok(())
}

/// Unmounts everything that is mounted at `path`, without following a link there.
fn unmount_all(path: &Path) -> Result<()> {
    for _ in 0..MAX_STACKED_MOUNTS {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // There is no mount, or no such path.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("unmount {}", path.display())),
        }
    }
    bail!(
        "unmount {}: there are more than {MAX_STACKED_MOUNTS} mounts on top of one another",
        path.display()
    )
}
