//! Pods as kubelet asks for them: CRI's calls, and a containerd that serves them.
//!
//! Messages have the fields that are used here and no others. Numbers and meanings: `k8s.io/cri-api`,
//! `pkg/apis/runtime/v1/api.proto`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::grpc::Client;

pub(crate) use crate::cri_config::{ContainerConfig, NamespaceMode, PodConfig, Resources, pod};

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ContainerState {
    Created = 0,
    Running = 1,
    Exited = 2,
    Unknown = 3,
}

/// Whether a pod's sandbox can take containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum SandboxState {
    Ready = 0,
    NotReady = 1,
}

/// CRI of one containerd.
#[derive(Debug)]
pub(crate) struct Cri<'a> {
    client: &'a Client,
}

impl<'a> Cri<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    pub(crate) fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        let request = RunPodSandbox { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        self.call::<_, Id>("RunPodSandbox", request).map(|answer| answer.id)
    }

    /// Ends everything in a sandbox, and removes it.
    pub(crate) fn remove_sandbox(&self, id: &str) -> Result<()> {
        let stop = || self.call::<_, Empty>("StopPodSandbox", Id { id: id.to_owned() });
        // containerd hears of the sandbox's end, deletes its task and hangs up, maybe before it reads the answer to the
        // kill that it asked for itself. kubelet asks again, too.
        stop().or_else(|error| if format!("{error:#}").contains("ttrpc: closed") { stop() } else { Err(error) })?;
        self.call::<_, Empty>("RemovePodSandbox", Id { id: id.to_owned() }).map(drop)
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<SandboxStatus> {
        let answer: PodSandboxStatusResponse = self.call("PodSandboxStatus", Id { id: id.to_owned() })?;
        answer.status.with_context(|| format!("no status of sandbox {id}"))
    }

    pub(crate) fn create_container(&self, sandbox: &str, pod: &PodConfig, container: ContainerConfig) -> Result<String> {
        let request = CreateContainer { pod_sandbox_id: sandbox.to_owned(), config: Some(container), sandbox_config: Some(pod.clone()) };
        self.call::<_, Id>("CreateContainer", request).map(|answer| answer.id)
    }

    pub(crate) fn start_container(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StartContainer", Id { id: id.to_owned() }).map(drop)
    }

    /// Ends a container: by SIGTERM, and after `grace` by SIGKILL.
    pub(crate) fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        self.call::<_, Empty>("StopContainer", StopContainer { container_id: id.to_owned(), timeout }).map(drop)
    }

    pub(crate) fn remove_container(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("RemoveContainer", Id { id: id.to_owned() }).map(drop)
    }

    pub(crate) fn container(&self, id: &str) -> Result<ContainerStatus> {
        let answer: ContainerStatusResponse = self.call("ContainerStatus", Id { id: id.to_owned() })?;
        answer.status.with_context(|| format!("no status of container {id}"))
    }

    /// Runs a program in a container to its end, as exec probes do; without a limit if `seconds` is 0.
    pub(crate) fn exec_sync(&self, id: &str, words: &[&str], seconds: i64) -> Result<Executed> {
        let cmd = words.iter().map(|word| (*word).to_owned()).collect();
        self.call("ExecSync", ExecSync { container_id: id.to_owned(), cmd, timeout: seconds })
    }

    pub(crate) fn update(&self, id: &str, resources: Resources) -> Result<()> {
        self.call::<_, Empty>("UpdateContainerResources", UpdateResources { container_id: id.to_owned(), linux: Some(resources) }).map(drop)
    }

    pub(crate) fn stats(&self, id: &str) -> Result<ContainerStats> {
        let answer: ContainerStatsResponse = self.call("ContainerStats", Id { id: id.to_owned() })?;
        answer.stats.with_context(|| format!("no stats of container {id}"))
    }

    /// The containers that statistics are there of, by their ids.
    pub(crate) fn all_stats(&self) -> Result<Vec<String>> {
        let answer: AllStats = self.call("ListContainerStats", Empty {})?;
        Ok(answer.stats.into_iter().filter_map(|one| Some(one.attributes?.id)).collect())
    }

    /// The pods that statistics are there of, by their ids.
    pub(crate) fn all_pods_stats(&self) -> Result<Vec<String>> {
        let answer: AllStats = self.call("ListPodSandboxStats", Empty {})?;
        Ok(answer.stats.into_iter().filter_map(|one| Some(one.attributes?.id)).collect())
    }

    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.client.call(&format!("runtime.v1.RuntimeService/{method}"), message).with_context(|| format!("CRI's {method}"))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// Of requests and answers that hold an id alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
    #[prost(string, tag = "2")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxStatus {
    #[prost(enumeration = "SandboxState", tag = "3")]
    pub(crate) state: i32,
    /// In nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StopContainer {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerStatus {
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub(crate) state: i32,
    #[prost(int32, tag = "7")]
    pub(crate) exit_code: i32,
    /// `OOMKilled`, `Error`, `Completed`.
    #[prost(string, tag = "10")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecSync {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

/// What a program that ran in a container printed, and its exit code.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Executed {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) exit_code: i32,
}

impl Executed {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateResources {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(message, optional, tag = "2")]
    linux: Option<Resources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerStatsResponse {
    #[prost(message, optional, tag = "1")]
    stats: Option<ContainerStats>,
}

/// Of containers or of pods: who is first of both.
#[derive(Clone, PartialEq, prost::Message)]
struct AllStats {
    #[prost(message, repeated, tag = "1")]
    stats: Vec<StatsOf>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatsOf {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Id>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerStats {
    #[prost(message, optional, tag = "2")]
    cpu: Option<CpuUsage>,
    #[prost(message, optional, tag = "3")]
    memory: Option<MemoryUsage>,
}

impl ContainerStats {
    /// Nanoseconds of a processor.
    pub(crate) fn cpu(&self) -> u64 {
        self.cpu.as_ref().and_then(|cpu| cpu.nanoseconds.as_ref()).map_or(0, |number| number.value)
    }

    /// Bytes that are in use.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.as_ref().and_then(|memory| memory.working_set.as_ref()).map_or(0, |number| number.value)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct CpuUsage {
    #[prost(message, optional, tag = "2")]
    nanoseconds: Option<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryUsage {
    #[prost(message, optional, tag = "2")]
    working_set: Option<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}
