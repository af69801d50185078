//! Pods as kubelet asks for them. Messages have the fields that are used here and no others; numbers and meanings:
//! `k8s.io/cri-api`, `pkg/apis/runtime/v1/api.proto`.

use anyhow::{Context as _, Result};
use containerd_client::tonic::Request;
use containerd_client::tonic::client::Grpc;
use containerd_client::tonic::codec::ProstCodec;
use http::uri::PathAndQuery;

use crate::containerd::Containerd;

/// The machine's own network, or its own processes: as numbers of `NamespaceMode`.
const NODE: i32 = 2;
const CONTAINER: i32 = 1;

/// CRI of the machine's containerd.
#[derive(Debug)]
pub(crate) struct Cri<'a> {
    containerd: &'a Containerd,
}

impl<'a> Cri<'a> {
    pub(crate) fn of(containerd: &'a Containerd) -> Self {
        Self { containerd }
    }

    pub(crate) fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        let request = RunPodSandbox { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        self.call::<_, Id>("RunPodSandbox", request).map(|answer| answer.id)
    }

    /// Makes a container of `image` that runs `words`, and starts it.
    pub(crate) fn run_container(&self, sandbox: &str, pod: &PodConfig, image: &str, words: &[&str]) -> Result<String> {
        let metadata = Some(Name { name: "guest".to_owned() });
        let image = Some(ImageSpec { image: image.to_owned() });
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        let security_context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref()).map(in_container);
        let config = ContainerConfig { metadata, image, command, linux: Some(LinuxContainer { security_context }) };
        let request = CreateContainer { pod_sandbox_id: sandbox.to_owned(), config: Some(config), sandbox_config: Some(pod.clone()) };
        let made: Id = self.call("CreateContainer", request)?;
        self.call::<_, Empty>("StartContainer", made.clone())?;
        Ok(made.id)
    }

    /// Runs a program in a container to its end: what it printed, and its exit code.
    pub(crate) fn exec(&self, id: &str, words: &[&str]) -> Result<(String, i32)> {
        let cmd = words.iter().map(|word| (*word).to_owned()).collect();
        let answer: Executed = self.call("ExecSync", ExecSync { container_id: id.to_owned(), cmd, timeout: 30 })?;
        Ok((String::from_utf8_lossy(&answer.stdout).into_owned(), answer.exit_code))
    }

    /// Bytes that a container uses, as `kubectl top` shows them.
    pub(crate) fn working_set(&self, id: &str) -> Result<u64> {
        let answer: StatsResponse = self.call("ContainerStats", Id { id: id.to_owned() })?;
        let memory = answer.stats.and_then(|stats| stats.memory).and_then(|memory| memory.working_set);
        memory.map(|number| number.value).with_context(|| format!("no memory in the stats of {id}"))
    }

    /// Ends everything in a sandbox, and removes it.
    pub(crate) fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StopPodSandbox", Id { id: id.to_owned() })?;
        self.call::<_, Empty>("RemovePodSandbox", Id { id: id.to_owned() }).map(drop)
    }

    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse().expect("a method's name is a word");
        let call = async {
            let mut client = Grpc::new(self.containerd.channel());
            client.ready().await.context("reach containerd")?;
            Ok(client.unary(Request::new(message), path, ProstCodec::<Q, A>::default()).await?.into_inner())
        };
        self.containerd.block_on(call).with_context(|| format!("CRI's {method}"))
    }
}

/// A pod of this name with the machine's network, whose containers have their own processes.
pub(crate) fn pod(name: &str, cgroup: &str) -> PodConfig {
    let metadata = Some(PodMetadata { name: name.to_owned(), uid: name.to_owned(), namespace: "default".to_owned() });
    let options = NamespaceOptions { network: NODE, pid: CONTAINER };
    let security_context = Some(PodSecurity { namespace_options: Some(options) });
    PodConfig { metadata, linux: Some(LinuxPod { cgroup_parent: cgroup.to_owned(), security_context }) }
}

fn in_container(pod: &PodSecurity) -> ContainerSecurity {
    ContainerSecurity { namespace_options: pod.namespace_options }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// Of requests and answers that hold an id alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// Of what holds a name alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPod {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOptions>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct NamespaceOptions {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
    #[prost(string, tag = "2")]
    runtime_handler: String,
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
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Name>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    security_context: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespace_options: Option<NamespaceOptions>,
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

#[derive(Clone, PartialEq, prost::Message)]
struct Executed {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatsResponse {
    #[prost(message, optional, tag = "1")]
    stats: Option<Stats>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stats {
    #[prost(message, optional, tag = "3")]
    memory: Option<Memory>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Memory {
    #[prost(message, optional, tag = "2")]
    working_set: Option<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}
