//! The users of a user namespace.

use std::os::fd::AsFd as _;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{
    CapabilitiesSecureBits, LinkNameSpaceType, move_into_link_name_space,
    set_capabilities_secure_bits,
};

use crate::error::{Failure, Step as _};
use crate::wire::WireFd;

/// Makes new files of the process belong to `root`: user and group, on the node, of the container's
/// root. On mapped file systems no other user could make files. The process keeps its privileges.
pub(super) fn make_for(root: (u32, u32)) -> Result<(), Failure> {
    let step = || format!("make files as user {} and group {}", root.0, root.1);
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP).step(step)?;
    let (uid, gid) = (Uid::from_raw(root.0), Gid::from_raw(root.1));
    setfsgid(gid);
    setfsuid(uid);
    // They return the previous ids, and no error.
    if (setfsuid(uid), setfsgid(gid)) == (uid, gid) {
        Ok(())
    } else {
        Err(Failure::of(step(), "the kernel refused it"))
    }
}

/// Enters the user namespace: the process has all capabilities there, and none elsewhere.
pub(super) fn enter(users: &WireFd) -> Result<(), Failure> {
    move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))
        .step(|| "enter the user namespace")
}
