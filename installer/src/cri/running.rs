//! The pods and containers that run on a node: the pods of CRI, and the containers in containerd's
//! own API with a program's path as runtime. Neither depends on containerd's state
//! folder.

use std::collections::BTreeMap;

use cri_client::Method;
use cri_client::message::{ContainerState, SandboxState};

use super::{Cri, CriError, status};
use crate::containers::{RunningContainer, RunningPod, RunningWorkloads};

/// Selects the containers with a path as runtime, in containerd's filter syntax.
const BY_PATH: &str = "runtime.name~=\"^/\"";

const LIST_NAMESPACES: Method<Filters, Namespaces> =
    Method::new("containerd.services.namespaces.v1.Namespaces/List");
const LIST_CONTAINERS: Method<Filters, Containers> =
    Method::new("containerd.services.containers.v1.Containers/List");
const LIST_TASKS: Method<Filters, Tasks> = Method::new("containerd.services.tasks.v1.Tasks/List");

/// The used parts of containerd's API (`containerd/api/services`, unchanged since 1.0).
#[derive(Clone, PartialEq, prost::Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Filters {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<ContainerInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerInfo {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<RuntimeInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeInfo {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tasks {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<Task>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Task {
    #[prost(string, tag = "2")]
    id: String,
}

impl Cri {
    /// Lists the pods and containers that run.
    pub async fn running(&self) -> Result<RunningWorkloads, CriError> {
        let settings = self
            .client
            .status()
            .await
            .map(|answer| status::configured(&answer))?;
        let sandboxes = self.client.sandboxes(BTreeMap::new()).await?;
        let listed = self.client.containers(BTreeMap::new()).await?;
        let handlers: BTreeMap<&str, &str> = sandboxes
            .iter()
            .map(|sandbox| (sandbox.id.as_str(), sandbox.runtime_handler.as_str()))
            .collect();
        let ready = sandboxes
            .iter()
            .filter(|sandbox| sandbox.state() == SandboxState::Ready)
            .map(|sandbox| sandbox.id.as_str());
        // A container may outlive its sandbox's process, and even the sandbox.
        let running = listed
            .iter()
            .filter(|container| container.state() == ContainerState::Running);
        let running = running.map(|container| {
            if handlers.contains_key(container.pod_sandbox_id.as_str()) {
                &container.pod_sandbox_id
            } else {
                &container.id
            }
        });
        let mut pods: Vec<RunningPod> = ready
            .chain(running.map(String::as_str))
            .map(|id| RunningPod {
                id: id.to_owned(),
                handler: handlers.get(id).map(|handler| (*handler).to_owned()),
            })
            .collect();
        pods.sort();
        pods.dedup();
        Ok(RunningWorkloads {
            settings,
            pods,
            containers: self.containers_by_path().await?,
        })
    }

    /// Lists the containers, of all namespaces, that have a task and a runtime named by a
    /// program's path.
    async fn containers_by_path(&self) -> Result<Vec<RunningContainer>, CriError> {
        let mut found = Vec::new();
        let namespaces = self
            .client
            .call(&LIST_NAMESPACES, Filters::default())
            .await?;
        for namespace in namespaces
            .namespaces
            .iter()
            .map(|namespace| namespace.name.as_str())
        {
            let by_path = Filters {
                filters: vec![BY_PATH.to_owned()],
            };
            let containers = self
                .client
                .call_in_namespace(namespace, &LIST_CONTAINERS, by_path)
                .await?;
            if containers.containers.is_empty() {
                continue;
            }
            let tasks = self
                .client
                .call_in_namespace(namespace, &LIST_TASKS, Filters::default())
                .await?;
            let runs = |id: &str| tasks.tasks.iter().any(|task| task.id == id);
            let containers = containers
                .containers
                .into_iter()
                .filter(|container| runs(&container.id));
            found.extend(containers.map(|container| RunningContainer {
                namespace: namespace.to_owned(),
                id: container.id,
                program: Some(container.runtime.unwrap_or_default().name),
            }));
        }
        Ok(found)
    }
}
