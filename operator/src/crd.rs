//! The API `runtime.wasmedge.dev/v1alpha1`. The schema that clusters enforce is generated from
//! these types.
//!
//! * [`WasmRuntime`]: a runtime, the nodes that get it, and its rollout.
//! * [`WasmRuntimeNode`]: the state of one runtime on one node; only the operator writes it.

use std::collections::BTreeMap;

use installer_protocol::request;
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod definition;
mod node;
mod options;
mod schema;
mod status;

pub use definition::definitions;
pub use installer_protocol::ConfigMode;
pub use node::{Phase, WasmRuntimeNode, WasmRuntimeNodeSpec, WasmRuntimeNodeStatus};
use runtime_options::{HandlerOptions, Sandboxer};
pub use status::{ConditionReason, ConditionType, Counts, WasmRuntimeStatus};

/// The rule that the options of a preinstalled runtime are at their defaults.
const PREINSTALLED_OPTIONS: &str = "self.containerd.mode != 'Preinstalled' || \
     (self.containerd.sandboxer == 'PodSandbox' && \
     self.runtime.grouping == 'Node' && self.runtime.logLevel == 'Info' && \
     !has(self.runtime.maxContainers) && self.runtime.engine == 'Auto' && \
     self.runtime.mode == 'Aot' && self.runtime.compile == 'Tiered' && \
     self.runtime.compileWait == '10s' && \
     (!has(self.runtime.locked) || self.runtime.locked.size() == 0) && \
     self.runtime.artifactStore == '/var/lib/wasmedge-runtime/artifacts' && \
     self.runtime.artifactStoreMaxMiB == 10240 && \
     self.runtime.artifactStoreMaxDiskPercent == 10 && self.runtime.compileJobs == 1 && \
     self.runtime.compileMemoryMiB == 3072 && self.runtime.compileCpuSeconds == 3600)";
/// The rule that only an engine with an interpreter interprets.
const INTERPRETERS: &str =
    "self.runtime.engine != 'Wasmtime' || self.runtime.mode != 'Interpreter'";

/// A WebAssembly runtime, the nodes that get it, and its rollout.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runtime.wasmedge.dev",
    version = "v1alpha1",
    kind = "WasmRuntime",
    plural = "wasmruntimes",
    shortname = "wrt",
    category = "wasmedge",
    status = "WasmRuntimeStatus",
    derive = "PartialEq",
    doc = "A WebAssembly runtime, the nodes that get it, and its rollout.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "the name is \
                                                            a DNS label of at most 40 letters, \
                                                            digits and dashes that begins with a \
                                                            letter"),
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version", "description": "Version of the runtime that nodes get"}"#,
    printcolumn = r#"{"name": "Class", "type": "string", "jsonPath": ".spec.runtimeClass.name", "description": "RuntimeClass that pods name"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodes.desired", "description": "Nodes that the selector selects"}"#,
    printcolumn = r#"{"name": "Ready", "type": "integer", "jsonPath": ".status.nodes.ready", "description": "Nodes that take pods"}"#,
    printcolumn = r#"{"name": "Updated", "type": "integer", "jsonPath": ".status.nodes.updated", "description": "Nodes that have the current spec"}"#,
    printcolumn = r#"{"name": "Failed", "type": "integer", "jsonPath": ".status.nodes.failed", "description": "Nodes on which the current spec failed"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.state", "description": "Current activity of the operator, or the reason why it waits"}"#,
    printcolumn = r#"{"name": "Deleting", "type": "date", "jsonPath": ".metadata.deletionTimestamp", "description": "Time since its deletion was requested"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.containerd.mode != 'Preinstalled' || !has(self.artifact.platforms) || \
                        self.artifact.platforms.size() == 0", "in mode Preinstalled the node's \
                                                               image brings the runtime: leave \
                                                               artifact.platforms empty"))]
#[x_kube(validation = (PREINSTALLED_OPTIONS, "in mode Preinstalled the node's image sets the \
                                              runtime's options: leave runtime and \
                                              containerd.sandboxer at their defaults"))]
#[x_kube(validation = (INTERPRETERS, "Wasmtime has no interpreter: choose runtime.mode Aot, or \
                                      another runtime.engine"))]
