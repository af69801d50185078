//! What a container leaves behind when its host dies: its record names it all.
//!
//! | what | module |
//! |---|---|
//! | processes and cgroups | [`cgroups`] |
//! | mounts | here |
//! | libcontainer's state | here |
//!
//! What is gone already is fine: a launcher may have been killed half way, and another may be at it
//! now.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use shim_protocol::record::Record;

mod cgroups;

/// More mounts than any container has on top of one another.
const STACKED: usize = 64;

/// Ends every process of the container, and removes its cgroups, its mounts and libcontainer's
/// state of it.
pub(crate) fn remove(record: &Record, rootfs: &Path) -> Result<()> {
    // Processes first: they keep the rest busy.
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

/// Unmounts whatever is mounted at `path`, and never where a link at its end leads.
fn unmount_all(path: &Path) -> Result<()> {
    for _ in 0..STACKED {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or nothing is there.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("unmount {}", path.display())),
        }
    }
    bail!(
        "unmount {}: there are more than {STACKED} mounts on top of one another",
        path.display()
    )
}
