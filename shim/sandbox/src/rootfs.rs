//! The root file system of a container, mounted as containerd requests, and visible to no other
//! process.
//!
//! In the host's own mount namespace, systemd and kubelet would see each container's mount, and
//! read the whole table of mounts again at each change; and after a crash the mount would stay.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};

use crate::error::{Failure, Step as _};
use crate::guest::sources;
use crate::kernel;
use crate::plan::UserNamespace;

mod options;
mod overlay;

use options::{PreparedMount, Start};

const FROM: MoveMountFlags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;

/// A mount that containerd requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system's type, such as `overlay`, `bind` or `ext4`.
    pub fs_type: String,
    /// A folder, a device, or an arbitrary name.
    pub source: String,
    /// The path in the root; empty for the root itself.
    pub target: String,
    /// Options, as in mount(8).
    pub options: Vec<String>,
}

/// Makes `mounts` one after the other on `folder`, the bundle's root folder, and returns the result
/// as a detached mount: it is gone with the last descriptor and the last container that has it.
/// Without mounts it is the folder itself.
///
/// `users` is the container's user namespace, if it has one: containerd marks the mounts with
/// files that are to belong to its users.
///
/// # Errors
/// If a mount fails: the error names its source, its target and its options.
pub fn mount(
    mounts: &[Mount],
    folder: &Path,
    users: Option<&UserNamespace>,
) -> Result<OwnedFd, Failure> {
    if mounts.is_empty() {
        return clone(folder);
    }
    let prepared: Vec<PreparedMount> = mounts
        .iter()
        .map(|mount| PreparedMount::of(mount, users))
        .collect::<Result<_, _>>()?;
    let users = users.map(sources::users).transpose()?;
    let users = users.as_ref();
    if let [one] = &*prepared
        && let Some(made) = one.make_detached(users)
    {
        return made;
    }
    // In a thread of its own, because the others must keep their namespace and working folder. The
    // namespace ends with the thread.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("rootfs".to_owned())
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
                    .step(|| "make a mount namespace")?;
                mount_change(
                    "/",
                    MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
                )
                .step(|| "hide mounts from the host")?;
                for mount in &prepared {
                    mount_one(mount, folder, users)?;
                }
                clone(folder)
            });
        let thread = thread.step(|| "start a thread to mount the root file system")?;
        thread.join().unwrap_or_else(|_| {
            Err(Failure::of(
                "mount the root file system",
                "the thread panicked",
            ))
        })
    })
}

fn clone(folder: &Path) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, folder, flags)
        .step(|| format!("take the root file system at {}", folder.display()))
}

fn mount_one(mount: &PreparedMount, folder: &Path, users: Option<&OwnedFd>) -> Result<(), Failure> {
    let step = || format!("mount {mount} on {}", folder.display());
    // A target is resolved within the root: an image may have symbolic links.
    let open = OFlags::PATH | OFlags::CLOEXEC;
    let look = || {
        let root = rustix::fs::open(folder, open | OFlags::DIRECTORY, Mode::empty())?;
        let target = mount.target.trim_start_matches('/');
        if target.is_empty() {
            Ok(root)
        } else {
            rustix::fs::openat2(&root, target, open, Mode::empty(), ResolveFlags::IN_ROOT)
        }
    };
    let mut place = look().step(step)?;
    match (&mount.start, users) {
        (Some(Start::Mapped(start)), Some(users)) => {
            // Mounted where the overlay will cover them: they are needed only while it is made.
            let layers = open_tree(
                CWD,
                start,
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )
            .step(step)?;
            kernel::map_owners(&layers, users.as_fd())
                .step(|| format!("map the owners of files below {}", start.display()))?;
            move_mount(
                &layers,
                "",
                place.as_fd(),
                "",
                FROM | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
            )
            .step(step)?;
            rustix::process::fchdir(&layers).step(step)?;
            place = look().step(step)?;
        }
        (Some(Start::Folder(start) | Start::Mapped(start)), _) => {
            rustix::process::chdir(start).step(step)?;
        }
        (None, _) => {}
    }
    mount
        .make(
            Path::new(&format!("/proc/self/fd/{}", place.as_raw_fd())),
            users,
        )
        .step(step)
}
