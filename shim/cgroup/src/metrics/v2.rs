//! Metrics of cgroup v2.

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};

use super::source::{self, Keyed, Source, device};
use crate::{CgroupError, files};

/// Memory events, including OOM kills, in the cgroup and below.
pub(super) const MEMORY_EVENTS: &str = "memory.events";

pub(super) fn metrics(source: &Source<'_>) -> Result<Metrics, CgroupError> {
    Ok(Metrics {
        pids: pids(source)?.into(),
        cpu: cpu(source)?.into(),
        memory: memory(source)?.into(),
        rdma: rdma(source)?.into(),
        io: io(source)?.into(),
        hugetlb: huge_pages(source)?,
        memory_events: memory_events(source)?.into(),
        ..Metrics::default()
    })
}

fn pids(source: &Source<'_>) -> Result<Option<PidsStat>, CgroupError> {
    let Some(current) = source.number("pids", "pids.current")? else {
        return Ok(None);
    };
    let limit = source.number("pids", "pids.max")?.unwrap_or(0);
    Ok(Some(PidsStat {
        current,
        limit,
        ..PidsStat::default()
    }))
}

fn cpu(source: &Source<'_>) -> Result<Option<CPUStat>, CgroupError> {
    let Some(stat) = source.keyed("cpu", "cpu.stat")? else {
        return Ok(None);
    };
    Ok(Some(CPUStat {
        usage_usec: stat.at("usage_usec"),
        user_usec: stat.at("user_usec"),
        system_usec: stat.at("system_usec"),
        nr_periods: stat.at("nr_periods"),
        nr_throttled: stat.at("nr_throttled"),
        throttled_usec: stat.at("throttled_usec"),
        nr_bursts: stat.at("nr_bursts"),
        burst_usec: stat.at("burst_usec"),
        psi: pressure(source, "cpu", "cpu.pressure")?.into(),
        ..CPUStat::default()
    }))
}

fn memory(source: &Source<'_>) -> Result<Option<MemoryStat>, CgroupError> {
    let Some(stat) = source.keyed("memory", "memory.stat")? else {
        return Ok(None);
    };
    let number = |file: &str| Ok::<_, CgroupError>(source.number("memory", file)?.unwrap_or(0));
    Ok(Some(MemoryStat {
        usage: number("memory.current")?,
        usage_limit: number("memory.max")?,
        max_usage: number("memory.peak")?,
        swap_usage: number("memory.swap.current")?,
        swap_limit: number("memory.swap.max")?,
        swap_max_usage: number("memory.swap.peak")?,
        psi: pressure(source, "memory", "memory.pressure")?.into(),
        ..memory_of(&stat)
    }))
}

/// Converts memory.stat.
fn memory_of(stat: &Keyed) -> MemoryStat {
    MemoryStat {
        anon: stat.at("anon"),
        file: stat.at("file"),
        kernel_stack: stat.at("kernel_stack"),
        slab: stat.at("slab"),
        sock: stat.at("sock"),
        shmem: stat.at("shmem"),
        file_mapped: stat.at("file_mapped"),
        file_dirty: stat.at("file_dirty"),
        file_writeback: stat.at("file_writeback"),
        anon_thp: stat.at("anon_thp"),
        inactive_anon: stat.at("inactive_anon"),
        active_anon: stat.at("active_anon"),
        inactive_file: stat.at("inactive_file"),
        active_file: stat.at("active_file"),
        unevictable: stat.at("unevictable"),
        slab_reclaimable: stat.at("slab_reclaimable"),
        slab_unreclaimable: stat.at("slab_unreclaimable"),
        pgfault: stat.at("pgfault"),
        pgmajfault: stat.at("pgmajfault"),
        // Since Linux 5.9 counted separately for anonymous memory and for files.
        workingset_refault: stat.at("workingset_refault")
            + stat.at("workingset_refault_anon")
            + stat.at("workingset_refault_file"),
        workingset_activate: stat.at("workingset_activate")
            + stat.at("workingset_activate_anon")
            + stat.at("workingset_activate_file"),
        workingset_nodereclaim: stat.at("workingset_nodereclaim"),
        pgrefill: stat.at("pgrefill"),
        pgscan: stat.at("pgscan"),
        pgsteal: stat.at("pgsteal"),
        pgactivate: stat.at("pgactivate"),
        pgdeactivate: stat.at("pgdeactivate"),
        pglazyfree: stat.at("pglazyfree"),
        pglazyfreed: stat.at("pglazyfreed"),
        thp_fault_alloc: stat.at("thp_fault_alloc"),
        thp_collapse_alloc: stat.at("thp_collapse_alloc"),
        ..MemoryStat::default()
    }
}

