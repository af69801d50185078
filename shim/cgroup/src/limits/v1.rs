//! Limits on cgroup v1.

use oci_spec::runtime::{LinuxBlockIo, LinuxHugepageLimit, LinuxNetwork, LinuxResources};

use super::draft::{CurrentFiles, Draft, Occasion, Setting, given};
use super::fields::{HUGE_PAGES, cpuset, page_size, processes, rdma, throttles};
use super::{cpu, devices, memory};
use crate::CgroupError;

const BLKIO: &str = "blkio";

/// Returns the writes for `resources`.
pub(super) fn settings(
    resources: &LinuxResources,
    now: &dyn CurrentFiles,
    occasion: Occasion,
) -> Result<Vec<Setting>, CgroupError> {
    if resources
        .unified()
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return Err(CgroupError::refused(
            "linux.resources.unified",
            "its keys are files of cgroup v2, and this node has v1",
        ));
    }
    let mut draft = Draft::default();
    if let Some(cpu) = resources.cpu() {
        cpuset(cpu, &mut draft);
        cpu::v1(cpu, now, &mut draft)?;
    }
    if let Some(memory) = resources.memory() {
        memory::v1(memory, now, &mut draft)?;
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
        self::network(network, &mut draft);
    }
    rdma(resources, &mut draft);
    if occasion == Occasion::Creation {
        for (file, rule) in devices::rules(resources.devices().as_deref().unwrap_or_default())? {
            draft.set("linux.resources.devices", "devices", file, rule);
        }
    }
    Ok(draft.0)
}

fn huge_pages(
    limit: &LinuxHugepageLimit,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    let size = page_size(limit)?;
    draft.set(
        HUGE_PAGES,
        "hugetlb",
        format!("hugetlb.{size}.limit_in_bytes"),
        limit.limit(),
    );
    let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
    if now.has("hugetlb", &reserved)? {
        draft.set(HUGE_PAGES, "hugetlb", reserved, limit.limit());
    }
    Ok(())
}

fn block_io(
    block_io: &LinuxBlockIo,
    now: &dyn CurrentFiles,
    draft: &mut Draft,
) -> Result<(), CgroupError> {
    // The I/O scheduler with weights is CFQ in old kernels and BFQ in new ones.
    let named = |plain: &'static str, bfq: &'static str| {
        Ok::<_, CgroupError>(if now.has(BLKIO, plain)? { plain } else { bfq })
    };
    if let Some(weight) = given(block_io.weight()) {
        draft.set(
            "linux.resources.blockIO.weight",
            BLKIO,
            named("blkio.weight", "blkio.bfq.weight")?,
            weight,
        );
    }
    if let Some(weight) = given(block_io.leaf_weight()) {
        draft.set(
            "linux.resources.blockIO.leafWeight",
            BLKIO,
            "blkio.leaf_weight",
            weight,
        );
    }
    for device in block_io.weight_device().iter().flatten() {
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = given(device.weight()) {
            let file = named("blkio.weight_device", "blkio.bfq.weight_device")?;
            draft.set(
                "linux.resources.blockIO.weightDevice",
                BLKIO,
                file,
                format!("{major}:{minor} {weight}"),
            );
        }
        if let Some(weight) = given(device.leaf_weight()) {
            let value = format!("{major}:{minor} {weight}");
            draft.set(
                "linux.resources.blockIO.weightDevice",
                BLKIO,
                "blkio.leaf_weight_device",
                value,
            );
        }
    }
    for (field, [v1, _], devices) in throttles(block_io) {
        for device in devices {
            draft.set(
                field,
                BLKIO,
                v1,
                format!("{}:{} {}", device.major(), device.minor(), device.rate()),
            );
        }
    }
    Ok(())
}

fn network(network: &LinuxNetwork, draft: &mut Draft) {
    if let Some(class) = given(network.class_id()) {
        draft.set(
            "linux.resources.network.classID",
            "net_cls",
            "net_cls.classid",
            class,
        );
    }
    for priority in network.priorities().iter().flatten() {
        let value = format!("{} {}", priority.name(), priority.priority());
        draft.set(
            "linux.resources.network.priorities",
            "net_prio",
            "net_prio.ifpriomap",
            value,
        );
    }
}
