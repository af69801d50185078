//! Pods as kubelet creates them: CRI calls for tests and benchmarks.
//!
//! * [`config`]: configuration of pods and containers.
//! * [`message`]: requests and responses.
//!
//! Messages have only the fields that are used here. Numbers and meanings: `k8s.io/cri-api`,
//! `pkg/apis/runtime/v1/api.proto`.

use std::time::Duration;

use anyhow::{Context as _, Result};

pub mod config;
pub mod message;

use config::{ContainerConfig, PodConfig, Resources};
use message::{
    AllStats, ContainerStats, ContainerStatsResponse, ContainerStatus, ContainerStatusResponse,
    CreateContainer, Empty, ExecSync, Executed, HandlerFeatures, Id, PodSandboxStatusResponse,
    RunPodSandbox, SandboxStatus, StatusResponse, StopContainer, UpdateResources,
};

/// The gRPC service of all calls.
pub const SERVICE: &str = "runtime.v1.RuntimeService";

/// A synchronous client of one containerd.
pub trait Caller {
    /// Calls `method`, written as `package.Service/Method`.
    ///
    /// # Errors
    /// Fails if there is no reply, or it is an error.
    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
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
        let answer: StatusResponse = self.call("Status", Empty {})?;
        Ok(answer
            .handlers
            .into_iter()
            .find(|found| found.name == handler)
            .and_then(|found| found.features))
    }

    /// Creates a sandbox with `handler`, and returns its id.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn run_sandbox(&self, config: &PodConfig, handler: &str) -> Result<String> {
        let request = RunPodSandbox {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        self.call::<_, Id>("RunPodSandbox", request)
            .map(|answer| answer.id)
    }

    /// Stops a sandbox with its containers, and removes it.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn remove_sandbox(&self, id: &str) -> Result<()> {
        let stop = || self.call::<_, Empty>("StopPodSandbox", Id { id: id.to_owned() });
        // containerd receives the sandbox's exit event, deletes its task and closes the connection,
        // maybe before it has read the reply to its own kill. kubelet retries, too.
        stop().or_else(|error| {
            if format!("{error:#}").contains("ttrpc: closed") {
                stop()
            } else {
                Err(error)
            }
        })?;
        self.call::<_, Empty>("RemovePodSandbox", Id { id: id.to_owned() })
            .map(drop)
    }

    /// Returns the status of a sandbox.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn sandbox(&self, id: &str) -> Result<SandboxStatus> {
        let answer: PodSandboxStatusResponse =
            self.call("PodSandboxStatus", Id { id: id.to_owned() })?;
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
        let request = CreateContainer {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(container),
            sandbox_config: Some(pod.clone()),
        };
        self.call::<_, Id>("CreateContainer", request)
            .map(|answer| answer.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn start_container(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StartContainer", Id { id: id.to_owned() })
            .map(drop)
    }

    /// Stops a container: by SIGTERM, and after `grace` by SIGKILL.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        self.call::<_, Empty>(
            "StopContainer",
            StopContainer {
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
        self.call::<_, Empty>("RemoveContainer", Id { id: id.to_owned() })
            .map(drop)
    }

    /// Returns the status of a container.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn container(&self, id: &str) -> Result<ContainerStatus> {
        let answer: ContainerStatusResponse =
            self.call("ContainerStatus", Id { id: id.to_owned() })?;
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
            "ExecSync",
            ExecSync {
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
        self.call::<_, Empty>(
            "UpdateContainerResources",
            UpdateResources {
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
        let answer: ContainerStatsResponse =
            self.call("ContainerStats", Id { id: id.to_owned() })?;
        answer
            .stats
            .with_context(|| format!("no stats of container {id}"))
    }

    /// Returns the ids of the containers that have statistics.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub fn all_stats(&self) -> Result<Vec<String>> {
        let answer: AllStats = self.call("ListContainerStats", Empty {})?;
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
        let answer: AllStats = self.call("ListPodSandboxStats", Empty {})?;
        Ok(answer
            .stats
            .into_iter()
            .filter_map(|one| Some(one.attributes?.id))
            .collect())
    }

    fn call<Q, A>(&self, method: &str, message: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.caller
            .call(&format!("{SERVICE}/{method}"), message)
            .with_context(|| format!("CRI's {method}"))
    }
}
