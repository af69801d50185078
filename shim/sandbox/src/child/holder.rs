//! A process that does nothing but hold a pod's namespaces, for a pod with users of its own: a
//! thread of the host cannot enter a user namespace.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};

use super::orders::HolderOrders;
use super::{place, powers, rename, users};
use crate::error::{Failure, Step as _};
use crate::plan::{Namespace, ProcessPlan};

/// Takes the process into the pod's namespaces, and sets what is set in them. The users come first:
/// what is made after that belongs to the pod's root.
pub(super) fn enter(orders: HolderOrders, _: &OwnedFd) -> Result<(), Failure> {
    let HolderOrders {
        name,
        users,
        joined,
        namespaces,
        hostname,
        domainname,
        sysctls,
        proc,
    } = orders;
    rename(&name)?;
    rustix::process::setsid().step(|| "begin a group of processes")?;
    users::enter(&users)?;
    drop(users);
    powers::become_user(0, 0, &[])?;
    place::join(joined)?;
    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, namespaces.net == Namespace::New);
    own.set(CloneFlags::CLONE_NEWIPC, namespaces.ipc == Namespace::New);
    own.set(CloneFlags::CLONE_NEWUTS, namespaces.uts == Namespace::New);
    unshare(own).step(|| "make the pod's own namespaces")?;
    place::name(hostname.as_deref(), domainname.as_deref())?;
    place::set(&sysctls, proc.as_ref())?;
    powers::reduce(&ProcessPlan::without_privileges(), proc, None, None)
}

/// Stays until a signal ends it.
pub(super) fn park(_: ()) -> u8 {
    loop {
        rustix::event::pause();
    }
}
