//! A client of containerd: containers, their tasks, and its events.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest, KillRequest,
    MetricsRequest, PauseTaskRequest, PublishRequest, ResumeTaskRequest, StartRequest,
    SubscribeRequest, UpdateTaskRequest, WaitRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Response, Status};
use containerd_client::types::v1::Process;
use prost::Message as _;
use prost_types::Any;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::wait::{self, TIMEOUT};

/// containerd's socket.
const ADDRESS: &str = "/run/containerd/containerd.sock";
/// The containerd namespace of all requests.
pub(crate) const NAMESPACE: &str = "vm";
/// Topic of published events that show that the subscription is active.
const PROBE_TOPIC: &str = "/vm/mark";
/// Prefix of the type URLs of OCI documents.
const OCI: &str = "types.containerd.io/opencontainers/runtime-spec/1";

/// An event: its topic, and its message.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) message: Vec<u8>,
}

/// The fields of containerd's `events/task.proto` that are used here.
#[derive(Clone, PartialEq, prost::Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "4")]
    exit_status: u32,
}

/// The client. It works across restarts of containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    runtime: Runtime,
    channel: Channel,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Containerd {
    /// Waits until containerd answers, and follows its events from then on.
    pub(crate) fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("start a runtime")?;
        let reach = || Ok(runtime.block_on(containerd_client::connect(ADDRESS)).ok());
        let channel = wait::until(
            "containerd to listen",
            reach,
            crate::machine::containerd_log,
        )?;
        let containerd = Self {
            runtime,
            channel,
            events: Arc::default(),
        };
        containerd.follow()?;
        Ok(containerd)
    }

    /// Follows events, again after a restart of containerd; when it returns, no later event is
    /// missed.
    pub(crate) fn follow(&self) -> Result<()> {
        let filters = vec![
            "topic~=\"^/tasks/\"".to_owned(),
            format!("topic==\"{PROBE_TOPIC}\""),
        ];
        let mut client = EventsClient::new(self.channel.clone());
        let events = Arc::clone(&self.events);
        let followed = self.events_of(PROBE_TOPIC);
        self.runtime.spawn(async move {
            // The call returns only with the first event: nothing else makes containerd answer.
            let push = |topic, message| {
                events
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Event { topic, message });
            };
            let mut stream = match client.subscribe(named(SubscribeRequest { filters })).await {
                Ok(stream) => stream.into_inner(),
                Err(refusal) => return push(refusal.to_string(), Vec::new()),
            };
            while let Ok(Some(envelope)) = stream.message().await {
                push(
                    envelope.topic,
                    envelope.event.map(|event| event.value).unwrap_or_default(),
                );
            }
        });
        let seen = || {
            let event = Some(Any {
                type_url: "google.protobuf.Empty".to_owned(),
                value: Vec::new(),
            });
            let request = PublishRequest {
                topic: PROBE_TOPIC.to_owned(),
                event,
            };
            self.call(
                "publish an event",
                EventsClient::new(self.channel.clone()).publish(named(request)),
            )?;
            Ok((self.events_of(PROBE_TOPIC) > followed).then_some(()))
        };
        let evidence = || {
            format!(
                "{:?}",
                self.events.lock().unwrap_or_else(PoisonError::into_inner)
            )
        };
        wait::until("a published event to be received", seen, evidence)
    }

    /// Returns the number of events of this topic.
    fn events_of(&self, topic: &str) -> usize {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|event| event.topic == topic)
            .count()
    }

    /// Returns the topics of all events with a container's id, in their order.
    pub(crate) fn topics_of(&self, id: &str) -> Vec<String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // The id is the first text in each of these messages.
        let names_it = |event: &&Event| {
            event
                .message
                .windows(id.len())
                .any(|part| part == id.as_bytes())
        };
        events
            .iter()
            .filter(names_it)
            .map(|event| event.topic.clone())
            .collect()
    }

    /// Returns the exit code in a container's exit event, if it was published.
    pub(crate) fn published_exit_of(&self, id: &str) -> Option<u32> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = events
            .iter()
            .filter(|event| event.topic == "/tasks/exit")
            .filter_map(|event| TaskExit::decode(&*event.message).ok());
        ends.into_iter()
            .find(|end| end.container_id == id)
            .map(|end| end.exit_status)
    }

    /// Returns its connection, for other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Runs a call to completion.
    pub(crate) fn block_on<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::time::timeout(TIMEOUT, call)
                .await
                .context("no answer from containerd")?
        })
    }

    /// Creates a container that `runtime` runs with these options, a TOML table.
    pub(crate) fn make(&self, id: &str, runtime: &str, options: &str, spec: &Value) -> Result<()> {
        let spec = Some(Any {
            type_url: format!("{OCI}/Spec"),
            value: spec.to_string().into_bytes(),
        });
        // Field 3 of `runtimeoptions.v1.Options` is the table.
        let options = Some(Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            value: table(options),
        });
        let runtime = Some(containerd_client::services::v1::container::Runtime {
            name: runtime.to_owned(),
            options,
        });
        let container = Some(Container {
            id: id.to_owned(),
            runtime,
            spec,
            ..Container::default()
        });
        let mut client = ContainersClient::new(self.channel.clone());
        self.call(
            &format!("make the container {id}"),
            client.create(named(CreateContainerRequest { container })),
        )
        .map(drop)
    }

    /// Removes a container that has no task.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let mut client = ContainersClient::new(self.channel.clone());
        self.call(
            &format!("remove the container {id}"),
            client.delete(named(DeleteContainerRequest { id: id.to_owned() })),
        )
        .map(drop)
    }

    /// Creates a task with an overlay of these options as its root and a file for its output;
    /// returns its pid.
    pub(crate) fn create(&self, id: &str, overlay: Vec<String>, stdout: &str) -> Result<u32> {
        let mount = containerd_client::types::Mount {
            r#type: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: overlay,
        };
        let stdout = format!("file://{stdout}");
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs: vec![mount],
            stdout,
            ..CreateTaskRequest::default()
        };
        self.call(
            &format!("create the task {id}"),
            self.tasks().create(named(request)),
        )
        .map(|answer| answer.pid)
    }

    /// Starts a task, or the process `exec` in it. Here and below the empty name is the task's main
    /// process.
    pub(crate) fn start(&self, id: &str, exec: &str) -> Result<()> {
        let request = StartRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call(
            &format!("start {id} {exec}"),
            self.tasks().start(named(request)),
        )
        .map(drop)
    }

    /// Returns containerd's state of a process.
    pub(crate) fn state(&self, id: &str, exec: &str) -> Result<Process> {
        let request = GetRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        let answer = self.call(
            &format!("read the state of {id} {exec}"),
            self.tasks().get(named(request)),
        )?;
        answer
            .process
            .with_context(|| format!("no state of {id} {exec}"))
    }

    /// Waits until a process has ended, and returns its exit code.
    pub(crate) fn wait(&self, id: &str, exec: &str) -> Result<u32> {
        let request = WaitRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call(
            &format!("wait for {id} {exec}"),
            self.tasks().wait(named(request)),
        )
        .map(|answer| answer.exit_status)
    }

    pub(crate) fn kill(&self, id: &str, signal: u32) -> Result<()> {
        let request = KillRequest {
            container_id: id.to_owned(),
            exec_id: String::new(),
            signal,
            all: false,
        };
        self.call(
            &format!("send signal {signal} to {id}"),
            self.tasks().kill(named(request)),
        )
        .map(drop)
    }

    /// Deletes an ended task, and returns its exit code.
    pub(crate) fn delete(&self, id: &str) -> Result<u32> {
        let request = DeleteTaskRequest {
            container_id: id.to_owned(),
        };
        self.call(
            &format!("delete the task {id}"),
            self.tasks().delete(named(request)),
        )
        .map(|answer| answer.exit_status)
    }

    pub(crate) fn pause(&self, id: &str) -> Result<()> {
        self.call(
            &format!("pause {id}"),
            self.tasks().pause(named(PauseTaskRequest {
                container_id: id.to_owned(),
            })),
        )
        .map(drop)
    }

    pub(crate) fn resume(&self, id: &str) -> Result<()> {
        self.call(
            &format!("resume {id}"),
            self.tasks().resume(named(ResumeTaskRequest {
                container_id: id.to_owned(),
            })),
        )
        .map(drop)
    }

    /// Changes limits: `resources` is OCI's `linux.resources`.
    pub(crate) fn update(&self, id: &str, resources: &Value) -> Result<()> {
        let resources = Some(Any {
            type_url: format!("{OCI}/LinuxResources"),
            value: resources.to_string().into_bytes(),
        });
        let request = UpdateTaskRequest {
            container_id: id.to_owned(),
            resources,
            ..UpdateTaskRequest::default()
        };
        self.call(&format!("update {id}"), self.tasks().update(named(request)))
            .map(drop)
    }

    /// Adds a process to a task: `spec` is OCI's `process`.
    pub(crate) fn exec(&self, id: &str, exec: &str, spec: &Value, stdout: &str) -> Result<()> {
        let spec = Some(Any {
            type_url: format!("{OCI}/Process"),
            value: spec.to_string().into_bytes(),
        });
        let (container_id, exec_id, stdout) =
            (id.to_owned(), exec.to_owned(), format!("file://{stdout}"));
        let request = ExecProcessRequest {
            container_id,
            exec_id,
            spec,
            stdout,
            ..ExecProcessRequest::default()
        };
        self.call(
            &format!("exec {exec} in {id}"),
            self.tasks().exec(named(request)),
        )
        .map(drop)
    }

    /// Deletes an ended process `exec`, and returns its exit code.
    pub(crate) fn delete_exec(&self, id: &str, exec: &str) -> Result<u32> {
        let request = DeleteProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call(
            &format!("delete {exec} of {id}"),
            self.tasks().delete_process(named(request)),
        )
        .map(|answer| answer.exit_status)
    }

    /// Returns the metrics of a task, as they are sent.
    pub(crate) fn metrics(&self, id: &str) -> Result<Any> {
        let request = MetricsRequest {
            filters: vec![format!("id=={id}")],
        };
        let answer = self.call(
            &format!("read the metrics of {id}"),
            self.tasks().metrics(named(request)),
        )?;
        answer
            .metrics
            .into_iter()
            .find_map(|metric| metric.data)
            .with_context(|| format!("no metrics of {id}"))
    }

    fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        self.block_on(async { call.await.map(Response::into_inner).map_err(Into::into) })
            .with_context(|| what.to_owned())
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }
}

/// Makes a request in the client's namespace.
fn named<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "containerd-namespace",
        NAMESPACE.parse().expect("the namespace is a plain word"),
    );
    request
}

/// Encodes a `runtimeoptions.v1.Options` with a table.
fn table(text: &str) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Options {
        #[prost(string, tag = "3")]
        config_body: String,
    }
    prost::Message::encode_to_vec(&Options {
        config_body: text.to_owned(),
    })
}
