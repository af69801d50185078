//! Status of a [`super::WasmRuntime`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Status of a runtime.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeStatus {
    /// Generation of the spec that this status is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Current activity of the operator, or the reason why it waits, in a few words.
    #[serde(default)]
    pub state: String,
    /// Digest of the part of the spec that requires a change of nodes. Nodes with this digest are
    /// up to date.
    #[serde(default)]
    pub hash: String,
    /// Version of the runtime that nodes get; known as soon as the first node has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Node counts.
    #[serde(default)]
    pub nodes: Counts,
    /// `Available`, `Progressing` and `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Node counts. A node can be part of several.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Nodes that the selector selects.
    #[serde(default)]
    pub desired: u32,
    /// Selected nodes that have the current spec.
    #[serde(default)]
    pub updated: u32,
    /// Nodes that accept pods, with any version.
    #[serde(default)]
    pub ready: u32,
    /// Nodes that an installer is changing, or that are not Ready again after a change.
    #[serde(default)]
    pub changing: u32,
    /// Nodes on which the current spec failed.
    #[serde(default)]
    pub failed: u32,
    /// Nodes that the runtime does not support.
    #[serde(default)]
    pub unsupported: u32,
    /// Nodes from which the runtime is being removed, or that wait for it.
    #[serde(default)]
    pub removing: u32,
}

/// Types of a runtime's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Pods of the class can run: at least one node accepts them.
    Available,
    /// Nodes are being changed or wait to be changed.
    Progressing,
    /// An administrator has to act.
    Degraded,
}

impl ConditionType {
    /// Returns the text in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
        }
    }
}

/// Reasons of a runtime's conditions. Reasons of installers are apart:
/// [`installer_protocol::Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionReason {
    /// Every node has the current spec.
    UpToDate,
    /// Some nodes accept pods.
    NodesReady,
    /// No node accepts pods yet.
    NoNodesReady,
    /// The selector selects no node.
    NoNodesSelected,
    /// Nodes are being changed.
    RollingOut,
    /// The canary nodes are being changed.
    Canary,
    /// The spec pauses the rollout.
    Paused,
    /// The number of failed nodes has reached the threshold.
    RolloutStopped,
    /// The pods of some installers cannot start.
    InstallersWaiting,
    /// Some nodes failed, fewer than the threshold.
    NodesFailed,
    /// The runtime does not support some nodes.
    NodesUnsupported,
    /// The runtime is being removed from nodes.
    Removing,
    /// Some nodes could not be cleaned.
    RemovalBlocked,
    /// The RuntimeClass exists, and the operator did not create it.
    RuntimeClassNotOurs,
    /// An older `WasmRuntime` has the same handler or RuntimeClass.
    NameTaken,
    /// The API server refused or failed a request of the operator.
    ApiError,
    /// Nothing is wrong.
    AsExpected,
}

impl ConditionReason {
    /// Returns the text in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::NodesReady => "NodesReady",
            Self::NoNodesReady => "NoNodesReady",
            Self::NoNodesSelected => "NoNodesSelected",
            Self::RollingOut => "RollingOut",
            Self::Canary => "Canary",
            Self::Paused => "Paused",
            Self::RolloutStopped => "RolloutStopped",
            Self::InstallersWaiting => "InstallersWaiting",
            Self::NodesFailed => "NodesFailed",
            Self::NodesUnsupported => "NodesUnsupported",
            Self::Removing => "Removing",
            Self::RemovalBlocked => "RemovalBlocked",
            Self::RuntimeClassNotOurs => "RuntimeClassNotOurs",
            Self::NameTaken => "NameTaken",
            Self::ApiError => "ApiError",
            Self::AsExpected => "AsExpected",
        }
    }
}
