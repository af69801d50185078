//! A container's use of the machine, as containerd hands it on.

/// A container's use of the machine, as cgroup v1 tells it (`stats/metrics.proto` of
/// containerd/cgroups).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metrics {
    #[prost(message, optional, tag = "2")]
    pids: Option<PidsStat>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<CpuStat>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryStat>,
}

impl Metrics {
    /// Processes and threads.
    pub(crate) fn pids(&self) -> u64 {
        self.pids.as_ref().map_or(0, |pids| pids.current)
    }

    /// Nanoseconds of a processor.
    pub(crate) fn cpu(&self) -> u64 {
        self.cpu
            .as_ref()
            .and_then(|cpu| cpu.usage.as_ref())
            .map_or(0, |usage| usage.total)
    }

    /// Bytes that are in use, and the most that may be.
    pub(crate) fn memory(&self) -> (u64, u64) {
        self.memory
            .as_ref()
            .and_then(|memory| memory.usage.as_ref())
            .map_or((0, 0), |entry| (entry.usage, entry.limit))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct PidsStat {
    #[prost(uint64, tag = "1")]
    current: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CpuStat {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CpuUsage {
    #[prost(uint64, tag = "1")]
    total: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryStat {
    #[prost(message, optional, tag = "33")]
    usage: Option<MemoryEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryEntry {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
}
