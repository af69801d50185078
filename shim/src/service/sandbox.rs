//! The Sandbox service: containerd's `runtime.sandbox.v1` API, for handlers with `sandboxer =
//! "shim"`. With it containerd 2.4 and later has the runtime make pods, without an image or a
//! container for them.
//!
//! A pod is the same here as in containerd's default mode: a task without a process. The spec that
//! the default mode passes is derived from kubelet's pod configuration, and each verb is one or two
//! of the Task service's:
//!
//! | request | action |
//! |---|---|
//! | CreateSandbox | writes a spec into the bundle, then Create; makes the files that the pod's containers share |
//! | StartSandbox | Start; returns the id of the thread that holds the namespaces, and the spec with their paths |
//! | StopSandbox, WaitSandbox | Kill, Wait |
//! | ShutdownSandbox | Kill if needed, Delete; the host stays, as it serves other pods |
//! | SandboxStatus, PingSandbox | from memory |
//! | SandboxMetrics | the counters of the pod's cgroup, which kubelet made |
//!
//! UpdateSandbox is not in our protocol crate; containerd gets Unimplemented and goes on without.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use async_trait::async_trait;
use container_cgroup::Cgroup;
use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, KillRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
    WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::Sandbox as SandboxService;
use containerd_shim_protos::ttrpc::Result as TtrpcResult;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::types::platform::Platform;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use pod_sandbox::cri::PodConfig;
use pod_sandbox::files::PodFiles;
use runtime_options::CgroupDriver;
use shim_protocol::wire::Message;

use crate::blocking::blocking;
use crate::bundle::CONFIG;
use crate::error::{CreateError, TaskError};
use crate::host::Host;
use crate::lifecycle::State;
use crate::names::NodePath;
use crate::options::handed_over;
use crate::process::{Process, SIGKILL};
use crate::service::{run_or_undo, run_to_completion, run_until_cancelled};
use crate::verbs;

/// The type URL of CRI's pod configuration.
const POD_SANDBOX_CONFIG: &str = "runtime.v1.PodSandboxConfig";
/// The type URL of an OCI runtime spec in containerd's registry.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// CRI's names of a pod's states, which containerd compares literally.
const READY: &str = "SANDBOX_READY";
const NOT_READY: &str = "SANDBOX_NOTREADY";

/// The Sandbox service of a host.
#[derive(Clone)]
pub(crate) struct Sandboxes {
    host: Arc<Host>,
    pods: Arc<Mutex<HashMap<String, Arc<PodState>>>>,
}

/// The state of a pod beside its task.
struct PodState {
    config: PodConfig,
    spec: Spec,
    created_at: SystemTime,
    /// Held while the pod is created or removed.
    turn: tokio::sync::Mutex<()>,
}

impl Sandboxes {
    /// Creates the service of `host`.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            pods: Arc::default(),
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<PodState>>> {
        // Every change is one insert or remove, so the map is consistent even if its last holder
        // panicked.
        failures::lock_ignoring_poison(&self.pods)
    }

    fn pod(&self, id: &str) -> Result<Arc<PodState>, TaskError> {
        self.pods()
            .get(id)
            .cloned()
            .ok_or_else(|| TaskError::NotFound { id: id.to_owned() })
    }

    /// Returns the process of the pod's task: the thread that holds its namespaces.
    fn process(&self, id: &str) -> Result<Arc<Process>, TaskError> {
        self.pod(id)?;
        Ok(Arc::clone(&self.host.task(id)?.init))
    }

    async fn create(
        &self,
        request: CreateSandboxRequest,
    ) -> Result<CreateSandboxResponse, TaskError> {
        let mut config = pod_config(request.options.as_ref())?;
        if config.cgroup_parent.is_empty() {
            // As containerd does for containers without a parent.
            config.cgroup_parent = format!("/{}", self.host.namespace);
        }
        let (id, bundle) = (request.sandbox_id, PathBuf::from(request.bundle_path));
        let spec = config.spec(&id, &request.netns_path);
        let pod = Arc::new(PodState {
            config,
            spec,
            created_at: SystemTime::now(),
            turn: tokio::sync::Mutex::default(),
        });
        // Taken before the pod can be found: a shutdown that comes meanwhile waits for the result.
        let _turn = pod.turn.lock().await;
        self.add(&id, &pod)?;
        let done = self.make(&id, &bundle, &pod).await;
        if done.is_err() {
            self.pods().remove(&id);
        }
        done.map(|()| CreateSandboxResponse::default())
    }

    fn add(&self, id: &str, pod: &Arc<PodState>) -> Result<(), TaskError> {
        match self.pods().entry(id.to_owned()) {
            Entry::Occupied(_) => Err(TaskError::Exists { id: id.to_owned() }),
            Entry::Vacant(place) => {
                place.insert(Arc::clone(pod));
                Ok(())
            }
        }
    }

