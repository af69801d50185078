//! The API `runtime.wasmedge.dev/v1alpha1`. The schema that clusters enforce is generated from
//! these types.
//!
//! * [`WasmRuntime`]: a runtime, the nodes it belongs on, and how it gets there.
//! * [`WasmRuntimeNode`]: how far it is on one node; written by the operator alone.

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
pub use node::{Phase, WasmRuntimeNode, WasmRuntimeNodeSpec, WasmRuntimeNodeStatus};
pub use options::{Grouping, LogLevel, OptionsSpec, Sandboxer};
pub use status::{ConditionReason, ConditionType, Counts, WasmRuntimeStatus};

/// A WebAssembly runtime, the nodes that it belongs on, and how it gets there.
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
    doc = "A WebAssembly runtime, the nodes that it belongs on, and how it gets there.",
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')", "the name is \
                                                            a DNS label of at most 40 letters, \
                                                            digits and dashes that begins with a \
                                                            letter"),
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version", "description": "Version of the runtime that nodes get"}"#,
    printcolumn = r#"{"name": "Class", "type": "string", "jsonPath": ".spec.runtimeClass.name", "description": "RuntimeClass that pods name"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodes.desired", "description": "Nodes that shall have it"}"#,
    printcolumn = r#"{"name": "Ready", "type": "integer", "jsonPath": ".status.nodes.ready", "description": "Nodes that take pods"}"#,
    printcolumn = r#"{"name": "Updated", "type": "integer", "jsonPath": ".status.nodes.updated", "description": "Nodes that have what the spec says"}"#,
    printcolumn = r#"{"name": "Failed", "type": "integer", "jsonPath": ".status.nodes.failed", "description": "Nodes on which it failed"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.state", "description": "What the operator is doing, or waiting for"}"#,
    printcolumn = r#"{"name": "Deleting", "type": "date", "jsonPath": ".metadata.deletionTimestamp", "description": "Since when it is being deleted"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.containerd.mode != 'Preinstalled' || !has(self.artifact.platforms) || \
                        self.artifact.platforms.size() == 0", "in mode Preinstalled the node's \
                                                               image brings the runtime: leave \
                                                               artifact.platforms empty"))]
#[x_kube(validation = ("self.containerd.mode != 'Preinstalled' || (self.containerd.sandboxer == \
                        'PodSandbox' && self.runtime.grouping == 'Node' && self.runtime.logLevel \
                        == 'Info' && !has(self.runtime.maxContainers))", "in mode Preinstalled the \
                                                                          node's image says the \
                                                                          runtime's options: leave \
                                                                          runtime and \
                                                                          containerd.sandboxer as \
                                                                          they are by default"))]
pub struct WasmRuntimeSpec {
    /// Which nodes shall have the runtime, by their labels: the pool. Empty selects every Linux
    /// node that is not a control plane's. Pods land only on nodes of the pool on which the runtime
    /// was seen to work.
    #[serde(default)]
    #[schemars(schema_with = "schema::label_selector")]
    pub node_selector: LabelSelector,
    /// The RuntimeClass that pods name.
    #[serde(default)]
    pub runtime_class: RuntimeClassSpec,
    /// Where the runtime comes from.
    #[serde(default)]
    pub artifact: ArtifactSpec,
    /// How the nodes' containerd learns of the runtime.
    #[serde(default)]
    pub containerd: ContainerdSpec,
    /// Options of the runtime. A change of them comes to nodes like a new version.
    #[serde(default)]
    pub runtime: OptionsSpec,
    /// In which order and how fast nodes are changed.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// Taints that the operator takes off a node as soon as the runtime works there. Node pools
    /// that scale up give them to new nodes, so that nothing lands there too early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub startup_taints: Vec<StartupTaint>,
    /// What happens to nodes when this object is deleted.
    #[serde(default)]
    pub uninstall_policy: UninstallPolicy,
}

/// The RuntimeClass that pods name, and containerd's name for it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeClassSpec {
    /// Name of the RuntimeClass.
    #[serde(default = "wasmedge")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "the RuntimeClass's name cannot be changed: pods \
                                               name it; make another WasmRuntime"))]
    pub name: String,
    /// Name that containerd knows the runtime by. Two WasmRuntimes may not share one.
    #[serde(default = "wasmedge")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "the handler cannot be changed: nodes serve it; make \
                                               another WasmRuntime"))]
    pub handler: String,
    /// Resources that a pod takes beside what its containers ask for, as `podFixed` of a
    /// RuntimeClass. The default is a hundredth of a processor, and more memory than a pod of a
    /// small program was measured to take in all, which was below 3 MiB (docs/benchmarks.md).
    #[serde(default = "overhead", deserialize_with = "schema::quantities")]
    #[schemars(schema_with = "schema::overhead")]
    pub overhead: BTreeMap<String, Quantity>,
    /// Tolerations that every pod of the class gets, for pools with a taint of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Whether a RuntimeClass of that name which somebody else made may be taken over (k3s and RKE2
    /// bring one called `wasmedge`). It is put back as it was when this object is deleted.
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

/// Where the runtime comes from: the installer's image, unless platforms are given.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// One archive for each architecture of the pool's nodes. Empty: the runtime in the installer's
    /// image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 2),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["arch"])
    )]
    pub platforms: Vec<Platform>,
}

/// The runtime's archive for one architecture.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.url) != has(self.image)", "an archive has either a url or an \
                                                            image"))]
pub struct Platform {
    /// The architecture, as `kubernetes.io/arch` has it.
    pub arch: Arch,
    /// Where to download it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+/\S*$"))]
    pub url: Option<String>,
    /// The OCI artifact that has it as a layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^\S+/\S+$"))]
    pub image: Option<String>,
    /// SHA-256 of the archive. Nothing reads it before this is proven.
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

