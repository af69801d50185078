//! A container's metrics, as containerd passes them on.

/// A container's metrics in the form of cgroup v1 (`stats/metrics.proto` of containerd/cgroups).
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
    /// Returns the number of processes and threads.
    pub(crate) fn pids(&self) -> u64 {
        self.pids.as_ref().map_or(0, |pids| pids.current)
    }

    /// Returns the CPU time in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        self.cpu
            .as_ref()
            .and_then(|cpu| cpu.usage.as_ref())
            .map_or(0, |usage| usage.total)
    }

    /// Returns the memory in use and its limit, in bytes.
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
