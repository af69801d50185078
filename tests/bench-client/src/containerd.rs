//! containerd's API: containers that are copies of a template, their tasks, and their exit events.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use containerd_client::events::TaskExit;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteTaskRequest, GetContainerRequest, KillRequest, ListContainersRequest, PublishRequest,
    StartRequest, SubscribeRequest,
};
use containerd_client::tonic::Request;
use containerd_client::tonic::metadata::{Ascii, MetadataValue};
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use prost::Message as _;
use tokio::sync::oneshot;

use crate::output::Output;

/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Topic of the event of a task's exit.
const EXIT_TOPIC: &str = "/tasks/exit";
/// Topic of the events that show that the subscription is active.
const SUBSCRIBED_TOPIC: &str = "/bench/subscribed";
/// Maximum number of these events, at intervals of ten milliseconds.
const MAX_SUBSCRIBE_EVENTS: usize = 500;
/// Timeout for a container to exit by itself.
const EXIT_TIMEOUT: Duration = Duration::from_mins(1);

/// A client; clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct Containerd {
    /// The socket.
    pub(crate) address: PathBuf,
    /// The namespace of all requests.
    pub(crate) namespace: String,
    header: MetadataValue<Ascii>,
    channel: Channel,
    /// The output of tasks.
    output: Arc<Output>,
}

/// A created container with the mounts of its root.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// Its id, which is also the key of its snapshot.
    pub(crate) id: String,
    /// Its OCI spec, as JSON.
    pub(crate) spec: Vec<u8>,
    /// The mounts of its root.
    pub(crate) rootfs: Vec<Mount>,
    snapshotter: String,
}

/// A container that is copied.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    container: Container,
    parent: String,
}

impl Containerd {
    /// Connects to the containerd at the socket `address`.
    pub(crate) async fn connect(address: &Path, namespace: &str) -> Result<Self> {
        let channel = containerd_client::connect(address)
            .await
            .with_context(|| format!("connect to {}", address.display()))?;
        let header = namespace
            .parse()
            .with_context(|| format!("the namespace {namespace:?} is not a valid header value"))?;
        Ok(Self {
            address: address.to_owned(),
            namespace: namespace.to_owned(),
            header,
            channel,
            output: Arc::new(Output::open()?),
        })
    }

    /// Reads the container `id` as a template for copies.
    pub(crate) async fn template(&self, id: &str) -> Result<Template> {
        let request = self.request(GetContainerRequest { id: id.to_owned() });
        let answer = self
            .containers()
            .get(request)
            .await
            .with_context(|| format!("read the container {id}"))?;
        let container = answer
            .into_inner()
            .container
            .with_context(|| format!("containerd has no container {id}"))?;
        let stat = StatSnapshotRequest {
            snapshotter: container.snapshotter.clone(),
            key: container.snapshot_key.clone(),
        };
        let info = self
            .snapshots()
            .stat(self.request(stat))
            .await
            .with_context(|| format!("look at the snapshot of {id}"))?;
        let parent = info
            .into_inner()
            .info
            .with_context(|| format!("the container {id} has no snapshot"))?
            .parent;
        Ok(Template { container, parent })
    }

