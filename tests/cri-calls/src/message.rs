//! What is asked and answered.

use crate::config::{ContainerConfig, PodConfig, Resources};

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ContainerState {
    /// Made and not started.
    Created = 0,
    /// Started.
    Running = 1,
    /// Ended.
    Exited = 2,
    /// containerd does not know.
    Unknown = 3,
}

/// Whether a pod's sandbox can take containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SandboxState {
    /// It can.
    Ready = 0,
    /// It cannot.
    NotReady = 1,
}

/// What holds nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// Of requests and answers that hold an id alone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Id {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// A sandbox to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandbox {
    /// What its pod is like.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodConfig>,
    /// containerd's handler.
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

/// The answer about a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxStatusResponse {
    /// What it is like.
    #[prost(message, optional, tag = "1")]
    pub status: Option<SandboxStatus>,
}

/// What a sandbox is like.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SandboxStatus {
    /// A [`SandboxState`].
    #[prost(enumeration = "SandboxState", tag = "3")]
    pub state: i32,
    /// In nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
}

/// All sandboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxResponse {
    /// Their ids.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Id>,
}

/// A container to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainer {
    /// In which sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// What it is like.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// What the pod is like.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodConfig>,
}

/// A container to be stopped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StopContainer {
    /// Which.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds until it is killed.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// The answer about a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatusResponse {
    /// How far it is.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
}

/// How far a container is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatus {
    /// A [`ContainerState`].
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    /// Its exit code, once it has ended.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// `OOMKilled`, `Error`, `Completed`.
    #[prost(string, tag = "10")]
    pub reason: String,
}

/// A program to be run in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSync {
    /// Which container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The program and its arguments.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Seconds that it may take; 0: as long as it likes.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// What a program that ran in a container printed, and its exit code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Executed {
    /// Its standard output.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// Its standard error.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// Its exit code.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

impl Executed {
    /// What it printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A change of a container's limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateResources {
    /// Which container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The limits.
    #[prost(message, optional, tag = "2")]
    pub linux: Option<Resources>,
}

/// The answer about what a container uses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatsResponse {
    /// What it uses.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<ContainerStats>,
}

/// Of containers or of pods: who is first of both.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AllStats {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub stats: Vec<StatsOf>,
}

/// Of whom statistics are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsOf {
    /// Its id.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<Id>,
}

/// What a container uses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStats {
    /// Of the processors.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuUsage>,
    /// Of memory.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<MemoryUsage>,
}

impl ContainerStats {
    /// Nanoseconds of a processor.
    pub fn cpu(&self) -> u64 {
        self.cpu
            .as_ref()
            .and_then(|cpu| cpu.nanoseconds.as_ref())
            .map_or(0, |number| number.value)
    }

    /// Bytes that are in use.
    pub fn memory(&self) -> u64 {
        self.memory
            .as_ref()
            .and_then(|memory| memory.working_set.as_ref())
            .map_or(0, |number| number.value)
    }
}

/// Use of processors.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuUsage {
    /// Since it was started.
    #[prost(message, optional, tag = "2")]
    pub nanoseconds: Option<Number>,
}

/// Use of memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemoryUsage {
    /// Bytes that are in use.
    #[prost(message, optional, tag = "2")]
    pub working_set: Option<Number>,
}

/// What containerd serves.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// Its handlers; containerd 1.x lists none.
    #[prost(message, repeated, tag = "3")]
    pub handlers: Vec<RuntimeHandler>,
}

/// A handler, as kubelet learns of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeHandler {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it can do; none if its runtime did not answer.
    #[prost(message, optional, tag = "2")]
    pub features: Option<HandlerFeatures>,
}

/// What a handler can do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HandlerFeatures {
    /// Whether it runs pods with a user namespace.
    #[prost(bool, tag = "2")]
    pub user_namespaces: bool,
}

/// A number that may be missing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Number {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}