pub struct WasmRuntimeSpec {
    /// Label selector of the pool: the nodes that get the runtime. An empty selector selects every
    /// Linux node that is not a control-plane node. Pods are scheduled only to nodes of the pool
    /// on which a guest has run.
    #[serde(default)]
    #[schemars(schema_with = "schema::label_selector")]
    pub node_selector: LabelSelector,
    /// RuntimeClass that pods name.
    #[serde(default)]
    pub runtime_class: RuntimeClassSpec,
    /// Source of the runtime.
    #[serde(default)]
    pub artifact: ArtifactSpec,
    /// Configuration of the nodes' containerd.
    #[serde(default)]
    pub containerd: ContainerdSpec,
    /// Options of the runtime. A change is rolled out like a new version.
    #[serde(default)]
    pub runtime: HandlerOptions,
    /// Order and speed of changes to nodes.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// Taints that the operator removes from a node as soon as the runtime works there. A node
    /// pool that scales up sets them on new nodes, so that no pod is scheduled there too early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub startup_taints: Vec<StartupTaint>,
    /// Treatment of the nodes when this object is deleted.
    #[serde(default)]
    pub uninstall_policy: UninstallPolicy,
}

/// RuntimeClass that pods name, and its handler in containerd.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeClassSpec {
    /// Name of the RuntimeClass.
    #[serde(default = "wasmedge")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "the RuntimeClass's name cannot be changed: pods \
                                               name it; create another WasmRuntime"))]
    pub name: String,
    /// Name of the handler in containerd's configuration. Two WasmRuntimes cannot share a handler.
    #[serde(default = "wasmedge")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "the handler cannot be changed: nodes serve it; \
                                               create another WasmRuntime"))]
    pub handler: String,
    /// Resources of a pod in addition to the requests of its containers: `podFixed` of a
    /// RuntimeClass. The default is a hundredth of a CPU, and more memory than a pod of a small
    /// program used in total when it was measured, which was below 3 MiB (docs/benchmarks.md).
    #[serde(default = "overhead", deserialize_with = "schema::quantities")]
    #[schemars(schema_with = "schema::overhead")]
    pub overhead: BTreeMap<String, Quantity>,
    /// Tolerations that every pod of the class gets, for pools with a taint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Allows the operator to take over an existing RuntimeClass of that name which it did not
    /// create (k3s and RKE2 ship one called `wasmedge`). The operator restores it when this object
    /// is deleted.
    #[serde(default)]
    pub adopt_existing: bool,
}

fn wasmedge() -> String {
    "wasmedge".to_owned()
}

fn overhead() -> BTreeMap<String, Quantity> {
    BTreeMap::from([
        ("cpu".to_owned(), Quantity("10m".to_owned())),
        ("memory".to_owned(), Quantity("4Mi".to_owned())),
    ])
}

impl Default for RuntimeClassSpec {
    fn default() -> Self {
        Self {
            name: wasmedge(),
            handler: wasmedge(),
            overhead: overhead(),
            tolerations: Vec::new(),
            adopt_existing: false,
        }
    }
}

/// Source of the runtime: the installer's image, unless `platforms` lists archives.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// One archive for each architecture of the pool's nodes. If empty, nodes get the runtime of
    /// the installer's image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 2),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["arch"])
    )]
    pub platforms: Vec<Platform>,
}

/// Archive of the runtime for one architecture.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.url) != has(self.image)", "an archive has either a url or an \
                                                            image"))]
pub struct Platform {
    /// Architecture, as in the node label `kubernetes.io/arch`.
    pub arch: Arch,
    /// URL of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+/\S*$"))]
    pub url: Option<String>,
    /// OCI artifact that holds the archive as a layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^\S+/\S+$"))]
    pub image: Option<String>,
    /// SHA-256 of the archive. The installer compares it before it reads the archive.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// An architecture of nodes.
#[derive(
    JsonSchema, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// Every architecture.
    pub const ALL: &'static [Self] = &[Self::Amd64, Self::Arm64];

    /// Returns the value of the node label `kubernetes.io/arch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Configuration of containerd on the nodes.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerdSpec {
    /// Configuration file that the installer edits.
    #[serde(default)]
    pub mode: ConfigMode,
    /// Selects whether systemd sets up the cgroups of pods of this class. It must agree with the
    /// kubelet's `cgroupDriver`.
    #[serde(default)]
    pub systemd_cgroup: SystemdCgroup,
    /// Creator of pod sandboxes: containerd, with one container for each, which the runtime serves
    /// without a process (`PodSandbox`), or the runtime through containerd's Sandbox API (`Shim`).
    /// `Shim` needs containerd 2.4 or later; nodes with an older one are refused. The kubelet
    /// reports no network metrics for these pods.
    #[serde(default)]
    pub sandboxer: Sandboxer,
    /// Paths that differ from the defaults of the nodes' distribution. `config` and `install`
    /// cannot be changed later, because the installer would not find the files that it wrote.
    #[serde(default)]
    #[x_kube(validation = ("has(self.config) == has(oldSelf.config) && (!has(self.config) || \
                            self.config == oldSelf.config)", "config cannot be changed: this \
                                                              file holds the handler; create \
                                                              another WasmRuntime"))]
    #[x_kube(validation = ("has(self.install) == has(oldSelf.install) && (!has(self.install) || \
                            self.install == oldSelf.install)", "install cannot be changed: this \
                                                                folder holds the runtime; create \
                                                                another WasmRuntime"))]
    pub paths: NodePaths,
}

