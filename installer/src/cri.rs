//! containerd's CRI, version 1: whether it is served, by which handlers, and the calls that a smoke
//! test is made of.
//!
//! The few messages stand in `message` by hand: with their generated forms would come a compiler of
//! protocol files, or a crate that follows Kubernetes' releases, for a hundred lines.

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
pub use status::{Handlers, Readiness, Served};

/// How long a call may take that looks or removes.
const CALL: Duration = Duration::from_secs(30);
/// How long a call may take that starts processes: a node's disk may be slow.
const START: Duration = Duration::from_mins(2);
/// How long one attempt may take to find out whether containerd is ready.
const LOOK: Duration = Duration::from_secs(5);
/// How long a sandbox or a container may refuse to be removed.
const REMOVAL: Duration = Duration::from_secs(15);
/// Maximum size of an answer: as much as containerd sends by default. Lists of a full node's
/// containers are long.
const MAX_ANSWER: usize = 16 << 20;
/// The pause between two looks, or two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// A client of one containerd. It connects when it is first used, and again when containerd was
/// restarted.
#[derive(Debug, Clone)]
pub struct Cri {
    socket: PathBuf,
    channel: Channel,
}

impl Cri {
    /// A client of the containerd that listens at `socket`. Must be called inside a tokio runtime.
    pub fn at(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address is never looked up: the connector knows where to go.
        let channel =
            Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector);
        Self {
            socket: socket.to_owned(),
            channel,
        }
    }

    /// Whether containerd runs containers, and by which handlers.
    pub async fn served(&self) -> Result<Served, CriError> {
        self.status(CALL)
            .await
            .map(|answer| status::served(&answer))
    }

    /// Who sets up the cgroups of `handler`'s containers, as containerd is configured; none if it
    /// does not say.
    pub async fn driver(&self, handler: &str) -> Result<Option<CgroupDriver>, CriError> {
        self.status(CALL)
            .await
            .map(|answer| status::driver(&answer, handler))
    }

    /// Asks until containerd answers that its runtime is ready; after `limit` it is an error that
    /// says what it last answered. A containerd without CRI is one at once: its plugins are loaded
    /// before it listens.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<Served, CriError> {
        let start = Instant::now();
        loop {
            let last = match self
                .status(LOOK)
                .await
                .map(|answer| status::served(&answer))
            {
                Ok(Served {
                    runtime: Readiness::NotReady(why),
                    ..
                }) => why,
                Ok(served) => return Ok(served),
                Err(error @ CriError::NotServed { .. }) => return Err(error),
                Err(error @ CriError::Unreachable { .. }) => chain(&error),
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= limit {
                return Err(CriError::NotReady { last, limit });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the node has an image.
    pub(crate) async fn has_image(&self, image: &str) -> Result<bool, CriError> {
        let image = Some(message::ImageSpec {
            image: image.to_owned(),
        });
        let path = PathAndQuery::from_static("/runtime.v1.ImageService/ImageStatus");
        let answer: message::ImageStatusResponse = self
            .unary(
                CALL,
                "ImageStatus",
                path,
                Request::new(message::ImageStatusRequest { image }),
            )
            .await?;
        Ok(answer.image.is_some_and(|image| !image.id.is_empty()))
    }

    /// Makes a sandbox; its id.
    pub(crate) async fn run_sandbox(
        &self,
        config: message::PodSandboxConfig,
        handler: &str,
    ) -> Result<String, CriError> {
        let request = message::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        let answer: message::SandboxId = self.call(START, "RunPodSandbox", request).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// The sandboxes that have these labels.
    pub(crate) async fn sandboxes(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<message::PodSandbox>, CriError> {
        let filter = Some(message::PodSandboxFilter {
            label_selector: labels,
        });
        let answer: message::ListPodSandboxResponse = self
            .call(
                CALL,
                "ListPodSandbox",
                message::ListPodSandboxRequest { filter },
            )
            .await?;
        Ok(answer.items)
    }

    /// Ends everything in a sandbox and removes it. One that is not there is removed. containerd
    /// refuses to remove what it is just starting, so it is asked again for a while.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let start = Instant::now();
        loop {
            match self.try_to_remove_sandbox(id).await {
                Err(CriError::Answer { .. }) if start.elapsed() < REMOVAL => {
                    tokio::time::sleep(PAUSE).await;
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
            match self.call::<_, message::Empty>(CALL, call, request).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The containers that have these labels, also those whose sandbox is gone.
    pub(crate) async fn containers(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<Vec<message::Container>, CriError> {
        let filter = Some(message::ContainerFilter {
            label_selector: labels,
        });
        let answer: message::ListContainersResponse = self
            .call(
                CALL,
                "ListContainers",
                message::ListContainersRequest { filter },
            )
            .await?;
        Ok(answer.containers)
    }

    /// Ends a container and removes it. One that is not there is removed. containerd refuses to
    /// remove what it is just starting, or removing for another caller, so it is asked again for a
    /// while.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let start = Instant::now();
        loop {
            let request = message::ContainerId {
                container_id: id.to_owned(),
            };
            match self
                .call::<_, message::Empty>(CALL, "RemoveContainer", request)
                .await
            {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(CriError::Answer { .. }) if start.elapsed() < REMOVAL => {
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended.map(drop),
            }
        }
    }

    /// Makes a container in a sandbox; its id.
    pub(crate) async fn create_container(
        &self,
        request: message::CreateContainerRequest,
    ) -> Result<String, CriError> {
        let answer: message::ContainerId = self.call(START, "CreateContainer", request).await?;
        Ok(answer.container_id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = message::ContainerId {
            container_id: id.to_owned(),
        };
        self.call::<_, message::Empty>(START, "StartContainer", request)
            .await
            .map(drop)
    }

    /// How far a container is.
    pub(crate) async fn container(&self, id: &str) -> Result<message::ContainerStatus, CriError> {
        let request = message::ContainerId {
            container_id: id.to_owned(),
        };
        let answer: message::ContainerStatusResponse =
            self.call(CALL, "ContainerStatus", request).await?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn status(&self, limit: Duration) -> Result<message::StatusResponse, CriError> {
        self.call(limit, "Status", message::StatusRequest { verbose: true })
            .await
    }

    /// Calls a method of the runtime service.
    async fn call<Q, A>(
        &self,
        limit: Duration,
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
        self.unary(limit, call, path, Request::new(request)).await
    }

    async fn unary<Q, A>(
        &self,
        limit: Duration,
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
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(CriError::TimedOut { call, limit }),
        }
    }
}

/// An error with its cause.
fn chain(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests;
