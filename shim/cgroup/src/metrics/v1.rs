//! Metrics of cgroup v1.

use std::fs;

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use containerd_shim_protos::protobuf::MessageField;

use super::source::{self, Keyed, Source, device};
use crate::CgroupError;

/// The file in which the kernel counts OOM kills.
pub(super) const OOM: &str = "memory.oom_control";
const NANOSECONDS: u64 = 1_000_000_000;

pub(super) fn metrics(source: &Source<'_>) -> Result<Metrics, CgroupError> {
    Ok(Metrics {
        hugetlb: huge_pages(source)?,
        pids: pids(source)?.into(),
        cpu: cpu(source)?.into(),
        memory: memory(source)?.into(),
        blkio: Some(block_io(source)?).into(),
        rdma: rdma(source)?.into(),
        memory_oom_control: oom(source)?.into(),
        ..Metrics::default()
    })
}

fn huge_pages(source: &Source<'_>) -> Result<Vec<HugetlbStat>, CgroupError> {
    let read = |size: String| {
        let number = |what: &str| {
            Ok::<_, CgroupError>(
                source
                    .number("hugetlb", &format!("hugetlb.{size}.{what}"))?
                    .unwrap_or(0),
            )
        };
        let (usage, max, failcnt) = (
            number("usage_in_bytes")?,
            number("max_usage_in_bytes")?,
            number("failcnt")?,
        );
        Ok(HugetlbStat {
            usage,
            max,
            failcnt,
            pagesize: size,
            ..HugetlbStat::default()
        })
    };
    source
        .page_sizes(".usage_in_bytes")
        .into_iter()
        .map(read)
        .collect()
}

fn pids(source: &Source<'_>) -> Result<Option<PidsStat>, CgroupError> {
    let Some(current) = source.number("pids", "pids.current")? else {
        return Ok(None);
    };
    // In containerd's message 0 means no limit.
    let limit = source
        .number("pids", "pids.max")?
        .filter(|limit| *limit != u64::MAX)
        .unwrap_or(0);
    Ok(Some(PidsStat {
        current,
        limit,
        ..PidsStat::default()
    }))
}

fn cpu(source: &Source<'_>) -> Result<Option<CPUStat>, CgroupError> {
    let usage = source.number("cpuacct", "cpuacct.usage")?.map(|total| {
        let split = source.keyed("cpuacct", "cpuacct.stat")?;
        let per_cpu = source
            .text("cpuacct", "cpuacct.usage_percpu")?
            .unwrap_or_default();
        let ticks = |key: &str| {
            split.as_ref().map_or(0, |split| split.at(key))
                * (NANOSECONDS / rustix::param::clock_ticks_per_second())
        };
        let (kernel, user) = (ticks("system"), ticks("user"));
        let per_cpu = per_cpu
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        Ok::<_, CgroupError>(CPUUsage {
            total,
            kernel,
            user,
            per_cpu,
            ..CPUUsage::default()
        })
    });
    let usage = usage.transpose()?;
    let throttling = source.keyed("cpu", "cpu.stat")?.map(|stat| Throttle {
        periods: stat.at("nr_periods"),
        throttled_periods: stat.at("nr_throttled"),
        throttled_time: stat.at("throttled_time"),
        ..Throttle::default()
    });
    if usage.is_none() && throttling.is_none() {
        return Ok(None);
    }
    Ok(Some(CPUStat {
        usage: usage.into(),
        throttling: throttling.into(),
        ..CPUStat::default()
    }))
}

fn memory(source: &Source<'_>) -> Result<Option<MemoryStat>, CgroupError> {
    let Some(stat) = source.keyed("memory", "memory.stat")? else {
        return Ok(None);
    };
    let entry =
        |name: &str| Ok::<_, CgroupError>(MessageField::from_option(memory_entry(source, name)?));
    let (usage, swap) = (entry("memory.")?, entry("memory.memsw.")?);
    let (kernel, kernel_tcp) = (entry("memory.kmem.")?, entry("memory.kmem.tcp.")?);
    Ok(Some(MemoryStat {
        usage,
        swap,
        kernel,
        kernel_tcp,
        ..memory_of(&stat)
    }))
}