/// Cgroup driver for pods of the class.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemdCgroup {
    /// As the node's existing pods show.
    #[default]
    Auto,
    /// systemd sets up the cgroups.
    Enabled,
    /// The runtime sets up the cgroups.
    Disabled,
}

/// Paths on the nodes that differ from the defaults of their distribution.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePaths {
    /// containerd's main configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*/[^/\s]+$"))]
    pub config: Option<String>,
    /// containerd's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*/[^/\s]+$"))]
    pub socket: Option<String>,
    /// systemd unit of containerd, which the installer restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9:_.@\\-]+\.service$"))]
    pub unit: Option<String>,
    /// Parent of the runtime's folder `wasmedge-runtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*$"))]
    pub install: Option<String>,
}

/// Order and speed of changes to nodes.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Number of nodes on which a new version must work before the others get it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub canary: u32,
    /// Number of nodes, or percentage of the pool ("25%", at least one node), that are changed at
    /// the same time.
    #[serde(default = "one_node")]
    #[x_kube(validation = ("type(self) == int ? self > 0 && self <= 100000 : \
                            self.matches('^([1-9][0-9]?|100)%$')", "maxUnavailable is a number \
                                                                    from 1 to 100000 or a \
                                                                    percentage from 1% to 100%"))]
    pub max_unavailable: IntOrString,
    /// Number of failed nodes after which the rollout stops. A removal begins no further node after
    /// this number of nodes could not be cleaned; a node whose pods still use the runtime does not
    /// count.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: u32,
    /// Pauses the rollout: no further node is begun, and nodes in progress are finished.
    #[serde(default)]
    pub paused: bool,
    /// Timeout for one node, in seconds. The minimum covers an installer that waits for a lock and
    /// then rolls back.
    #[serde(default = "node_timeout")]
    #[schemars(range(min = MIN_NODE_TIMEOUT, max = 7200))]
    pub node_timeout_seconds: u32,
}

fn one() -> u32 {
    1
}

fn one_node() -> IntOrString {
    IntOrString::Int(1)
}

/// Sum of an installer's own timeouts in seconds: the lock (60), and then, forward and in a
/// rollback, the unit's restart (180), containerd's readiness (60) and the guest (90). They are
/// in `installer/src/installation.rs`, `services.rs` and `machine.rs`. A shorter deadline would
/// kill an installer during its rollback.
const MIN_NODE_TIMEOUT: u32 = 60 + 2 * (180 + 60 + 90);

/// The minimum, plus the pull of the installer's image (3 min) and the download of an archive
/// (5 min).
fn node_timeout() -> u32 {
    MIN_NODE_TIMEOUT + 180 + 300
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            canary: 1,
            max_unavailable: one_node(),
            failure_threshold: 1,
            paused: false,
            node_timeout_seconds: node_timeout(),
        }
    }
}

/// A taint that new nodes start with. Its value is ignored.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartupTaint {
    /// Key of the taint.
    #[schemars(length(max = 316), regex(pattern = schema::QUALIFIED))]
    pub key: String,
    /// Effect of the taint; if left out, any effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// Effect of a taint.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// Pods that do not tolerate the taint are not scheduled to the node.
    NoSchedule,
    /// The scheduler prefers other nodes.
    PreferNoSchedule,
    /// As `NoSchedule`, and running pods are evicted.
    NoExecute,
}

/// Treatment of the nodes when a `WasmRuntime` is deleted.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UninstallPolicy {
    /// Each node is restored to its former state; the object stays until all are.
    #[default]
    Remove,
    /// Nodes, labels and RuntimeClass stay as they are, and the operator no longer manages them.
    Retain,
}

impl From<SystemdCgroup> for request::CgroupDriver {
    fn from(systemd: SystemdCgroup) -> Self {
        match systemd {
            SystemdCgroup::Auto => Self::Auto,
            SystemdCgroup::Enabled => Self::Systemd,
            SystemdCgroup::Disabled => Self::Cgroupfs,
        }
    }
}

impl From<&NodePaths> for request::Paths {
    fn from(paths: &NodePaths) -> Self {
        let NodePaths {
            config,
            socket,
            unit,
            install,
        } = paths.clone();
        Self {
            config,
            socket,
            unit,
            install,
        }
    }
}
