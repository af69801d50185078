//! Detached mounts: file systems in memory, and read-only clones of a folder for a guest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};

use crate::kernel;

/// Makes a file system in memory, mounted nowhere, with these parameters of tmpfs(5).
pub(crate) fn in_memory(
    parameters: &[(&str, String)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in parameters {
        fsconfig_set_string(&context, *name, value.as_str())?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// The way to clone folders of a store: the kernel clones only mounts of the calling thread's own
/// mount namespace (before Linux 6.15).
#[derive(Debug)]
pub(crate) enum Cloner {
    /// The store is in a folder of the process's mount namespace.
    OfThisProcess,
    /// The store is in memory, mounted in the namespace of a thread that ends with this value.
    Thread(mpsc::Sender<Request>),
}

/// A folder to be cloned, and where the clone goes.
#[derive(Debug)]
pub(crate) struct Request {
    folder: OwnedFd,
    reply: mpsc::Sender<io::Result<OwnedFd>>,
}

impl Cloner {
    /// Makes a file system in memory for a store of at most `bytes`, and a thread in whose mount
    /// namespace it is the root. Nothing else is mounted there, and no other process sees it.
    pub(crate) fn in_memory(bytes: u64) -> io::Result<(Self, OwnedFd)> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (ready, root) = mpsc::channel();
        let serve = move || {
            let is_ready = enter_memory(bytes);
            let failed = is_ready.is_err();
            if ready.send(is_ready).is_err() || failed {
                return;
            }
            for request in inbox {
                // If the caller is gone, the clone is closed and with it gone too.
                let _ = request.reply.send(clone(request.folder.as_fd()));
            }
        };
        thread::Builder::new()
            .name("artifacts".to_owned())
            .spawn(serve)?;
        let root = root.recv().map_err(|_| ended())??;
        Ok((Self::Thread(requests), root))
    }

    /// Returns a detached, read-only clone of a folder of the store. Its root is the folder: `..`
    /// ends there, and nothing is reachable through it that is not below the folder.
    pub(crate) fn read_only(&self, folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        match self {
            Self::OfThisProcess => clone(folder),
            Self::Thread(requests) => {
                let (reply, answer) = mpsc::channel();
                let folder = folder.try_clone_to_owned()?;
                requests
                    .send(Request { folder, reply })
                    .map_err(|_| ended())?;
                answer.recv().map_err(|_| ended())?
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the thread that holds the store in memory has ended")
}

fn clone(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(folder, "", flags)?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    kernel::restrict_mount(mount.as_fd(), attributes)?;
    Ok(mount)
}

/// Moves the calling thread into a mount namespace whose one mount is a new file system in memory.
/// Returns its root.
fn enter_memory(bytes: u64) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let parameters = [("size", bytes.to_string()), ("mode", "0700".to_owned())];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = in_memory(&parameters, attributes)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    // The host's mounts must not stay busy because of this namespace.
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(root)
}
