//! The sources of a container's bind mounts.
//!
//! The container's process opens them itself. A file system that never answers then blocks this
//! process alone: the host waits for it without a thread, and kills it at a deadline.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::messages::SourceNamespaces;
use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::{Bind, GuestMount, Owners, Reach};
use crate::wire::WireFd;

/// Clones the sources of bind mounts with their attributes: one entry for each mount, in order.
pub(super) fn open(
    mounts: &[GuestMount],
    namespaces: Option<SourceNamespaces>,
    users: Option<&WireFd>,
) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let Some(SourceNamespaces { node, own }) = namespaces else {
        return Ok(mounts.iter().map(|_| None).collect());
    };
    let enter = |namespace: &WireFd| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
    };
    enter(&node).step(|| "enter the node's mount namespace")?;
    let source = |mount: &GuestMount| match mount {
        GuestMount::Bind(bind) => {
            let step = || {
                format!(
                    "mount {} on {}",
                    bind.source.display(),
                    bind.destination.display()
                )
            };
            clone(bind, users.map(WireFd::as_fd)).map(Some).step(step)
        }
        GuestMount::Tmpfs(_) => Ok(None),
    };
    let sources = mounts.iter().map(source).collect::<Result<_, Failure>>()?;
    enter(&own).step(|| "return to the process's mount namespace")?;
    Ok(sources)
}

fn clone(bind: &Bind, users: Option<BorrowedFd<'_>>) -> std::io::Result<OwnedFd> {
    let recursive = match bind.reach {
        Reach::Single => OpenTreeFlags::empty(),
        Reach::Recursive => OpenTreeFlags::AT_RECURSIVE,
    };
    let tree = open_tree(
        CWD,
        &bind.source,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive,
    )?;
    kernel::set_mount_attributes(&tree, bind.attributes.top, Reach::Single)?;
    kernel::set_mount_attributes(&tree, bind.attributes.tree, Reach::Recursive)?;
    kernel::set_mount_propagation(&tree, bind.propagation)?;
    match (bind.owners, users) {
        (Owners::Mapped, Some(users)) => kernel::map_owners(&tree, users)?,
        (Owners::Mapped, None) => {
            return Err(std::io::Error::other(
                "there is no user namespace to map its owners by",
            ));
        }
        (Owners::Kept, _) => {}
    }
    Ok(tree)
}
