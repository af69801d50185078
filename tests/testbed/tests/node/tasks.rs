//! containerd's service of tasks: its replies, with their codes, times and metrics.
//!
//! Messages have only the fields that are used here. Numbers and meanings:
//! `api/services/tasks/v1/tasks.proto` of containerd.

use anyhow::{Context as _, Result};
use prost::Message as _;

use crate::grpc::{Client, Refusal};
use crate::metrics::Metrics;

/// The type of a container's limits in requests of containerd's clients.
const RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// The exit of a process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) code: u32,
    /// In seconds since 1970.
    pub(crate) at: f64,
}

/// The state of a process in containerd.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) pid: u32,
    pub(crate) status: Phase,
    pub(crate) code: u32,
}

/// The phase of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Phase {
    Unknown = 0,
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
    Pausing = 5,
}

/// The service of one containerd, for tasks by their ids. An exec process has an id of its own, the
/// main process the empty one.
#[derive(Debug)]
pub(crate) struct Tasks<'a> {
    client: &'a Client,
}

impl<'a> Tasks<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Creates a task of a container, with its root as `ctr` has prepared it; its output is
    /// discarded.
    pub(crate) fn create(&self, id: &str, rootfs: &[Mount]) -> Result<u32, Refusal> {
        let request = CreateTask {
            container_id: id.to_owned(),
            rootfs: rootfs.to_vec(),
            stdout: String::new(),
        };
        self.call::<_, CreatedTask>("Create", request)
            .map(|answer| answer.pid)
    }

    /// As [`Tasks::create`], with standard output written to a FIFO or file.
    pub(crate) fn create_with_output(
        &self,
        id: &str,
        rootfs: &[Mount],
        stdout: &str,
    ) -> Result<u32, Refusal> {
        let request = CreateTask {
            container_id: id.to_owned(),
            rootfs: rootfs.to_vec(),
            stdout: stdout.to_owned(),
        };
        self.call::<_, CreatedTask>("Create", request)
            .map(|answer| answer.pid)
    }

    /// Returns the mounts of a container's root.
    pub(crate) fn rootfs(&self, id: &str) -> Result<Vec<Mount>, Refusal> {
        let request = SnapshotMounts {
            snapshotter: "overlayfs".to_owned(),
            key: id.to_owned(),
        };
        self.client
            .call::<_, Mounts>("containerd.services.snapshots.v1.Snapshots/Mounts", request)
            .map(|answer| answer.mounts)
    }

    pub(crate) fn start(&self, id: &str, exec: &str) -> Result<(), Refusal> {
        self.call::<_, Empty>("Start", Process::new(id, exec))
            .map(drop)
    }

    pub(crate) fn state(&self, id: &str, exec: &str) -> Result<State, Refusal> {
        let answer: Got = self.call("Get", Process::new(id, exec))?;
        let found = answer.process.unwrap_or_default();
        Ok(State {
            pid: found.pid,
            status: found.status(),
            code: found.exit_status,
        })
    }

    pub(crate) fn kill(&self, id: &str, exec: &str, signal: u32) -> Result<(), Refusal> {
        let request = Kill {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            signal,
            all: false,
        };
        self.call::<_, Empty>("Kill", request).map(drop)
    }

    /// Waits for the exit of a process.
    pub(crate) fn wait(&self, id: &str, exec: &str) -> Result<End, Refusal> {
        self.call::<_, Ended>("Wait", Process::new(id, exec))
            .map(|answer| answer.end(answer.exit_status, answer.exited_at.as_ref()))
    }

    pub(crate) fn delete(&self, id: &str) -> Result<End, Refusal> {
        let answer: Deleted = self.call(
            "Delete",
            Task {
                container_id: id.to_owned(),
            },
        )?;
        Ok(answer.end(answer.exit_status, answer.exited_at.as_ref()))
    }

    pub(crate) fn delete_exec(&self, id: &str, exec: &str) -> Result<End, Refusal> {
        let answer: Deleted = self.call("DeleteProcess", Process::new(id, exec))?;
        Ok(answer.end(answer.exit_status, answer.exited_at.as_ref()))
    }

    /// Adds a process to a task: `spec` is OCI's `process`.
    pub(crate) fn exec(
        &self,
        id: &str,
        exec: &str,
        spec: &serde_json::Value,
    ) -> Result<(), Refusal> {
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: spec.to_string().into_bytes(),
        };
        self.call::<_, Empty>(
            "Exec",
            ExecProcess {
                container_id: id.to_owned(),
                spec: Some(spec),
                exec_id: exec.to_owned(),
            },
        )
        .map(drop)
    }

    pub(crate) fn pause(&self, id: &str) -> Result<(), Refusal> {
        self.call::<_, Empty>(
            "Pause",
            Task {
                container_id: id.to_owned(),
            },
        )
        .map(drop)
    }

    pub(crate) fn resume(&self, id: &str) -> Result<(), Refusal> {
        self.call::<_, Empty>(
            "Resume",
            Task {
                container_id: id.to_owned(),
            },
        )
        .map(drop)
    }

    /// Changes limits: `resources` is OCI's `linux.resources`.
    pub(crate) fn update(&self, id: &str, resources: &serde_json::Value) -> Result<(), Refusal> {
        let resources = Any {
            type_url: RESOURCES.to_owned(),
            value: resources.to_string().into_bytes(),
        };
        self.call::<_, Empty>(
            "Update",
            Update {
                container_id: id.to_owned(),
                resources: Some(resources),
            },
        )
        .map(drop)
    }

    pub(crate) fn checkpoint(&self, id: &str) -> Result<(), Refusal> {
        self.call::<_, Empty>(
            "Checkpoint",
            Task {
                container_id: id.to_owned(),
            },
        )
        .map(drop)
    }

    /// Publishes an event.
    pub(crate) fn publish(&self, topic: &str, event: Any) -> Result<(), Refusal> {
        let request = Publish {
            topic: topic.to_owned(),
            event: Some(event),
        };
        self.client
            .call::<_, Empty>("containerd.services.events.v1.Events/Publish", request)
            .map(drop)
    }

    /// Returns the pids of a task's processes.
    pub(crate) fn pids(&self, id: &str) -> Result<Vec<u32>, Refusal> {
        let answer: Pids = self.call(
            "ListPids",
            Task {
                container_id: id.to_owned(),
            },
        )?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// Returns the metrics of a task, in the form of cgroup v1.
    pub(crate) fn metrics(&self, id: &str) -> Result<Metrics> {
        let request = MetricsFilters {
            filters: vec![format!("id=={id}")],
        };
        let answer: AllMetrics = self
            .call("Metrics", request)
            .with_context(|| format!("request the metrics of {id}"))?;
        let one = answer
            .metrics
            .into_iter()
            .find(|metric| metric.id == id)
            .with_context(|| format!("no metrics of {id}"))?;
        let data = one.data.with_context(|| format!("empty metrics of {id}"))?;
        anyhow::ensure!(
            data.type_url.ends_with("io.containerd.cgroups.v1.Metrics"),
            "metrics of {id} are a {}",
            data.type_url
        );
        Metrics::decode(data.value.as_slice()).with_context(|| format!("read the metrics of {id}"))
    }

    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A, Refusal>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.client.call(
            &format!("containerd.services.tasks.v1.Tasks/{method}"),
            message,
        )
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// A request for a task.
#[derive(Clone, PartialEq, prost::Message)]
struct Task {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// A request for a process of a task.
#[derive(Clone, PartialEq, prost::Message)]
struct Process {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, tag = "2")]
    exec_id: String,
}

