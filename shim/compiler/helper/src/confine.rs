//! The confinement of the process: after it there is no file but those that are open and those that
//! it makes in the folder of the draft, no other process, no network and no privilege.

use std::os::fd::OwnedFd;

use guest_compiler::protocol::{Failure, HELPER_USER, Step as _};
use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::{filter, signals};

/// Confines the process. `draft` becomes its root and its working folder.
pub(crate) fn enter(draft: OwnedFd) -> Result<(), Failure> {
    signals::exit_at_limits().step(|| "handle signals")?;
    enter_root(&draft).step(|| "make the folder of the draft the root")?;
    drop(draft);
    drop_privileges()?;
    // The change of the user has ended both.
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "forbid dumps")?;
    filter::install().step(|| "install the filter of system calls")
}

/// Makes the folder of the draft, a mount that is attached nowhere, the root of this process's
/// mount namespace, which is its own. WasmEdge makes the path of its output absolute, which takes a
/// working folder below the root.
fn enter_root(draft: &OwnedFd) -> rustix::io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    move_mount(draft, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(draft)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

fn drop_privileges() -> Result<(), Failure> {
    set_no_new_privs(true).step(|| "forbid new privileges")?;
    let one = |number: u32| CapabilitySet::from_bits_retain(1 << number);
    // For a number that it does not know the kernel returns an error.
    for number in
        (0..u64::BITS).take_while(|&number| capability_is_in_bounding_set(one(number)).is_ok())
    {
        remove_capability_from_bounding_set(one(number))
            .step(|| format!("drop capability {number} from the bounding set"))?;
    }
    let (user, group) = (Uid::from_raw(HELPER_USER), Gid::from_raw(HELPER_USER));
    set_thread_groups(&[]).step(|| "leave all groups")?;
    set_thread_res_gid(group, group, group).step(|| "change the group")?;
    set_thread_res_uid(user, user, user).step(|| "change the user")?;
    clear_ambient_capability_set().step(|| "clear the ambient capabilities")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).step(|| "drop all capabilities")
}
