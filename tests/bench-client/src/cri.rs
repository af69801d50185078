//! CRI calls that create and remove pods, several at once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use containerd_client::tonic::Request;
use containerd_client::tonic::client::Grpc;
use containerd_client::tonic::codec::ProstCodec;
use containerd_client::tonic::transport::Channel;
use cri_calls::SERVICE;
use cri_calls::config::{self, NamespaceMode, PodConfig};
use cri_calls::message::{CreateContainer, Empty, Id, ListPodSandboxResponse, RunPodSandbox};
use http::uri::PathAndQuery;

use crate::plan::Network;

/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A client; clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    channel: Channel,
}

impl Cri {
    /// Connects to the containerd at the socket `address`.
    pub(crate) async fn connect(address: &Path) -> Result<Self> {
        let channel = containerd_client::connect(address)
            .await
            .with_context(|| format!("connect to {}", address.display()))?;
        Ok(Self { channel })
    }

    /// Creates a sandbox, and returns its id.
    pub(crate) async fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        let request = RunPodSandbox {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        self.call::<_, Id>("RunPodSandbox", request)
            .await
            .map(|answer| answer.id)
    }

    /// Stops a sandbox with its containers.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StopPodSandbox", Id { id: id.to_owned() })
            .await
            .map(drop)
    }

    /// Removes a stopped sandbox.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("RemovePodSandbox", Id { id: id.to_owned() })
            .await
            .map(drop)
    }

    /// Returns the ids of all sandboxes.
    pub(crate) async fn sandboxes(&self) -> Result<Vec<String>> {
        let answer: ListPodSandboxResponse = self.call("ListPodSandbox", Empty {}).await?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Creates a container of `image` in a sandbox, and starts it.
    pub(crate) async fn run_container(
        &self,
        sandbox: &str,
        config: PodConfig,
        image: &str,
        words: &[String],
    ) -> Result<()> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let container = config.container("idle", image, &words);
        let request = CreateContainer {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let made: Id = self.call("CreateContainer", request).await?;
        self.call::<_, Empty>("StartContainer", made)
            .await
            .map(drop)
    }

    async fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery = format!("/{SERVICE}/{method}")
            .parse()
            .expect("a method's name is a valid path");
        let mut client = Grpc::new(self.channel.clone());
        client
            .ready()
            .await
            .with_context(|| format!("reach containerd for {method}"))?;
        let mut request = Request::new(message);
        request.set_timeout(CALL_TIMEOUT);
        let answer = client
            .unary(request, path, ProstCodec::<Q, A>::default())
            .await
            .with_context(|| format!("CRI's {method}"))?;
        Ok(answer.into_inner())
    }
}

/// Returns the configuration of a pod of this name: as by default in kubelet, each container has a
/// private pid namespace.
pub(crate) fn pod(name: &str, network: Network, cgroup: &str) -> PodConfig {
    let network = match network {
        Network::Node => NamespaceMode::Node,
        Network::Pod => NamespaceMode::Pod,
    };
    config::pod(
        name,
        network,
        NamespaceMode::Container,
        &format!("{cgroup}/{name}"),
    )
    .in_namespace("bench")
}
