//! How far a runtime is on one node. Written by the operator alone; people read it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A runtime on a node. The operator makes, keeps and removes these objects.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runtime.wasmedge.dev",
    version = "v1alpha1",
    kind = "WasmRuntimeNode",
    plural = "wasmruntimenodes",
    shortname = "wrn",
    category = "wasmedge",
    status = "WasmRuntimeNodeStatus",
    derive = "PartialEq",
    doc = "How far a runtime is on one node. The operator makes, keeps and removes these objects.",
    printcolumn = r#"{"name": "Runtime", "type": "string", "jsonPath": ".spec.runtime"}"#,
    printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.reason"}"#,
    printcolumn = r#"{"name": "Attempts", "type": "integer", "jsonPath": ".status.attempts"}"#,
    printcolumn = r#"{"name": "Since", "type": "date", "jsonPath": ".status.since"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "what a WasmRuntimeNode belongs to cannot be changed"))]
pub struct WasmRuntimeNodeSpec {
    /// Name of the `WasmRuntime`.
    #[schemars(length(min = 1, max = 40))]
    pub runtime: String,
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
}

/// How far the runtime is on the node.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeNodeStatus {
    /// Where the node stands.
    #[serde(default)]
    pub phase: Phase,
    /// Since when it stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Digest of the spec that the node is being brought to, or was last tried with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Digest of the spec that the node is known to have; none where it has none, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Version of the runtime that the handler leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the archive that it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// containerd's version on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// The file in which the handler stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// Tries with this target, the running one included.
    #[serde(default)]
    pub attempts: u32,
    /// Name of the running installer's Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Whether that Job was taken back because it could not start, and its pod has not been seen to
    /// end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Whether no installer's container has started on the node so far, the running Job's not
    /// counted: such a node needs no cleaning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// When the next try may begin, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Value of the retry annotation that was last obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_token: Option<String>,
    /// Why the node stands where it stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Boot of the node that the runtime was last proven in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// Where a node stands.
#[derive(
    JsonSchema,
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
)]
pub enum Phase {
    /// It was claimed: from now on it counts as touched.
    #[default]
    Claimed,
    /// An installer is at work.
    Installing,
    /// The installer is done; the cluster has not seen the handler yet, or the node is not Ready.
    Verifying,
    /// Pods can land.
    Ready,
    /// What the spec says failed here. Pods can land if an older version works.
    Failed,
    /// The node cannot have the runtime.
    Unsupported,
    /// The runtime is being taken off.
    Removing,
}

impl Phase {
    /// Every phase, for tables, tests and metrics.
    pub const ALL: &'static [Self] = &[
        Self::Claimed,
        Self::Installing,
        Self::Verifying,
        Self::Ready,
        Self::Failed,
        Self::Unsupported,
        Self::Removing,
    ];

    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "Claimed",
            Self::Installing => "Installing",
            Self::Verifying => "Verifying",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
            Self::Unsupported => "Unsupported",
            Self::Removing => "Removing",
        }
    }
}
