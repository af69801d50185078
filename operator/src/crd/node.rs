//! State of one runtime on one node. Only the operator writes it; it is for people to read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One runtime on one node. The operator creates, updates and deletes these objects.
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
    doc = "State of a runtime on one node. The operator creates, updates and deletes these \
           objects.",
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
#[x_kube(validation = ("self == oldSelf", "runtime and node of a WasmRuntimeNode cannot be \
                                           changed"))]
pub struct WasmRuntimeNodeSpec {
    /// Name of the `WasmRuntime`.
    #[schemars(length(min = 1, max = 40))]
    pub runtime: String,
    /// Name of the node.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
}

/// State of the runtime on the node.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeNodeStatus {
    /// Phase of the node.
    #[serde(default)]
    pub phase: Phase,
    /// Time of the last change of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Digest of the spec that is being applied to the node, or that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Digest of the spec that the node has; left out if it has none or if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Version of the runtime that the handler uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the runtime's archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Version of the node's containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// Configuration file that holds the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_path: Option<String>,
    /// Attempts with this target, the current one included.
    #[serde(default)]
    pub attempts: u32,
    /// Name of the current installer Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Whether that Job was deleted because it could not start, and the end of its pod has not been
    /// observed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Whether no installer's container has started on the node so far, except for the current
    /// Job's. Such a node needs no clean-up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// Earliest time of the next attempt, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Value of the retry annotation that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_token: Option<String>,
    /// Reason for the phase, as one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Reason for the phase, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Boot ID of the node at the last successful verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// Phase of a node.
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
    /// Reserved for a change; from now on the node counts as touched.
    #[default]
    Claimed,
    /// An installer is running.
    Installing,
    /// The installer has finished; the node does not report the handler yet, or is not Ready.
    Verifying,
    /// Pods can be scheduled to the node.
    Ready,
    /// The current spec failed. Pods can be scheduled to the node if an older version works.
    Failed,
    /// The runtime does not support the node.
    Unsupported,
    /// The runtime is being removed.
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

    /// Returns the text in the status.
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
