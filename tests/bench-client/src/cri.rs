//! The calls of CRI that make and remove pods, and their messages with the fields that are used here and no others.
//!
//! Numbers and meanings: `k8s.io/cri-api`, `pkg/apis/runtime/v1/api.proto`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use containerd_client::tonic::Request;
use containerd_client::tonic::client::Grpc;
use containerd_client::tonic::codec::ProstCodec;
use containerd_client::tonic::transport::Channel;
use http::uri::PathAndQuery;

use crate::plan::Network;

/// How long a call may take.
const CALL: Duration = Duration::from_mins(2);

/// A client; copies share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    channel: Channel,
}

impl Cri {
    /// Connects to the containerd that listens at `address`.
    pub(crate) async fn connect(address: &Path) -> Result<Self> {
        let channel = containerd_client::connect(address).await.with_context(|| format!("connect to {}", address.display()))?;
        Ok(Self { channel })
    }

    /// Makes a sandbox; its id.
    pub(crate) async fn run_sandbox(&self, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        self.call::<_, Id>("RunPodSandbox", request).await.map(|answer| answer.id)
    }

    /// Ends everything in a sandbox.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StopPodSandbox", Id { id: id.to_owned() }).await.map(drop)
    }

    /// Removes a sandbox that was stopped.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("RemovePodSandbox", Id { id: id.to_owned() }).await.map(drop)
    }

    /// The ids of all sandboxes.
    pub(crate) async fn sandboxes(&self) -> Result<Vec<String>> {
        let answer: ListPodSandboxResponse = self.call("ListPodSandbox", Empty {}).await?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Makes a container of `image` in a sandbox, and starts it.
    pub(crate) async fn run_container(&self, sandbox: &str, config: PodSandboxConfig, image: &str, words: &[String]) -> Result<()> {
        let metadata = ContainerMetadata { name: "idle".to_owned() };
        let image = Some(ImageSpec { image: image.to_owned() });
        let container = ContainerConfig { metadata: Some(metadata), image, command: words.to_vec() };
        let request = CreateContainerRequest { pod_sandbox_id: sandbox.to_owned(), config: Some(container), sandbox_config: Some(config) };
        let made: Id = self.call("CreateContainer", request).await?;
        self.call::<_, Empty>("StartContainer", made).await.map(drop)
    }

    async fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse().expect("a method's name is a word");
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.with_context(|| format!("reach containerd for {method}"))?;
        let mut request = Request::new(message);
        request.set_timeout(CALL);
        let answer = client.unary(request, path, ProstCodec::<Q, A>::default()).await.with_context(|| format!("CRI's {method}"))?;
        Ok(answer.into_inner())
    }
}

/// What a pod of this name is like.
pub(crate) fn pod(name: &str, network: Network, cgroup: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata { name: name.to_owned(), uid: name.to_owned(), namespace: "bench".to_owned() };
    // As kubelet: a pod on the node's network has the node's name.
    let (network, hostname) = match network {
        Network::Node => (NamespaceMode::Node, String::new()),
        Network::Pod => (NamespaceMode::Pod, name.to_owned()),
    };
    // As kubelet asks: each container has processes of its own.
    let options = NamespaceOption { network: network.into(), pid: NamespaceMode::Container.into() };
    let security_context = Some(LinuxSandboxSecurityContext { namespace_options: Some(options) });
    PodSandboxConfig {
        metadata: Some(metadata),
        hostname,
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: format!("{cgroup}/{name}"), security_context }),
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
pub(crate) struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<LinuxSandboxSecurityContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamespaceOption {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    network: i32,
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pid: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum NamespaceMode {
    Pod = 0,
    Container = 1,
    Node = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
    #[prost(string, tag = "2")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}
