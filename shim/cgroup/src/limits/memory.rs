//! Memory, on both versions.

use oci_spec::runtime::LinuxMemory;

use super::convert;
use super::draft::{CurrentFiles, Draft, given};
use crate::{CgroupError, files};

const MEMORY: &str = "memory";
const MEMORY_LIMIT: &str = "linux.resources.memory.limit";
const RESERVATION: &str = "linux.resources.memory.reservation";
const SWAP: &str = "linux.resources.memory.swap";
const KERNEL_TCP: &str = "linux.resources.memory.kernelTCP";
const SWAPPINESS: &str = "linux.resources.memory.swappiness";
const OOM_KILLER: &str = "linux.resources.memory.disableOOMKiller";
const USE_HIERARCHY: &str = "linux.resources.memory.useHierarchy";

const V1_LIMIT: &str = "memory.limit_in_bytes";
const V1_SWAP: &str = "memory.memsw.limit_in_bytes";
const V1_OOM: &str = "memory.oom_control";
const V2_SWAP: &str = "memory.swap.max";

pub(super) fn v1(
    memory: &LinuxMemory,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    hierarchical(memory)?;
    check_usage(memory, "memory.usage_in_bytes", now)?;
    let limit = bytes(MEMORY_LIMIT, memory.limit())?;
    let mut swap = bytes(SWAP, memory.swap())?;
    if limit == Some(-1) && swap.is_none() && now.has(MEMORY, V1_SWAP)? {
        // The sum may not be less than its part.
        swap = Some(-1);
    }
    let swap_first = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => now
            .number(MEMORY, V1_LIMIT)?
            .is_some_and(|before| u64::try_from(swap).is_ok_and(|swap| swap > before)),
        _ => false,
    };
    let both = [(MEMORY_LIMIT, V1_LIMIT, limit), (SWAP, V1_SWAP, swap)];
    let order = if swap_first { [1, 0] } else { [0, 1] };
    for (field, file, value) in order.map(|index| both[index]) {
        if let Some(value) = value {
            draft.set(field, MEMORY, file, value);
        }
    }
    if let Some(reservation) = bytes(RESERVATION, memory.reservation())? {
        draft.set(
            RESERVATION,
            MEMORY,
            "memory.soft_limit_in_bytes",
            reservation,
        );
    }
    if let Some(limit) = bytes(KERNEL_TCP, memory.kernel_tcp())? {
        draft.set(KERNEL_TCP, MEMORY, "memory.kmem.tcp.limit_in_bytes", limit);
    }
    if let Some(swappiness) = swappiness(memory)? {
        draft.set(SWAPPINESS, MEMORY, "memory.swappiness", swappiness);
    }
    match memory.disable_oom_killer() {
        Some(true) => draft.set(OOM_KILLER, MEMORY, V1_OOM, 1),
        // It is enabled in a new cgroup.
        Some(false)
            if now
                .text(MEMORY, V1_OOM)?
                .is_some_and(|text| files::keyed(&text, "oom_kill_disable") == Some(1)) =>
        {
            draft.set(OOM_KILLER, MEMORY, V1_OOM, 0);
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn v2(
    memory: &LinuxMemory,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    hierarchical(memory)?;
    let without = |field| CgroupError::refused(field, "cgroup v2 has no such limit");
    if given(memory.kernel_tcp()).is_some() {
        return Err(without(KERNEL_TCP));
    }
    if swappiness(memory)?.is_some() {
        return Err(without(SWAPPINESS));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(CgroupError::refused(
            OOM_KILLER,
            "cgroup v2 cannot switch it off",
        ));
    }
    check_usage(memory, "memory.current", now)?;
    let limit = bytes(MEMORY_LIMIT, memory.limit())?;
    let swap = convert::swap(bytes(SWAP, memory.swap())?, limit)
        .map_err(|problem| CgroupError::refused(SWAP, problem))?;
    if let Some(swap) = swap {
        // A kernel without swap accounting has no file for it. A limit of no swap and one of
        // unlimited swap need no write there.
        let nothing_to_say = swap == "0" || swap == "max";
        if !nothing_to_say || now.has(MEMORY, V2_SWAP)? {
            draft.set(SWAP, MEMORY, V2_SWAP, swap);
        }
    }
    for (field, file, value) in [
        (MEMORY_LIMIT, "memory.max", limit),
        (
            RESERVATION,
            "memory.low",
            bytes(RESERVATION, memory.reservation())?,
        ),
    ] {
        if let Some(value) = value.and_then(convert::limit) {
            draft.set(field, MEMORY, file, value);
        }
    }
    Ok(())
}

/// Parses a number of bytes; -1 means no limit.
fn bytes(field: &'static str, value: Option<i64>) -> Result<Option<i64>, CgroupError> {
    match given(value) {
        Some(value) if value < -1 => Err(CgroupError::refused(
            field,
            format!("{value} is not a number of bytes"),
        )),
        value => Ok(value),
    }
}

fn swappiness(memory: &LinuxMemory) -> Result<Option<u64>, CgroupError> {
    match memory.swappiness() {
        // Clients write -1 ("as the parent") into an unsigned field like this.
        None | Some(u64::MAX) => Ok(None),
        Some(value) if value <= 100 => Ok(Some(value)),
        Some(value) => Err(CgroupError::refused(
            SWAPPINESS,
            format!("{value} is not between 0 and 100"),
        )),
    }
}

/// Kernels since 5.11 always count what is below a cgroup.
fn hierarchical(memory: &LinuxMemory) -> Result<(), CgroupError> {
    if memory.use_hierarchy() == Some(false) {
        return Err(CgroupError::refused(
            USE_HIERARCHY,
            "the kernel always counts the cgroups below",
        ));
    }
    Ok(())
}

/// Refuses a limit below the current usage if `checkBeforeUpdate` is set, instead of enforcing it
/// by OOM kills.
fn check_usage(
    memory: &LinuxMemory,
    file: &str,
    now: &dyn CurrentFiles,
) -> Result<(), CgroupError> {
    if memory.check_before_update() != Some(true) {
        return Ok(());
    }
    let Some(limit) = given(memory.limit()).and_then(|limit| u64::try_from(limit).ok()) else {
        return Ok(());
    };
    match now.number(MEMORY, file)? {
        Some(used) if used > limit => Err(CgroupError::refused(
            MEMORY_LIMIT,
            format!("{used} bytes are in use, {limit} is less"),
        )),
        _ => Ok(()),
    }
}
