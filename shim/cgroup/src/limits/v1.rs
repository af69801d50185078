//! Limits on cgroup v1.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};

use super::{Draft, Now, Occasion, Setting, cpu, devices, given, memory, v2};
use crate::CgroupError;

const BLKIO: &str = "blkio";

/// The writes for `resources`.
pub(super) fn settings(
    resources: &LinuxResources,
    now: &dyn Now,
    occasion: Occasion,
) -> Result<Vec<Setting>, CgroupError> {
    if resources
        .unified()
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return Err(CgroupError::refused(
            "linux.resources.unified",
            "its keys are files of cgroup v2, and this machine has v1",
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
    v2::rdma(resources, &mut draft);
    if occasion == Occasion::Creation {
        for (file, rule) in devices::rules(resources.devices().as_deref().unwrap_or_default())? {
            draft.set("linux.resources.devices", "devices", file, rule);
        }
    }
    Ok(draft.0)
}

/// Processors and memory nodes; the files are the same on both versions.
pub(super) fn cpuset(cpu: &LinuxCpu, draft: &mut Draft) {
    let fields = [
        ("linux.resources.cpu.cpus", "cpuset.cpus", cpu.cpus()),
        ("linux.resources.cpu.mems", "cpuset.mems", cpu.mems()),
    ];
    for (field, file, value) in fields {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            draft.set(field, "cpuset", file, value);
        }
    }
}

/// The number of processes; the file is the same on both versions.
pub(super) fn processes(limit: i64, draft: &mut Draft) {
    if let Some(limit) = given(Some(limit)) {
        let value =
            u64::try_from(limit).map_or_else(|_| "max".to_owned(), |limit| limit.to_string());
        draft.set("linux.resources.pids.limit", "pids", "pids.max", value);
    }
}

fn huge_pages(
    limit: &LinuxHugepageLimit,
    now: &dyn Now,
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

pub(super) const HUGE_PAGES: &str = "linux.resources.hugepageLimits";

/// A size as the kernel names its files: `2MB`. It becomes part of a path.
pub(super) fn page_size(limit: &LinuxHugepageLimit) -> Result<&str, CgroupError> {
    let size = limit.page_size();
    if size.is_empty() || !size.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(CgroupError::refused(
            HUGE_PAGES,
            format!("{size:?} is no size of pages"),
        ));
    }
    Ok(size)
}

fn block_io(block_io: &LinuxBlockIo, now: &dyn Now, draft: &mut Draft) -> Result<(), CgroupError> {
    // The scheduler that takes weights is CFQ in old kernels and BFQ in new ones.
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

/// A field, its file on v1 and its key on v2, and the devices.
type Throttle<'a> = (&'static str, [&'static str; 2], &'a [LinuxThrottleDevice]);

/// The four kinds of throttles.
pub(super) fn throttles(block_io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        (
            "linux.resources.blockIO.throttleReadBpsDevice",
            ["blkio.throttle.read_bps_device", "rbps"],
            block_io
                .throttle_read_bps_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "linux.resources.blockIO.throttleWriteBpsDevice",
            ["blkio.throttle.write_bps_device", "wbps"],
            block_io
                .throttle_write_bps_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "linux.resources.blockIO.throttleReadIOPSDevice",
            ["blkio.throttle.read_iops_device", "riops"],
            block_io
                .throttle_read_iops_device()
                .as_deref()
                .unwrap_or_default(),
        ),
        (
            "linux.resources.blockIO.throttleWriteIOPSDevice",
            ["blkio.throttle.write_iops_device", "wiops"],
            block_io
                .throttle_write_iops_device()
                .as_deref()
                .unwrap_or_default(),
        ),
    ]
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
