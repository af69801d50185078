//! Asynchronous calls of CRI.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::channel;
use crate::config::{ContainerConfig, ImageSpec, PodConfig};
use crate::error::CriError;
use crate::message::{
    Container, ContainerFilter, ContainerId, ContainerStatus, CreateContainerRequest,
    ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxFilter,
    RunPodSandboxRequest, SandboxId, StatusRequest, StatusResponse,
};
use crate::method::{self, Method};

/// Maximum time of a call that reads, stops or removes, by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time of a call that starts processes: a node's disk may be slow.
pub const START_TIMEOUT: Duration = Duration::from_mins(2);

/// A client of one containerd. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    channel: Channel,
    /// Maximum time of a call that starts no process.
    timeout: Duration,
}

impl Client {
    /// Makes a client of the containerd at `socket`. It connects on first use, and reconnects after
    /// a restart of containerd. Call it inside a tokio runtime.
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            channel: channel::lazy(socket),
            timeout: CALL_TIMEOUT,
        }
    }

    /// Makes a client that is connected to the containerd at `socket`.
    pub async fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        Ok(Self {
            socket: socket.to_owned(),
            channel: channel::open(socket).await?,
            timeout: CALL_TIMEOUT,
        })
    }

    /// Sets the maximum time of a call that starts no process, by default 30 s. Starts have
    /// [`START_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns containerd's status, with its configuration.
    pub async fn status(&self) -> Result<StatusResponse, CriError> {
        self.call(&method::STATUS, StatusRequest { verbose: true })
            .await
    }

    /// Returns whether the node has an image.
    pub async fn has_image(&self, image: &str) -> Result<bool, CriError> {
        let image = Some(ImageSpec::named(image));
        let answer = self
            .call(&method::IMAGE_STATUS, ImageStatusRequest { image })
            .await?;
        Ok(answer.image.is_some_and(|image| !image.id.is_empty()))
    }

    /// Makes a sandbox with `handler`; returns its id.
    pub async fn run_sandbox(&self, config: PodConfig, handler: &str) -> Result<String, CriError> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        self.start(&method::RUN_POD_SANDBOX, request)
            .await
            .map(|answer| answer.id)
    }

    /// Lists the sandboxes with these labels.
    pub async fn sandboxes(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<PodSandbox>, CriError> {
        let filter = (!labels.is_empty()).then_some(PodSandboxFilter {
            label_selector: labels,
        });
        self.call(&method::LIST_POD_SANDBOX, ListPodSandboxRequest { filter })
            .await
            .map(|answer| answer.items)
    }

    /// Stops a sandbox with its containers.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.call(&method::STOP_POD_SANDBOX, SandboxId::from(id))
            .await
            .map(drop)
    }

    /// Removes a stopped sandbox.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        self.call(&method::REMOVE_POD_SANDBOX, SandboxId::from(id))
            .await
            .map(drop)
    }

    /// Lists the containers with these labels, also those without a sandbox.
    pub async fn containers(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<Container>, CriError> {
        let filter = Some(ContainerFilter {
            label_selector: labels,
        });
        self.call(&method::LIST_CONTAINERS, ListContainersRequest { filter })
            .await
            .map(|answer| answer.containers)
    }

    /// Makes a container in a sandbox; returns its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        pod: PodConfig,
        container: ContainerConfig,
    ) -> Result<String, CriError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container),
            sandbox_config: Some(pod),
        };
        self.start(&method::CREATE_CONTAINER, request)
            .await
            .map(|answer| answer.id)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        self.start(&method::START_CONTAINER, ContainerId::from(id))
            .await
            .map(drop)
    }

    /// Stops a container and removes it.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        self.call(&method::REMOVE_CONTAINER, ContainerId::from(id))
            .await
            .map(drop)
    }

    /// Returns a container's status.
    pub async fn container(&self, id: &str) -> Result<ContainerStatus, CriError> {
        let answer = self
            .call(&method::CONTAINER_STATUS, ContainerId::from(id))
            .await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Calls a method that starts no process.
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.unary(self.timeout, method, Request::new(message))
            .await
    }

    /// Calls a method of containerd's own API, in one of its namespaces.
    pub async fn call_in_namespace<Q, A>(
        &self,
        namespace: &str,
        method: &Method<Q, A>,
        message: Q,
    ) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        // Without the header the call would be about another namespace.
        let name = MetadataValue::try_from(namespace).map_err(|error| CriError::Answer {
            call: method.name(),
            code: Code::InvalidArgument,
            answer: format!("the namespace {namespace:?} cannot be sent: {error}"),
        })?;
        request.metadata_mut().insert("containerd-namespace", name);
        self.unary(self.timeout, method, request).await
    }

    async fn start<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.unary(START_TIMEOUT, method, Request::new(message))
            .await
    }

    async fn unary<Q, A>(
        &self,
        timeout: Duration,
        method: &Method<Q, A>,
        request: Request<Q>,
    ) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let call = method.name();
        let answer = channel::unary(self.channel.clone(), method.path(), request);
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map_err(|status| CriError::of(&self.socket, call, &status)),
            Err(_) => Err(CriError::TimedOut { call, timeout }),
        }
    }
}
