//! containerd's CRI, version 1: its status, its handlers, and the calls of a smoke test.
//!
//! The few messages are written by hand in `message`: generated ones would need a protobuf
//! compiler, or a crate that follows Kubernetes' releases, to save a hundred lines.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use installer_protocol::CgroupDriver;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;

use tonic::transport::{Channel, Endpoint, Uri};

mod error;
pub(crate) mod message;
mod running;
mod status;

pub use error::CriError;
pub use status::{CriStatus, RuntimeReadiness, ServedHandlers};

/// Maximum time of a call that reads or removes.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time of a call that starts processes: a node's disk may be slow.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Maximum time of one attempt to read the status while containerd starts.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for which a sandbox or a container refuses its removal.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of an answer, containerd's default. Lists of a full node's containers are long.
const MAX_ANSWER: usize = 16 << 20;
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A client of one containerd. It connects on first use, and reconnects after a restart of
/// containerd.
#[derive(Debug, Clone)]
pub struct Cri {
    socket: PathBuf,
    channel: Channel,
}

impl Cri {
    /// Makes a client of the containerd at `socket`. Call it inside a tokio runtime.
    pub fn at(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address is not used: the connector connects to the socket.
        let channel =
            Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector);
        Self {
            socket: socket.to_owned(),
            channel,
        }
    }

    /// Returns whether containerd runs containers, and its handlers.
    pub async fn served(&self) -> Result<CriStatus, CriError> {
        self.status(CALL_TIMEOUT)
            .await
            .map(|answer| status::served(&answer))
    }

    /// Returns the cgroup driver of `handler` in containerd's configuration; none if it is not
    /// published.
    pub async fn driver(&self, handler: &str) -> Result<Option<CgroupDriver>, CriError> {
        self.status(CALL_TIMEOUT)
            .await
            .map(|answer| status::driver(&answer, handler))
    }

    /// Waits until containerd's runtime is ready. After `timeout` it fails with the last answer. A
    /// containerd without CRI fails at once: it loads its plugins before it listens.
    pub async fn wait_until_ready(&self, timeout: Duration) -> Result<CriStatus, CriError> {
        let start = Instant::now();
        loop {
            let last = match self
                .status(STATUS_TIMEOUT)
                .await
                .map(|answer| status::served(&answer))
            {
                Ok(CriStatus {
                    runtime: RuntimeReadiness::NotReady(why),
                    ..
                }) => why,
                Ok(served) => return Ok(served),
                Err(error @ CriError::NotServed { .. }) => return Err(error),
                Err(error @ CriError::Unreachable { .. }) => chain(&error),
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= timeout {
                return Err(CriError::NotReady { last, timeout });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns whether the node has an image.
    pub(crate) async fn has_image(&self, image: &str) -> Result<bool, CriError> {
        let image = Some(message::ImageSpec {
            image: image.to_owned(),
        });
        let path = PathAndQuery::from_static("/runtime.v1.ImageService/ImageStatus");
        let answer: message::ImageStatusResponse = self
            .unary(
                CALL_TIMEOUT,
                "ImageStatus",
                path,
                Request::new(message::ImageStatusRequest { image }),
            )
            .await?;
        Ok(answer.image.is_some_and(|image| !image.id.is_empty()))
    }

    /// Makes a sandbox; returns its id.
    pub(crate) async fn run_sandbox(
        &self,
        config: message::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, CriError> {
        let request = message::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        let answer: message::SandboxId = self.call(START_TIMEOUT, "RunPodSandbox", request).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// Lists the sandboxes with these labels.
    pub(crate) async fn sandboxes(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<message::PodSandbox>, CriError> {
        let filter = Some(message::PodSandboxFilter {
            label_selector: labels,
        });
        let answer: message::ListPodSandboxResponse = self
            .call(
                CALL_TIMEOUT,
                "ListPodSandbox",
                message::ListPodSandboxRequest { filter },
            )
            .await?;
        Ok(answer.items)
    }

    /// Stops a sandbox and removes it, if it exists. Retries for a while, because containerd
    /// refuses to remove a sandbox that is starting.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let start = Instant::now();
        loop {
            match self.try_to_remove_sandbox(id).await {
                Err(CriError::Answer { .. }) if start.elapsed() < REMOVAL_TIMEOUT => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_to_remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        for call in ["StopPodSandbox", "RemovePodSandbox"] {
            let request = message::SandboxId {
                pod_sandbox_id: id.to_owned(),
            };
            match self
                .call::<_, message::Empty>(CALL_TIMEOUT, call, request)
                .await
            {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lists the containers with these labels, also those without a sandbox.
    pub(crate) async fn containers(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<message::Container>, CriError> {
        let filter = Some(message::ContainerFilter {
            label_selector: labels,
        });
        let answer: message::ListContainersResponse = self
            .call(
                CALL_TIMEOUT,
                "ListContainers",
                message::ListContainersRequest { filter },
            )
            .await?;
        Ok(answer.containers)
    }

    /// Stops a container and removes it, if it exists. Retries for a while, because containerd
    /// refuses to remove a container that is starting or that another caller removes.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let start = Instant::now();
        loop {
            let request = message::ContainerId {
                container_id: id.to_owned(),
            };
            match self
                .call::<_, message::Empty>(CALL_TIMEOUT, "RemoveContainer", request)
                .await
            {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(CriError::Answer { .. }) if start.elapsed() < REMOVAL_TIMEOUT => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                ended => return ended.map(drop),
            }
        }
    }

    /// Makes a container in a sandbox; returns its id.
    pub(crate) async fn create_container(
        &self,
        request: message::CreateContainerRequest,
    ) -> Result<String, CriError> {
        let answer: message::ContainerId =
            self.call(START_TIMEOUT, "CreateContainer", request).await?;
        Ok(answer.container_id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = message::ContainerId {
            container_id: id.to_owned(),
        };
        self.call::<_, message::Empty>(START_TIMEOUT, "StartContainer", request)
            .await
            .map(drop)
    }

    /// Returns a container's status.
    pub(crate) async fn container(&self, id: &str) -> Result<message::ContainerStatus, CriError> {
        let request = message::ContainerId {
            container_id: id.to_owned(),
        };
        let answer: message::ContainerStatusResponse =
            self.call(CALL_TIMEOUT, "ContainerStatus", request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn status(&self, timeout: Duration) -> Result<message::StatusResponse, CriError> {
        self.call(timeout, "Status", message::StatusRequest { verbose: true })
            .await
    }

    /// Calls a method of the runtime service.
    async fn call<Q, A>(
        &self,
        timeout: Duration,
        call: &'static str,
        request: Q,
    ) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{call}")
            .parse()
            .expect("a method's name is a word");
        self.unary(timeout, call, path, Request::new(request)).await
    }

    async fn unary<Q, A>(
        &self,
        timeout: Duration,
        call: &'static str,
        path: PathAndQuery,
        request: Request<Q>,
    ) -> Result<A, CriError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let failed = |status: &tonic::Status| CriError::of(&self.socket, call, status);
        let answer = async {
            let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
            client
                .ready()
                .await
                .map_err(|error| failed(&tonic::Status::from_error(error.into())))?;
            client
                .unary(request, path, ProstCodec::<Q, A>::default())
                .await
                .map_err(|status| failed(&status))
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(CriError::TimedOut { call, timeout }),
        }
    }
}

/// Formats an error with its cause.
fn chain(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests;
