//! CRI calls that create and remove pods, several at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cri_client::Client;
use cri_client::config::{self, NamespaceMode, PodConfig};

use crate::plan::Network;

/// Timeout of a call: many pods are created and removed at once.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A client; clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    client: Client,
}

impl Cri {
    /// Connects to the containerd at the socket `address`.
    pub(crate) async fn connect(address: &Path) -> Result<Self> {
        let client = Client::connect(address)
            .await
            .with_context(|| format!("connect to {}", address.display()))?
            .with_timeout(CALL_TIMEOUT);
        Ok(Self { client })
    }

    /// Creates a sandbox, and returns its id.
    pub(crate) async fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        Ok(self.client.run_sandbox(config.clone(), handler).await?)
    }

    /// Stops a sandbox with its containers.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        Ok(self.client.stop_sandbox(id).await?)
    }

    /// Removes a stopped sandbox.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        Ok(self.client.remove_sandbox(id).await?)
    }

    /// Returns the ids of all sandboxes.
    pub(crate) async fn sandboxes(&self) -> Result<Vec<String>> {
        let sandboxes = self.client.sandboxes(BTreeMap::new()).await?;
        Ok(sandboxes.into_iter().map(|sandbox| sandbox.id).collect())
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
        let id = self
            .client
            .create_container(sandbox, config, container)
            .await?;
        Ok(self.client.start_container(&id).await?)
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