/// Converts memory.stat: values of the cgroup alone, and of all below it.
fn memory_of(stat: &Keyed) -> MemoryStat {
    MemoryStat {
        cache: stat.at("cache"),
        rss: stat.at("rss"),
        rss_huge: stat.at("rss_huge"),
        mapped_file: stat.at("mapped_file"),
        dirty: stat.at("dirty"),
        writeback: stat.at("writeback"),
        pg_pg_in: stat.at("pgpgin"),
        pg_pg_out: stat.at("pgpgout"),
        pg_fault: stat.at("pgfault"),
        pg_maj_fault: stat.at("pgmajfault"),
        inactive_anon: stat.at("inactive_anon"),
        active_anon: stat.at("active_anon"),
        inactive_file: stat.at("inactive_file"),
        active_file: stat.at("active_file"),
        unevictable: stat.at("unevictable"),
        hierarchical_memory_limit: stat.at("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat.at("hierarchical_memsw_limit"),
        total_cache: stat.at("total_cache"),
        total_rss: stat.at("total_rss"),
        total_rss_huge: stat.at("total_rss_huge"),
        total_mapped_file: stat.at("total_mapped_file"),
        total_dirty: stat.at("total_dirty"),
        total_writeback: stat.at("total_writeback"),
        total_pg_pg_in: stat.at("total_pgpgin"),
        total_pg_pg_out: stat.at("total_pgpgout"),
        total_pg_fault: stat.at("total_pgfault"),
        total_pg_maj_fault: stat.at("total_pgmajfault"),
        total_inactive_anon: stat.at("total_inactive_anon"),
        total_active_anon: stat.at("total_active_anon"),
        total_inactive_file: stat.at("total_inactive_file"),
        total_active_file: stat.at("total_active_file"),
        total_unevictable: stat.at("total_unevictable"),
        ..MemoryStat::default()
    }
}

/// Reads one kind of memory: limit, usage, maximum usage, and how often the limit was hit.
fn memory_entry(source: &Source<'_>, prefix: &str) -> Result<Option<MemoryEntry>, CgroupError> {
    let number = |what: &str| source.number("memory", &format!("{prefix}{what}"));
    let Some(usage) = number("usage_in_bytes")? else {
        return Ok(None);
    };
    let limit = number("limit_in_bytes")?.unwrap_or(0);
    let (max, failcnt) = (
        number("max_usage_in_bytes")?.unwrap_or(0),
        number("failcnt")?.unwrap_or(0),
    );
    Ok(Some(MemoryEntry {
        limit,
        usage,
        max,
        failcnt,
        ..MemoryEntry::default()
    }))
}

fn block_io(source: &Source<'_>) -> Result<BlkIOStat, CgroupError> {
    let entries = |file: &str| {
        let text = source.text("blkio", file)?.unwrap_or_default();
        Ok::<_, CgroupError>(text.lines().filter_map(block_io_entry).collect())
    };
    Ok(BlkIOStat {
        io_service_bytes_recursive: entries("blkio.throttle.io_service_bytes_recursive")?,
        io_serviced_recursive: entries("blkio.throttle.io_serviced_recursive")?,
        ..BlkIOStat::default()
    })
}

/// Parses a line such as `8:0 Read 4096`. `Total 4096`, the sum of all devices, is skipped.
pub(super) fn block_io_entry(line: &str) -> Option<BlkIOEntry> {
    let [numbers, operation, value] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    let (major, minor) = device(numbers)?;
    let device = fs::read_link(format!("/sys/dev/block/{numbers}")).ok();
    let device = device
        .and_then(|link| Some(format!("/dev/{}", link.file_name()?.to_string_lossy())))
        .unwrap_or_default();
    Some(BlkIOEntry {
        op: operation.to_owned(),
        device,
        major,
        minor,
        value: value.parse().ok()?,
        ..BlkIOEntry::default()
    })
}

fn rdma(source: &Source<'_>) -> Result<Option<RdmaStat>, CgroupError> {
    let Some(current) = source.text("rdma", "rdma.current")? else {
        return Ok(None);
    };
    let limits = source.text("rdma", "rdma.max")?.unwrap_or_default();
    let entries = |text: &str| text.lines().filter_map(rdma_entry).collect();
    Ok(Some(RdmaStat {
        current: entries(&current),
        limit: entries(&limits),
        ..RdmaStat::default()
    }))
}

fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let (device, hca_handles, hca_objects) = source::rdma(line)?;
    Some(RdmaEntry {
        device,
        hca_handles,
        hca_objects,
        ..RdmaEntry::default()
    })
}

fn oom(source: &Source<'_>) -> Result<Option<MemoryOomControl>, CgroupError> {
    Ok(source
        .keyed("memory", OOM)?
        .map(|control| MemoryOomControl {
            oom_kill_disable: control.at("oom_kill_disable"),
            under_oom: control.at("under_oom"),
            oom_kill: control.at("oom_kill"),
            ..MemoryOomControl::default()
        }))
}
