//! Blocking calls of CRI, as kubelet makes them, for tests.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::{ContainerConfig, PodConfig, Resources};
use crate::message::{
    ContainerId, ContainerStats, ContainerStatus, CreateContainerRequest, Empty, ExecSyncRequest,
    Executed, HandlerFeatures, RunPodSandboxRequest, SandboxId, SandboxStatus, StatusRequest,
    StopContainerRequest, UpdateResourcesRequest,
};
use crate::method::{self, Method};

/// A synchronous client of one containerd.
pub trait Caller {
    /// Calls `method`.
    ///
    /// # Errors
    /// Fails if there is no reply, or it is an error.
    fn call<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static;
}

/// CRI of one containerd.
#[derive(Debug)]
pub struct Cri<'a, C> {
    caller: &'a C,
}

impl<'a, C: Caller> Cri<'a, C> {
    /// Creates a client that sends its calls through `caller`.
    pub fn new(caller: &'a C) -> Self {
        Self { caller }
    }

    /// Returns the features of `handler`, as reported to kubelet; none if containerd does not list
    /// it or its runtime did not answer.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn features(&self, handler: &str) -> Result<Option<HandlerFeatures>> {
        let answer = self.call(&method::STATUS, StatusRequest { verbose: false })?;
        Ok(answer
            .runtime_handlers
            .into_iter()
            .find(|found| found.name == handler)
            .and_then(|found| found.features))
    }

    /// Creates a sandbox with `handler`, and returns its id.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        self.call(&method::RUN_POD_SANDBOX, request)
            .map(|answer| answer.id)
    }

    /// Stops a sandbox with its containers, and removes it.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn remove_sandbox(&self, id: &str) -> Result<()> {
        let stop = || self.call(&method::STOP_POD_SANDBOX, SandboxId::from(id));
        // containerd receives the sandbox's exit event, deletes its task and closes the connection,
        // maybe before it has read the reply to its own kill. kubelet retries, too.
        stop().or_else(|error| {
            if format!("{error:#}").contains("ttrpc: closed") {
                stop()
            } else {
                Err(error)
            }
        })?;
        self.call(&method::REMOVE_POD_SANDBOX, SandboxId::from(id))
            .map(drop)
    }

    /// Returns the status of a sandbox.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn sandbox(&self, id: &str) -> Result<SandboxStatus> {
        let answer = self.call(&method::POD_SANDBOX_STATUS, SandboxId::from(id))?;
        answer
            .status
            .with_context(|| format!("no status of sandbox {id}"))
    }

    /// Creates a container in a sandbox, and returns its id.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn create_container(
        &self,
        sandbox: &str,
        pod: &PodConfig,
        container: ContainerConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container),
            sandbox_config: Some(pod.clone()),
        };
        self.call(&method::CREATE_CONTAINER, request)
            .map(|answer| answer.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn start_container(&self, id: &str) -> Result<()> {
        self.call(&method::START_CONTAINER, ContainerId::from(id))
            .map(drop)
    }

    /// Stops a container: by SIGTERM, and after `grace` by SIGKILL.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        self.call(
            &method::STOP_CONTAINER,
            StopContainerRequest {
                container_id: id.to_owned(),
                timeout,
            },
        )
        .map(drop)
    }

    /// Removes an exited container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.call(&method::REMOVE_CONTAINER, ContainerId::from(id))
            .map(drop)
    }

    /// Returns the status of a container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn container(&self, id: &str) -> Result<ContainerStatus> {
        let answer = self.call(&method::CONTAINER_STATUS, ContainerId::from(id))?;
        answer
            .status
            .with_context(|| format!("no status of container {id}"))
    }

    /// Runs a program in a container to completion, as exec probes do; without a timeout if
    /// `seconds` is 0.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn exec_sync(&self, id: &str, args: &[&str], seconds: i64) -> Result<Executed> {
        let cmd = args.iter().map(|word| (*word).to_owned()).collect();
        self.call(
            &method::EXEC_SYNC,
            ExecSyncRequest {
                container_id: id.to_owned(),
                cmd,
                timeout: seconds,
            },
        )
    }

    /// Changes a container's limits.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn update(&self, id: &str, resources: Resources) -> Result<()> {
        self.call(
            &method::UPDATE_CONTAINER_RESOURCES,
            UpdateResourcesRequest {
                container_id: id.to_owned(),
                linux: Some(resources),
            },
        )
        .map(drop)
    }

    /// Returns the statistics of a container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn stats(&self, id: &str) -> Result<ContainerStats> {
        let answer = self.call(&method::CONTAINER_STATS, ContainerId::from(id))?;
        answer
            .stats
            .with_context(|| format!("no stats of container {id}"))
    }

    /// Returns the ids of the containers that have statistics.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn all_stats(&self) -> Result<Vec<String>> {
        let answer = self.call(&method::LIST_CONTAINER_STATS, Empty {})?;
        Ok(answer
            .stats
            .into_iter()
            .filter_map(|one| Some(one.attributes?.id))
            .collect())
    }

    /// Returns the ids of the pods that have statistics.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn all_pods_stats(&self) -> Result<Vec<String>> {
        let answer = self.call(&method::LIST_POD_SANDBOX_STATS, Empty {})?;
        Ok(answer
            .stats
            .into_iter()
            .filter_map(|one| Some(one.attributes?.id))
            .collect())
    }

    fn call<Q, A>(&self, method: &Method<Q, A>, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.caller
            .call(method, message)
            .with_context(|| format!("CRI's {}", method.name()))
    }
}