    async fn make(&self, id: &str, bundle: &Path, pod: &PodState) -> Result<(), TaskError> {
        let file = bundle.join(CONFIG);
        pod.spec.save(&file).map_err(|source| CreateError::Spec {
            file: NodePath::new(file),
            source,
        })?;
        let limit = handed_over(bundle)
            .map_err(CreateError::from)?
            .map_or(self.host.max_containers, |options| {
                options.handler.max_containers
            });
        let create = CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            options: MessageField::some(options(&pod.config, limit)),
            ..Default::default()
        };
        verbs::create(&self.host, create).await?;
        let files = self.make_files(id, &pod.config).await;
        if files.is_err()
            && let Err(error) = self.remove(id).await
        {
            tracing::warn!(
                pod = id,
                "cannot remove the pod after a failed Create: {}",
                crate::text::chain(&error)
            );
        }
        files
    }

    fn files(&self, id: &str) -> Result<PodFiles, TaskError> {
        Ok(PodFiles::below(
            &self
                .host
                .records
                .folder(&self.host.namespace, id)
                .map_err(CreateError::from)?,
        ))
    }

    /// Makes the files that the pod's containers share. The mount is written into the pod's record
    /// first.
    async fn make_files(&self, id: &str, config: &PodConfig) -> Result<(), TaskError> {
        let (host, id, config, files) = (
            Arc::clone(&self.host),
            id.to_owned(),
            config.clone(),
            self.files(id)?,
        );
        blocking(move || {
            let record = host
                .records
                .read(&host.namespace, &id)
                .map_err(CreateError::from)?;
            let mut record = record.ok_or(TaskError::NotFound { id })?;
            record.mounts.push(files.mount_point());
            host.records.write(&record).map_err(CreateError::from)?;
            Ok(files.make(&config).map_err(CreateError::from)?)
        })
        .await
    }

    async fn start(&self, request: StartSandboxRequest) -> Result<StartSandboxResponse, TaskError> {
        let id = request.sandbox_id;
        let pod = self.pod(&id)?;
        let pid = verbs::start(
            &self.host,
            StartRequest {
                id: id.clone(),
                ..Default::default()
            },
            std::future::pending(),
        )
        .await?
        .pid;
        let mut spec = pod.spec.clone();
        name_namespaces(&mut spec, pid);
        let value =
            serde_json::to_vec(&spec).map_err(|error| CreateError::Panicked(error.to_string()))?;
        let spec = MessageField::some(Any {
            type_url: SPEC.to_owned(),
            value,
            ..Default::default()
        });
        Ok(StartSandboxResponse {
            pid,
            created_at: timestamp(pod.created_at),
            spec,
            ..Default::default()
        })
    }

    async fn stop(&self, id: &str) -> Result<(), TaskError> {
        if self.process(id)?.state() == State::Exited {
            return Ok(());
        }
        match verbs::kill(
            &self.host,
            KillRequest {
                id: id.to_owned(),
                signal: SIGKILL,
                ..Default::default()
            },
        )
        .await
        {
            // Another request was faster.
            Ok(_) | Err(TaskError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn wait(&self, request: WaitSandboxRequest) -> Result<WaitSandboxResponse, TaskError> {
        let id = request.sandbox_id;
        self.pod(&id)?;
        let exit = verbs::wait(
            &self.host,
            WaitRequest {
                id,
                ..Default::default()
            },
        )
        .await?;
        Ok(WaitSandboxResponse {
            exit_status: exit.exit_status,
            exited_at: exit.exited_at,
            ..Default::default()
        })
    }

    fn status(&self, request: SandboxStatusRequest) -> Result<SandboxStatusResponse, TaskError> {
        let sandbox_id = request.sandbox_id;
        let (pod, process) = (self.pod(&sandbox_id)?, self.process(&sandbox_id)?);
        let state = if process.state() == State::Running {
            READY
        } else {
            NOT_READY
        }
        .to_owned();
        let exited_at = process
            .exit()
            .map(|exit| timestamp(exit.at))
            .unwrap_or_default();
        Ok(SandboxStatusResponse {
            sandbox_id,
            pid: process.pid(),
            state,
            created_at: timestamp(pod.created_at),
            exited_at,
            ..Default::default()
        })
    }

    /// Removes the pod. containerd may repeat the request.
    async fn shutdown(&self, id: &str) -> Result<(), TaskError> {
        let Ok(pod) = self.pod(id) else {
            return Ok(());
        };
        let _turn = pod.turn.lock().await;
        // Its Create failed, or another request removed it meanwhile.
        if !self.pod(id).is_ok_and(|now| Arc::ptr_eq(&now, &pod)) {
            return Ok(());
        }
        match self.stop(id).await {
            // Its task was deleted separately.
            Ok(()) | Err(TaskError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.remove(id).await?;
        self.pods().remove(id);
        Ok(())
    }

    /// Removes the pod's files and its task.
    async fn remove(&self, id: &str) -> Result<(), TaskError> {
        let files = self.files(id)?;
        blocking(move || Ok(files.remove().map_err(CreateError::from)?)).await?;
        match verbs::delete(
            &self.host,
            DeleteRequest {
                id: id.to_owned(),
                ..Default::default()
            },
        )
        .await
        {
            Ok(_) | Err(TaskError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn metrics(
        &self,
        request: SandboxMetricsRequest,
    ) -> Result<SandboxMetricsResponse, TaskError> {
        let id = request.sandbox_id;
        let (pod, host) = (self.pod(&id)?, Arc::clone(&self.host));
        // The pod's own cgroup is a folder with either driver.
        let data = blocking(move || {
            let cgroup = Cgroup::open(
                &host.hierarchies,
                CgroupDriver::Cgroupfs,
                &pod.config.cgroup_parent,
            )
            .map_err(CreateError::from)?;
            Ok(cgroup.metrics().map_err(CreateError::from)?)
        })
        .await?;
        let mut response = SandboxMetricsResponse::default();
        // The protocol crate does not export the name of this message's type.
        let metrics = response.metrics.mut_or_insert_default();
        metrics.timestamp = timestamp(SystemTime::now());
        metrics.id = id;
        metrics.data = MessageField::some(data);
        Ok(response)
    }
}

#[async_trait]
impl SandboxService for Sandboxes {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> TtrpcResult<CreateSandboxResponse> {
        let (this, of_undo, id) = (self.clone(), self.clone(), request.sandbox_id.clone());
        let undo = async move {
            if let Err(error) = of_undo.shutdown(&id).await {
                tracing::warn!(
                    pod = id,
                    "cannot remove the pod of a cancelled Create: {}",
                    crate::text::chain(&error)
                );
            }
        };
        run_or_undo(
            "create_sandbox",
            async move { Box::pin(this.create(request)).await },
            undo,
        )
        .await
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> TtrpcResult<StartSandboxResponse> {
        let this = self.clone();
        run_to_completion("start_sandbox", async move { this.start(request).await }).await
    }

    async fn platform(
        &self,
        _: &TtrpcContext,
        request: PlatformRequest,
    ) -> TtrpcResult<PlatformResponse> {
        let platform = async { self.pod(&request.sandbox_id).map(|_| own_platform()) };
        let platform = run_until_cancelled("platform", platform).await?;
        Ok(PlatformResponse {
            platform: MessageField::some(platform),
            ..Default::default()
        })
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> TtrpcResult<StopSandboxResponse> {
        let this = self.clone();
        let stopped = run_to_completion("stop_sandbox", async move {
            this.stop(&request.sandbox_id).await
        });
        stopped.await.map(|()| StopSandboxResponse::default())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> TtrpcResult<WaitSandboxResponse> {
        run_until_cancelled("wait_sandbox", self.wait(request)).await
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> TtrpcResult<SandboxStatusResponse> {
        run_until_cancelled("sandbox_status", async { self.status(request) }).await
    }

    async fn ping_sandbox(
        &self,
        _: &TtrpcContext,
        request: PingRequest,
    ) -> TtrpcResult<PingResponse> {
        run_until_cancelled("ping_sandbox", async { self.pod(&request.sandbox_id) })
            .await
            .map(|_| PingResponse::default())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> TtrpcResult<ShutdownSandboxResponse> {
        let this = self.clone();
        let shut = run_to_completion("shutdown_sandbox", async move {
            this.shutdown(&request.sandbox_id).await
        });
        shut.await.map(|()| ShutdownSandboxResponse::default())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> TtrpcResult<SandboxMetricsResponse> {
        run_until_cancelled("sandbox_metrics", self.metrics(request)).await
    }
}

/// Decodes CRI's pod configuration.
fn pod_config(options: Option<&Any>) -> Result<PodConfig, TaskError> {
    let options = options.filter(|any| any.type_url.rsplit('/').next() == Some(POD_SANDBOX_CONFIG));
    let options = options.ok_or(TaskError::Unsupported {
        what: "a sandbox without CRI's pod configuration",
    })?;
    PodConfig::decode(&options.value).map_err(|source| TaskError::PodConfig { source })
}

/// Returns the runtime options for Create. containerd passed the handler's options to the launcher
/// alone, which passed `max_containers` to the host at its start, or hands it over in the bundle;
/// the cgroup driver is derived from the pod's cgroup.
fn options(config: &PodConfig, max_containers: Option<NonZeroU32>) -> Any {
    let limit = max_containers
        .map(|max| format!("max_containers = {max}\n"))
        .unwrap_or_default();
    let table = format!("SystemdCgroup = {}\n{limit}", config.slice().is_some());
    // runtimeoptions.v1.Options { type_url = 1, config_path = 2, config_body = 3 }
    let value = Message::default().text(3, &table).into_bytes();
    Any {
        type_url: "runtimeoptions.v1.Options".to_owned(),
        value,
        ..Default::default()
    }
}

/// Sets the paths of the namespaces that `thread` holds in the spec, where containerd's clients
/// look for them.
fn name_namespaces(spec: &mut Spec, thread: u32) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        let name = match namespace.typ() {
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Uts => "uts",
            _ => continue,
        };
        namespace.set_path(Some(
            Path::new("/proc")
                .join(thread.to_string())
                .join("ns")
                .join(name),
        ));
    }
}

/// Names the platform as images do.
fn own_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        ..Default::default()
    }
}

fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(at))
}

#[cfg(test)]
mod tests;