    /// Creates a copy of `template`.
    pub(crate) async fn make(&self, template: &Template, id: &str) -> Result<Made> {
        let snapshotter = template.container.snapshotter.clone();
        // Protects the root from garbage collection until the container exists.
        let labels = HashMap::from([(
            "containerd.io/gc.root".to_owned(),
            "1970-01-01T00:00:00Z".to_owned(),
        )]);
        let prepare = PrepareSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: id.to_owned(),
            parent: template.parent.clone(),
            labels,
        };
        let answer = self
            .snapshots()
            .prepare(self.request(prepare))
            .await
            .with_context(|| format!("prepare a root for {id}"))?;
        let spec = template
            .container
            .spec
            .as_ref()
            .context("the template has no spec")?;
        let spec = own_cgroup(&spec.value, &format!("/{}/{id}", self.namespace))?;
        let made = Made {
            id: id.to_owned(),
            spec,
            rootfs: answer.into_inner().mounts,
            snapshotter,
        };
        let mut container = template.container.clone();
        id.clone_into(&mut container.id);
        id.clone_into(&mut container.snapshot_key);
        if let Some(spec) = &mut container.spec {
            spec.value.clone_from(&made.spec);
        }
        let request = self.request(CreateContainerRequest {
            container: Some(container),
        });
        self.containers()
            .create(request)
            .await
            .with_context(|| format!("make the container {id}"))?;
        Ok(made)
    }

    /// Removes a container and its root: the root first, because containerd collects roots without
    /// a container itself.
    pub(crate) async fn remove(&self, made: &Made) -> Result<()> {
        let request = RemoveSnapshotRequest {
            snapshotter: made.snapshotter.clone(),
            key: made.id.clone(),
        };
        self.snapshots()
            .remove(self.request(request))
            .await
            .with_context(|| format!("remove the root of {}", made.id))?;
        let request = self.request(DeleteContainerRequest {
            id: made.id.clone(),
        });
        self.containers()
            .delete(request)
            .await
            .with_context(|| format!("remove the container {}", made.id))?;
        Ok(())
    }

    /// Returns the containers with ids that begin with `prefix`.
    pub(crate) async fn made(&self, prefix: &str) -> Result<Vec<Made>> {
        let request = self.request(ListContainersRequest {
            filters: Vec::new(),
        });
        let answer = self
            .containers()
            .list(request)
            .await
            .context("list the containers")?
            .into_inner();
        let ours = answer
            .containers
            .into_iter()
            .filter(|container| container.id.starts_with(prefix));
        Ok(ours
            .map(|found| Made {
                id: found.id,
                spec: Vec::new(),
                rootfs: Vec::new(),
                snapshotter: found.snapshotter,
            })
            .collect())
    }

    /// Creates the task of a container; its output is read and discarded.
    pub(crate) async fn create(&self, made: &Made) -> Result<()> {
        let (container_id, rootfs, output) =
            (made.id.clone(), made.rootfs.clone(), self.output.path());
        // runc's shim accepts either all outputs or none.
        let request = CreateTaskRequest {
            container_id,
            rootfs,
            stdout: output.clone(),
            stderr: output,
            ..CreateTaskRequest::default()
        };
        self.tasks()
            .create(self.request(request))
            .await
            .with_context(|| format!("create the task {}", made.id))?;
        Ok(())
    }

    /// Starts a task.
    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        let request = StartRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
        };
        self.tasks()
            .start(self.request(request))
            .await
            .with_context(|| format!("start the task {id}"))?;
        Ok(())
    }

    /// Kills all processes of a task.
    pub(crate) async fn kill(&self, id: &str) -> Result<()> {
        let request = KillRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
            signal: 9,
            all: true,
        };
        self.tasks()
            .kill(self.request(request))
            .await
            .with_context(|| format!("kill the task {id}"))?;
        Ok(())
    }

    /// Deletes an ended task, and returns its exit code.
    pub(crate) async fn delete(&self, id: &str) -> Result<u32> {
        let request = DeleteTaskRequest {
            container_id: id.to_owned(),
        };
        let answer = self
            .tasks()
            .delete(self.request(request))
            .await
            .with_context(|| format!("remove the task {id}"))?;
        Ok(answer.into_inner().exit_status)
    }

    /// Follows the exits of tasks from now on.
    pub(crate) async fn exits(&self) -> Result<Exits> {
        let filters = [EXIT_TOPIC, SUBSCRIBED_TOPIC]
            .map(|topic| format!("topic=={topic:?}"))
            .to_vec();
        let mut client = EventsClient::new(self.channel.clone());
        let mut request = self.request(SubscribeRequest { filters });
        // The events are followed for the lifetime of this process.
        request.metadata_mut().remove("grpc-timeout");
        let answer = client.subscribe(request);
        // containerd answers only with the first event: without a published one the call would last
        // until a task exits.
        let seen = tokio::select! {
            answer = answer => answer.context("follow containerd's events")?,
            error = self.publish_until_subscribed() => return Err(error),
        };
        let mut events = seen.into_inner();
        let exits = Exits::default();
        let waiting = Arc::clone(&exits.waiting);
        tokio::spawn(async move {
            while let Ok(Some(envelope)) = events.message().await {
                let seen = Instant::now();
                let Some(Ok(exit)) = envelope
                    .event
                    .map(|event| TaskExit::decode(event.value.as_slice()))
                else {
                    continue;
                };
                let waiter = waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&exit.id);
                if let Some(waiter) = waiter {
                    // A dropped receiver needs no answer.
                    let _ = waiter.send(seen);
                }
            }
        });
        Ok(exits)
    }

    /// Publishes events until the caller, which waits for one, drops this future; returns an error
    /// after the maximum.
    async fn publish_until_subscribed(&self) -> anyhow::Error {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..MAX_SUBSCRIBE_EVENTS {
            pause.tick().await;
            let request = PublishRequest {
                topic: SUBSCRIBED_TOPIC.to_owned(),
                event: Some(prost_types::Any::default()),
            };
            let published = EventsClient::new(self.channel.clone())
                .publish(self.request(request))
                .await;
            if let Err(error) = published.context("publish an event") {
                return error;
            }
        }
        anyhow::anyhow!("containerd has sent none of {MAX_SUBSCRIBE_EVENTS} published events")
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone())
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("containerd-namespace", self.header.clone());
        request.set_timeout(CALL_TIMEOUT);
        request
    }
}

/// The exits of tasks, from containerd's events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exits {
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<Instant>>>>,
}

/// The exit of one task.
#[derive(Debug)]
pub(crate) struct Exit {
    id: String,
    seen: oneshot::Receiver<Instant>,
}

impl Exits {
    /// Registers the exit of the task `id`, which must not be started yet.
    pub(crate) fn of(&self, id: &str) -> Exit {
        let (sender, seen) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), sender);
        Exit {
            id: id.to_owned(),
            seen,
        }
    }
}

impl Exit {
    /// Waits for the exit event and returns the time of its arrival.
    pub(crate) async fn seen(self) -> Result<Instant> {
        let seen = tokio::time::timeout(EXIT_TIMEOUT, self.seen).await;
        seen.with_context(|| format!("no exit event of {} in {EXIT_TIMEOUT:?}", self.id))?
            .context("containerd ended its stream of events")
    }
}

/// Returns the spec with a cgroup of the container's own.
fn own_cgroup(spec: &[u8], cgroup: &str) -> Result<Vec<u8>> {
    let mut spec: serde_json::Value =
        serde_json::from_slice(spec).context("read the template's spec")?;
    spec["linux"]["cgroupsPath"] = cgroup.into();
    serde_json::to_vec(&spec).context("write a spec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_of_a_container_differs_only_in_its_cgroup() {
        let spec = own_cgroup(
            br#"{"hostname":"h","linux":{"cgroupsPath":"/default/template"}}"#,
            "/ns/copy",
        )
        .unwrap();
        let expected =
            serde_json::json!({ "hostname": "h", "linux": { "cgroupsPath": "/ns/copy" } });
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&spec).unwrap(),
            expected
        );
    }
}
