//! Limits on cgroup v2.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxHugepageLimit, LinuxNetwork, LinuxResources};

use super::draft::{CurrentFiles, Draft, Setting, given};
use super::fields::{HUGE_PAGES, cpuset, page_size, processes, rdma, sorted, throttles};
use super::{convert, cpu, devices, memory};
use crate::CgroupError;

const IO: &str = "io";
/// The prefix of files that every cgroup has, whatever its controllers.
pub(super) const CORE: &str = "cgroup";
/// Files of every cgroup that are limits; the others are commands.
const CORE_LIMITS: [&str; 3] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
];

/// Returns the writes for `resources`. `unified` comes last, because it is more exact than the
/// other fields, which use v1 terms.
pub(super) fn settings(
    resources: &LinuxResources,
    now: &dyn CurrentFiles,
) -> Result<Vec<Setting>, CgroupError> {
    let mut draft = Draft::default();
    if let Some(cpu) = resources.cpu() {
        cpuset(cpu, &mut draft);
        cpu::v2(cpu, now, &mut draft)?;
    }
    if let Some(memory) = resources.memory() {
        memory::v2(memory, now, &mut draft)?;
    }
    if let Some(pids) = resources.pids() {
        processes(pids.limit(), &mut draft);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        huge_pages(limit, now, &mut draft)?;
    }
    if let Some(block_io) = resources.block_io() {
        self::block_io(block_io, now, &mut draft)?;
    }
    if let Some(network) = resources.network() {
        no_network(network)?;
    }
    rdma(resources, &mut draft);
    devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    if let Some(unified) = resources.unified() {
        self::unified(unified, &mut draft)?;
    }
    Ok(draft.0)
}

fn huge_pages(
    limit: &LinuxHugepageLimit,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    let size = page_size(limit)?;
    let value = convert::limit(limit.limit()).ok_or_else(|| {
        CgroupError::refused(
            HUGE_PAGES,
            format!("{} is not a number of bytes", limit.limit()),
        )
    })?;
    draft.set(
        HUGE_PAGES,
        "hugetlb",
        format!("hugetlb.{size}.max"),
        value.clone(),
    );
    let reserved = format!("hugetlb.{size}.rsvd.max");
    if now.has("hugetlb", &reserved)? {
        draft.set(HUGE_PAGES, "hugetlb", reserved, value);
    }
    Ok(())
}

fn block_io(
    block_io: &LinuxBlockIo,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    const BFQ: &str = "io.bfq.weight";
    if given(block_io.leaf_weight()).is_some() {
        return Err(CgroupError::refused(
            "linux.resources.blockIO.leafWeight",
            "cgroup v2 has no such weight",
        ));
    }
    if let Some(weight) = given(block_io.weight()) {
        const FIELD: &str = "linux.resources.blockIO.weight";
        if now.has(IO, BFQ)? {
            draft.set(FIELD, IO, BFQ, weight);
        } else {
            let converted = convert::io_weight(weight);
            let refused =
                || CgroupError::refused(FIELD, format!("{weight} is not between 10 and 1000"));
            draft.set(FIELD, IO, "io.weight", converted.ok_or_else(refused)?);
        }
    }
    for device in block_io.weight_device().iter().flatten() {
        const FIELD: &str = "linux.resources.blockIO.weightDevice";
        if given(device.leaf_weight()).is_some() {
            return Err(CgroupError::refused(FIELD, "cgroup v2 has no leaf weights"));
        }
        if let Some(weight) = given(device.weight()) {
            // Weights of single devices are BFQ's; a kernel without it returns an error that names
            // the file.
            draft.set(
                FIELD,
                IO,
                BFQ,
                format!("{}:{} {weight}", device.major(), device.minor()),
            );
        }
    }
    for (field, [_, key], devices) in throttles(block_io) {
        for device in devices {
            // No limit is 0 in the spec and `max` here.
            let rate = given(Some(device.rate()))
                .map_or_else(|| "max".to_owned(), |rate| rate.to_string());
            draft.set(
                field,
                IO,
                "io.max",
                format!("{}:{} {key}={rate}", device.major(), device.minor()),
            );
        }
    }
    Ok(())
}

fn no_network(network: &LinuxNetwork) -> Result<(), CgroupError> {
    let without = |field| {
        Err(CgroupError::refused(
            field,
            "cgroup v2 has no controller for it",
        ))
    };
    if given(network.class_id()).is_some() {
        return without("linux.resources.network.classID");
    }
    if network
        .priorities()
        .as_ref()
        .is_some_and(|priorities| !priorities.is_empty())
    {
        return without("linux.resources.network.priorities");
    }
    Ok(())
}

/// Writes the files that `unified` names.
fn unified(unified: &HashMap<String, String>, draft: &mut Draft) -> Result<(), CgroupError> {
    for (key, value) in sorted(Some(unified)) {
        let field = format!("linux.resources.unified[{key:?}]");
        let Some((controller, rest)) = key.split_once('.') else {
            return Err(CgroupError::refused(field, "it names no controller"));
        };
        if controller.is_empty() || rest.is_empty() || key.contains('/') {
            return Err(CgroupError::refused(
                field,
                "it is not a file of a controller",
            ));
        }
        if controller == CORE && !CORE_LIMITS.contains(&key.as_str()) {
            return Err(CgroupError::refused(field, "it is not a limit"));
        }
        // Several lines are several writes: the kernel takes one device at a time.
        for line in value.lines().filter(|line| !line.is_empty()) {
            draft.set(field.clone(), controller.to_owned(), key.clone(), line);
        }
    }
    Ok(())
}