    /// The word, as `kubernetes.io/arch` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// How containerd learns of the runtime.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerdSpec {
    /// Which of containerd's files is written.
    #[serde(default)]
    pub mode: Mode,
    /// Whether systemd sets up the cgroups of pods of this class. It has to be what the kubelet's
    /// `cgroupDriver` says.
    #[serde(default)]
    pub systemd_cgroup: SystemdCgroup,
    /// Who makes the sandboxes of pods: containerd, with a container for each, which the runtime
    /// serves without a process (`PodSandbox`), or the runtime through containerd's Sandbox API
    /// (`Shim`). That needs containerd 2.4 or later, a node with an older one is refused; and of
    /// its pods kubelet tells no network metrics.
    #[serde(default)]
    pub sandboxer: Sandboxer,
    /// What lies elsewhere on these nodes than their distribution puts it. What was written to one
    /// place could not be found from another, so the two paths that something is written to cannot
    /// be changed.
    #[serde(default)]
    #[x_kube(validation = ("has(self.config) == has(oldSelf.config) && (!has(self.config) || \
                            self.config == oldSelf.config)", "config cannot be changed: the \
                                                              handler stands there; make another \
                                                              WasmRuntime"))]
    #[x_kube(validation = ("has(self.install) == has(oldSelf.install) && (!has(self.install) || \
                            self.install == oldSelf.install)", "install cannot be changed: the \
                                                                runtime lies there; make another \
                                                                WasmRuntime"))]
    pub paths: HostPaths,
}

/// Which of containerd's files is written.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A drop-in where the node's containerd merges those rightly, else its main file.
    #[default]
    Auto,
    /// A drop-in, or nothing.
    DropIn,
    /// The main file.
    InPlace,
    /// None: the node's image brings runtime and handler, and the operator only proves that they
    /// work.
    Preinstalled,
}

/// Whether systemd sets up the cgroups of pods of a class.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemdCgroup {
    /// As the node's pods are seen to do it.
    #[default]
    Auto,
    /// It does.
    Enabled,
    /// The runtime itself does.
    Disabled,
}

/// Paths on nodes, where they differ from the distribution's.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPaths {
    /// containerd's main configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*/[^/\s]+$"))]
    pub config: Option<String>,
    /// containerd's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*/[^/\s]+$"))]
    pub socket: Option<String>,
    /// The systemd unit that is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9:_.@\\-]+\.service$"))]
    pub unit: Option<String>,
    /// The folder that the runtime's folder `wasmedge-runtime` is made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/[^/\s][^\s]*$"))]
    pub install: Option<String>,
}

/// In which order and how fast nodes are changed.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// How many nodes have to work with a new version before the others get it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub canary: u32,
    /// How many nodes, or which share of the pool ("25%", at least one), are changed at the same
    /// time.
    #[serde(default = "one_node")]
    #[x_kube(validation = ("type(self) == int ? self > 0 && self <= 100000 : \
                            self.matches('^([1-9][0-9]?|100)%$')", "maxUnavailable is a number \
                                                                    from 1 to 100000 or a \
                                                                    percentage from 1% to 100%"))]
    pub max_unavailable: IntOrString,
    /// After how many nodes that failed the rollout stops, and after how many that could not be
    /// cleaned no further one is begun to be cleaned. A node whose pods still use the runtime does
    /// not count.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: u32,
    /// Begins no further node; those that were begun are finished.
    #[serde(default)]
    pub paused: bool,
    /// How long one node may take, in seconds. The least is what an installer needs that has to
    /// wait, and to go back.
    #[serde(default = "node_timeout")]
    #[schemars(range(min = SHORTEST_TIMEOUT, max = 7200))]
    pub node_timeout_seconds: u32,
}

fn one() -> u32 {
    1
}

fn one_node() -> IntOrString {
    IntOrString::Int(1)
}

/// An installer waits for another one's lock (60 s), and then, there and back, for the unit's
/// restart (180 s), for containerd to be ready (60 s) and for the guest (90 s): the limits in
/// `installer/src/stage.rs`, `services.rs` and `stage/verify.rs`. A deadline below their sum would
/// kill it on its way back.
const SHORTEST_TIMEOUT: u32 = 60 + 2 * (180 + 60 + 90);

/// The least, and what comes before it: the installer's image is pulled (3 min), and an archive
/// downloaded (5 min).
fn node_timeout() -> u32 {
    SHORTEST_TIMEOUT + 180 + 300
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

/// A taint that a node starts with. Its value does not matter.
#[derive(JsonSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartupTaint {
    /// The taint's key.
    #[schemars(length(max = 316), regex(pattern = schema::QUALIFIED))]
    pub key: String,
    /// The taint's effect; none means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// What a taint does; none means any of it.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// Keeps pods away that are not there yet.
    NoSchedule,
    /// Keeps pods away if there are other nodes.
    PreferNoSchedule,
    /// Drives pods away that are there.
    NoExecute,
}

/// What happens to nodes when a `WasmRuntime` is deleted.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UninstallPolicy {
    /// Each is brought back to what it was; the object stays until all are.
    #[default]
    Remove,
    /// Nodes, labels and RuntimeClass stay as they are, and nobody looks after them any more.
    Retain,
}

impl From<Mode> for request::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::DropIn => Self::DropIn,
            Mode::InPlace => Self::InPlace,
            Mode::Preinstalled => Self::Preinstalled,
        }
    }
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

impl From<&HostPaths> for request::Paths {
    fn from(paths: &HostPaths) -> Self {
        let HostPaths {
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
