//! `/proc` for a Linux program beside a guest: mounted where the program sees it and the guest does not.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::cover::{self, NO_LINKS, Null, Top};
use super::root;
use crate::error::{Failure, Step as _};
use crate::plan::{PROC, Proc, Propagation, PropagationKind, Reach};
use crate::{detached, kernel};

/// How often the folder is made: a guest may remove it at the same time.
const ATTEMPTS: usize = 8;

/// Copies the container's mounts into a namespace of this process's own, and mounts `/proc` there. A root that is
/// read-only and has no such folder gets none.
pub(super) fn show(proc: &Proc, mut null: Null) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).step(|| "copy the container's mounts")?;
    let top = root::open()?;
    // What is mounted on the node goes on to appear in volumes; nothing from here appears in the container.
    let slave = Propagation { kind: PropagationKind::Slave, reach: Reach::Recursive };
    kernel::set_mount_propagation(&top, slave).step(|| "keep mounts from the container")?;
    let Some(place) = place(&top)? else { return Ok(()) };
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let tree = detached::make("proc", [], attributes).step(|| "make /proc")?;
    cover::attach(&tree, &place).step(|| "mount /proc")?;
    // Below what was mounted, and not below the path: the guest can rename each folder on the latter.
    let top = Top { folder: &tree, path: Path::new(PROC) };
    cover::mask(top, &proc.masked, &mut null)?;
    cover::make_read_only(top, &proc.readonly)
}

/// The folder `/proc` of a root that the guest can write, made where it is missing; none in a root that is read-only.
fn place(top: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let step = || "find the folder /proc in the container";
    let name = Path::new(PROC).strip_prefix("/").step(step)?;
    for _ in 0..ATTEMPTS {
        match openat2(top, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), NO_LINKS) {
            Ok(place) => return Ok(Some(place)),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => {
                let cause = "it is a symbolic link, and programs are not shown processes through one: make it a folder in the image";
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
    Err(Failure::of(step(), "something in the container removes it as soon as it is made"))
}
