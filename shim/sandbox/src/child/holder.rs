//! A process that does nothing but hold a pod's namespaces, for a pod with users of its own: a
//! thread of the host cannot enter a user namespace.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};

use super::messages::HolderSetup;
use super::{namespaces, privileges, set_name, users};
use crate::error::{Failure, Step as _};
use crate::plan::{Namespace, ProcessPlan};

/// Enters the pod's namespaces and configures them. The user namespace comes first: what is made
/// after that belongs to the pod's root.
pub(super) fn enter(request: HolderSetup, _: &OwnedFd) -> Result<(), Failure> {
    let HolderSetup {
        name,
        users,
        joined,
        namespaces: planned,
        hostname,
        domainname,
        sysctls,
        proc,
    } = request;
    set_name(&name)?;
    rustix::process::setsid().step(|| "begin a group of processes")?;
    users::enter(&users)?;
    drop(users);
    privileges::become_user(0, 0, &[])?;
    namespaces::join(joined)?;
    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, planned.net == Namespace::New);
    own.set(CloneFlags::CLONE_NEWIPC, planned.ipc == Namespace::New);
    own.set(CloneFlags::CLONE_NEWUTS, planned.uts == Namespace::New);
    unshare(own).step(|| "make the pod's own namespaces")?;
    namespaces::set_names(hostname.as_deref(), domainname.as_deref())?;
    namespaces::set_sysctls(&sysctls, proc.as_ref())?;
    privileges::apply(&ProcessPlan::without_privileges(), proc, None, None)
}

/// Waits until a signal ends the process.
pub(super) fn park(_: ()) -> u8 {
    loop {
        rustix::event::pause();
    }
}
