//! The privileges of the process: limits, labels, identity, capabilities, filters.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Rlimit as KernelRlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets as KernelSets, Gid, Uid, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{die_with_host, namespaces, users};
use crate::error::{Failure, Step as _};
use crate::plan::{CapabilitySets, NoNewPrivileges, ProcessPlan};
use crate::seccomp::{Pass, SeccompFilter};
use crate::wire::WireFd;

/// Applies the plan's privileges to the process. A privilege that a later step needs is dropped
/// after it. The pod's user namespace is entered first: the privileges are those in it. With a
/// `pass`, filters are installed behind its gate.
pub(super) fn apply(
    plan: &ProcessPlan,
    proc: Option<WireFd>,
    users: Option<WireFd>,
    pass: Option<Pass>,
) -> Result<(), Failure> {
    // The host wrote `oom_score_adj` before it sent the setup request.
    let ProcessPlan {
        oom_score_adj: _,
        rlimits,
        apparmor,
        selinux,
        uid,
        gid,
        groups,
        umask,
        capabilities,
        no_new_privileges,
        filters,
    } = plan;
    for limit in rlimits {
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        setrlimit(
            limit.resource.kernel(),
            KernelRlimit {
                current: bound(limit.soft),
                maximum: bound(limit.hard),
            },
        )
        .step(|| {
            format!(
                "limit {:?} to {}, at most {}",
                limit.resource, limit.soft, limit.hard
            )
        })?;
    }
    if let Some(profile) = apparmor {
        namespaces::write_proc(
            proc.as_ref(),
            "thread-self/attr/apparmor/current",
            &format!("changeprofile {profile}"),
        )?;
    }
    if let Some(label) = selinux {
        namespaces::write_proc(proc.as_ref(), "thread-self/attr/current", label)?;
    }
    drop(proc);
    if let Some(users) = users {
        users::enter(&users)?;
    }
    match no_new_privileges {
        // Then installing a filter takes CAP_SYS_ADMIN, which is about to be dropped.
        NoNewPrivileges::Unset => install(filters, pass)?,
        NoNewPrivileges::Set => set_no_new_privs(true).step(|| "forbid new privileges")?,
    }
    drop_from_bounding_set(capabilities.bounding)?;
    set_keep_capabilities(true).step(|| "keep capabilities over the change of user")?;
    become_user(*uid, *gid, groups)?;
    set_keep_capabilities(false).step(|| "stop keeping capabilities")?;
    set_sets(*capabilities)?;
    rustix::process::umask(Mode::from_raw_mode(*umask));
    die_with_host()?;
    // The change of user left this to a setting of the node.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "forbid dumps of the process")?;
    match no_new_privileges {
        NoNewPrivileges::Unset => Ok(()),
        NoNewPrivileges::Set => install(filters, pass),
    }
}

/// Changes the user, the group and the additional groups.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Failure> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).step(|| "set the additional groups")?;
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).step(|| format!("become group {gid}"))?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).step(|| format!("become user {uid}"))
}

fn install(filters: &[SeccompFilter], pass: Option<Pass>) -> Result<(), Failure> {
    for (number, filter) in filters.iter().enumerate() {
        pass.map_or_else(
            || filter.install(),
            |pass| filter.behind_gate(pass).install(),
        )
        .step(|| format!("install filter {} of system calls", number + 1))?;
    }
    Ok(())
}

/// Drops all capabilities that the kernel knows, including later ones, except those in `kept`.
fn drop_from_bounding_set(kept: u64) -> Result<(), Failure> {
    // For a number that it does not know the kernel returns an error.
    for number in
        (0..u64::BITS).take_while(|&number| capability_is_in_bounding_set(one(number)).is_ok())
    {
        if kept & one(number).bits() == 0 {
            remove_capability_from_bounding_set(one(number))
                .step(|| format!("drop capability {number} from the bounding set"))?;
        }
    }
    Ok(())
}

fn set_sets(sets: CapabilitySets) -> Result<(), Failure> {
    let CapabilitySets {
        bounding: _,
        effective,
        permitted,
        inheritable,
        ambient,
    } = sets;
    let set = CapabilitySet::from_bits_retain;
    let sets = KernelSets {
        effective: set(effective),
        permitted: set(permitted),
        inheritable: set(inheritable),
    };
    set_capabilities(None, sets).step(|| "set capabilities")?;
    clear_ambient_capability_set().step(|| "clear ambient capabilities")?;
    for number in (0..u64::BITS).filter(|&number| ambient & one(number).bits() != 0) {
        configure_capability_in_ambient_set(one(number), true)
            .step(|| format!("make capability {number} ambient"))?;
    }
    Ok(())
}

fn one(number: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}
