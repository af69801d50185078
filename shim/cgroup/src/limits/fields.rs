//! Fields of the spec that both versions of cgroups read alike.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxResources, LinuxThrottleDevice,
};

use super::draft::{Draft, given};
use crate::CgroupError;

pub(super) const HUGE_PAGES: &str = "linux.resources.hugepageLimits";

/// Sets processors and memory nodes; the files are the same on both versions.
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

/// Limits the number of processes; the file is the same on both versions.
pub(super) fn processes(limit: i64, draft: &mut Draft) {
    if let Some(limit) = given(Some(limit)) {
        let value =
            u64::try_from(limit).map_or_else(|_| "max".to_owned(), |limit| limit.to_string());
        draft.set("linux.resources.pids.limit", "pids", "pids.max", value);
    }
}

/// Returns a page size as in the kernel's file names (`2MB`), safe as part of a path.
pub(super) fn page_size(limit: &LinuxHugepageLimit) -> Result<&str, CgroupError> {
    let size = limit.page_size();
    if size.is_empty() || !size.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(CgroupError::refused(
            HUGE_PAGES,
            format!("{size:?} is not a page size"),
        ));
    }
    Ok(size)
}

/// A field, its file on v1, its key on v2, and its devices.
type Throttle<'a> = (&'static str, [&'static str; 2], &'a [LinuxThrottleDevice]);

/// Returns the four kinds of throttles.
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

/// Limits RDMA devices; the file is the same on both versions.
pub(super) fn rdma(resources: &LinuxResources, draft: &mut Draft) {
    for (device, limit) in sorted(resources.rdma().as_ref()) {
        let handles = limit
            .hca_handles()
            .map(|handles| format!(" hca_handle={handles}"));
        let objects = limit
            .hca_objects()
            .map(|objects| format!(" hca_object={objects}"));
        if handles.is_some() || objects.is_some() {
            let value = format!(
                "{device}{}{}",
                handles.unwrap_or_default(),
                objects.unwrap_or_default()
            );
            draft.set("linux.resources.rdma", "rdma", "rdma.max", value);
        }
    }
}

/// Sorts a map by key, so that the same spec is always set in the same order.
pub(super) fn sorted<T>(map: Option<&HashMap<String, T>>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}
