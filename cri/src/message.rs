//! Requests and answers.

use std::collections::BTreeMap;

use crate::config::{ContainerConfig, ImageSpec, PodConfig, Resources};

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ContainerState {
    /// Created and not started.
    Created = 0,
    /// Started.
    Running = 1,
    /// Ended.
    Exited = 2,
    /// containerd does not report it.
    Unknown = 3,
}

/// Whether a pod's sandbox can run containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SandboxState {
    /// It can.
    Ready = 0,
    /// It cannot.
    NotReady = 1,
}

/// An empty message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// The id of a sandbox: a response to `RunPodSandbox`, and requests and parts of responses with the
/// same form.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SandboxId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

impl From<&str> for SandboxId {
    fn from(id: &str) -> Self {
        Self { id: id.to_owned() }
    }
}

/// The id of a container: a response to `CreateContainer`, and requests and parts of responses with
/// the same form.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

impl From<&str> for ContainerId {
    fn from(id: &str) -> Self {
        Self { id: id.to_owned() }
    }
}

/// A request to run a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxRequest {
    /// The pod's configuration.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodConfig>,
    /// The runtime handler.
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

/// The response with the status of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxStatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<SandboxStatus>,
}

/// The status of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SandboxStatus {
    /// A [`SandboxState`].
    #[prost(enumeration = "SandboxState", tag = "3")]
    pub state: i32,
    /// Creation time in nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
}

/// A request to list sandboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxRequest {
    /// Restricts the list, if it is set.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<PodSandboxFilter>,
}

/// Selects sandboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxFilter {
    /// The labels that all of them have.
    #[prost(btree_map = "string, string", tag = "3")]
    pub label_selector: BTreeMap<String, String>,
}

/// The response with the selected sandboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxResponse {
    /// The sandboxes.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// A sandbox in a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// A [`SandboxState`].
    #[prost(enumeration = "SandboxState", tag = "3")]
    pub state: i32,
    /// Its handler.
    #[prost(string, tag = "7")]
    pub runtime_handler: String,
}

/// A request to create a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainerRequest {
    /// The id of its sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The container's configuration.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The pod's configuration.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodConfig>,
}

/// A request to stop a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StopContainerRequest {
    /// The id of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds until it is killed.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// A request to list containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListContainersRequest {
    /// Restricts the list, if it is set.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<ContainerFilter>,
}

/// Selects containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerFilter {
    /// The labels that all of them have.
    #[prost(btree_map = "string, string", tag = "4")]
    pub label_selector: BTreeMap<String, String>,
}

/// The response with the selected containers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListContainersResponse {
    /// The containers.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

/// A container in a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The id of its sandbox.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// A [`ContainerState`].
    #[prost(enumeration = "ContainerState", tag = "6")]
    pub state: i32,
}

/// The response with the status of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
}

/// The status of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatus {
    /// A [`ContainerState`].
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    /// Its exit code, if it has exited.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// `OOMKilled`, `Error`, `Completed`.
    #[prost(string, tag = "10")]
    pub reason: String,
    /// The details of the reason.
    #[prost(string, tag = "11")]
    pub message: String,
}

/// A request to run a program in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncRequest {
    /// The id of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The program and its arguments.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Timeout in seconds; 0 for none.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// The output and exit code of a program that ran in a container.
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
    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A request to change a container's limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateResourcesRequest {
    /// The id of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The limits.
    #[prost(message, optional, tag = "2")]
    pub linux: Option<Resources>,
}

/// The response with a container's statistics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatsResponse {
    /// The statistics.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<ContainerStats>,
}

/// The response with the statistics of all containers or pods, of which only the ids are read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListStatsResponse {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub stats: Vec<StatsOf>,
}

/// The subject of statistics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsOf {
    /// Its id.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<StatsId>,
}

/// The id of a pod or container with statistics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Statistics of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStats {
    /// CPU use.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuUsage>,
    /// Memory use.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<MemoryUsage>,
}

impl ContainerStats {
    /// Returns the CPU time in nanoseconds.
    pub fn cpu(&self) -> u64 {
        self.cpu
            .as_ref()
            .and_then(|cpu| cpu.nanoseconds.as_ref())
            .map_or(0, |number| number.value)
    }

    /// Returns the memory in use, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
            .as_ref()
            .and_then(|memory| memory.working_set.as_ref())
            .map_or(0, |number| number.value)
    }
}

/// CPU use.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuUsage {
    /// Nanoseconds since its start.
    #[prost(message, optional, tag = "2")]
    pub nanoseconds: Option<Number>,
}

/// Use of memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemoryUsage {
    /// Memory in use, in bytes.
    #[prost(message, optional, tag = "2")]
    pub working_set: Option<Number>,
}

/// A request for containerd's status.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct StatusRequest {
    /// Whether the response has `info`.
    #[prost(bool, tag = "1")]
    pub verbose: bool,
}

/// The response with containerd's status.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
    /// Further information, such as `config`, the CRI plugin's configuration as JSON.
    #[prost(btree_map = "string, string", tag = "2")]
    pub info: BTreeMap<String, String>,
    /// Its handlers; containerd 1.x lists none.
    #[prost(message, repeated, tag = "3")]
    pub runtime_handlers: Vec<RuntimeHandler>,
}

/// The conditions of containerd.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeStatus {
    /// `RuntimeReady`, `NetworkReady`.
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// A condition of containerd.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeCondition {
    /// Its name.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Whether it is true.
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// The cause in one word.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// The cause as a sentence.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// A handler, as reported to kubelet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeHandler {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its features; none if its runtime did not answer.
    #[prost(message, optional, tag = "2")]
    pub features: Option<HandlerFeatures>,
}

/// Features of a handler.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HandlerFeatures {
    /// Whether it supports pods with a user namespace.
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

/// A request for the status of an image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusRequest {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// The response with the status of an image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusResponse {
    /// The image; none if the node does not have it.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// An image of the node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
}