impl Process {
    fn new(id: &str, exec: &str) -> Self {
        Self {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
        }
    }
}

/// A message with its type.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// A file system to be mounted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    target: String,
    #[prost(string, repeated, tag = "4")]
    options: Vec<String>,
}

impl Mount {
    /// Returns a bind mount of a folder of the machine at `target` in the root, or at the root
    /// itself if that is empty.
    pub(crate) fn bind(source: &str, target: &str) -> Self {
        let options = vec!["rbind".to_owned(), "rw".to_owned()];
        Self {
            r#type: "bind".to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            options,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotMounts {
    #[prost(string, tag = "1")]
    snapshotter: String,
    #[prost(string, tag = "2")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mounts {
    #[prost(message, repeated, tag = "1")]
    mounts: Vec<Mount>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateTask {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(message, repeated, tag = "3")]
    rootfs: Vec<Mount>,
    #[prost(string, tag = "5")]
    stdout: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreatedTask {
    #[prost(uint32, tag = "2")]
    pid: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Got {
    #[prost(message, optional, tag = "1")]
    process: Option<Found>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Found {
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(enumeration = "Phase", tag = "4")]
    status: i32,
    #[prost(uint32, tag = "9")]
    exit_status: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kill {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, tag = "2")]
    exec_id: String,
    #[prost(uint32, tag = "3")]
    signal: u32,
    #[prost(bool, tag = "4")]
    all: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ended {
    #[prost(uint32, tag = "1")]
    exit_status: u32,
    #[prost(message, optional, tag = "2")]
    exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Deleted {
    #[prost(uint32, tag = "3")]
    exit_status: u32,
    #[prost(message, optional, tag = "4")]
    exited_at: Option<Timestamp>,
}

/// Replies with an exit.
trait ExitReply {
    fn end(&self, code: u32, at: Option<&Timestamp>) -> End {
        // The float's precision of half a microsecond is enough.
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 are far below the limit of exact integers"
        )]
        let at = at.map_or(0.0, |at| at.seconds as f64 + f64::from(at.nanos) / 1e9);
        End { code, at }
    }
}

impl ExitReply for Ended {}
impl ExitReply for Deleted {}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecProcess {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(message, optional, tag = "6")]
    spec: Option<Any>,
    #[prost(string, tag = "7")]
    exec_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Update {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(message, optional, tag = "2")]
    resources: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Publish {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(message, optional, tag = "2")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pids {
    #[prost(message, repeated, tag = "1")]
    processes: Vec<Pid>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pid {
    #[prost(uint32, tag = "1")]
    pid: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetricsFilters {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AllMetrics {
    #[prost(message, repeated, tag = "1")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, tag = "2")]
    id: String,
    #[prost(message, optional, tag = "3")]
    data: Option<Any>,
}