fn memory_events(source: &Source<'_>) -> Result<Option<MemoryEvents>, CgroupError> {
    Ok(source
        .keyed("memory", MEMORY_EVENTS)?
        .map(|events| MemoryEvents {
            low: events.at("low"),
            high: events.at("high"),
            max: events.at("max"),
            oom: events.at("oom"),
            oom_kill: events.at("oom_kill"),
            oom_group_kill: events.at("oom_group_kill"),
            ..MemoryEvents::default()
        }))
}

/// Reads pressure stall information. Kernels without the accounting return an error of their own,
/// which counts as a missing file.
fn pressure(
    source: &Source<'_>,
    controller: &str,
    file: &str,
) -> Result<Option<PSIStats>, CgroupError> {
    let text = match source.text(controller, file) {
        Err(CgroupError::Io { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => {
            return Ok(None);
        }
        text => text?,
    };
    Ok(text.map(|text| {
        let line = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(pressure_of)
        };
        PSIStats {
            some: line("some ").into(),
            full: line("full ").into(),
            ..PSIStats::default()
        }
    }))
}

/// `avg10=0.12 avg60=0.03 avg300=0.00 total=1234`.
fn pressure_of(line: &str) -> PSIData {
    let word = |key: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let share = |key: &str| {
        word(key)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0.0)
    };
    let total = word("total")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    PSIData {
        avg10: share("avg10"),
        avg60: share("avg60"),
        avg300: share("avg300"),
        total,
        ..PSIData::default()
    }
}

fn io(source: &Source<'_>) -> Result<Option<IOStat>, CgroupError> {
    let Some(stat) = source.text("io", "io.stat")? else {
        return Ok(None);
    };
    let usage = stat.lines().filter_map(io_entry).collect();
    Ok(Some(IOStat {
        usage,
        psi: pressure(source, "io", "io.pressure")?.into(),
        ..IOStat::default()
    }))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
pub(super) fn io_entry(line: &str) -> Option<IOEntry> {
    let (numbers, counts) = line.split_once(' ')?;
    let (major, minor) = device(numbers)?;
    let count = |key: &str| {
        let value = counts
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        value.and_then(files::parse).unwrap_or(0)
    };
    let (rbytes, wbytes, rios, wios) = (
        count("rbytes"),
        count("wbytes"),
        count("rios"),
        count("wios"),
    );
    Some(IOEntry {
        major,
        minor,
        rbytes,
        wbytes,
        rios,
        wios,
        ..IOEntry::default()
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

fn huge_pages(source: &Source<'_>) -> Result<Vec<HugeTlbStat>, CgroupError> {
    let read = |size: String| {
        let number = |what: &str| {
            Ok::<_, CgroupError>(
                source
                    .number("hugetlb", &format!("hugetlb.{size}.{what}"))?
                    .unwrap_or(0),
            )
        };
        let (current, max) = (number("current")?, number("max")?);
        let failcnt = source
            .keyed("hugetlb", &format!("hugetlb.{size}.events"))?
            .map_or(0, |events| events.at("max"));
        Ok(HugeTlbStat {
            current,
            max,
            failcnt,
            pagesize: size,
            ..HugeTlbStat::default()
        })
    };
    source
        .page_sizes(".current")
        .into_iter()
        .map(read)
        .collect()
}
