//! What the operator says of a [`super::WasmRuntime`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a runtime is doing.
#[derive(JsonSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmRuntimeStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the operator is doing, or waiting for, in a few words.
    #[serde(default)]
    pub state: String,
    /// Digest over all of the spec that a node has to be changed for. Nodes that have it are up to
    /// date.
    #[serde(default)]
    pub hash: String,
    /// Version of the runtime that nodes get, once the first one has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Numbers of nodes.
    #[serde(default)]
    pub nodes: Counts,
    /// `Available`, `Progressing` and `Degraded`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Numbers of nodes. A node may be counted in several of them.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Nodes that the selector selects.
    #[serde(default)]
    pub desired: u32,
    /// Of these, nodes that have what the spec says.
    #[serde(default)]
    pub updated: u32,
    /// Nodes that take pods, whichever version they have.
    #[serde(default)]
    pub ready: u32,
    /// Nodes that an installer is at work on, or that have not come back from it.
    #[serde(default)]
    pub changing: u32,
    /// Nodes on which what the spec says failed.
    #[serde(default)]
    pub failed: u32,
    /// Nodes that cannot have the runtime.
    #[serde(default)]
    pub unsupported: u32,
    /// Nodes that are being cleaned, or wait for it.
    #[serde(default)]
    pub removing: u32,
}

/// The types of a runtime's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Pods of the class can run: at least one node takes them.
    Available,
    /// Nodes are being changed, or wait for their turn.
    Progressing,
    /// Something needs a person.
    Degraded,
}

impl ConditionType {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
        }
    }
}

/// The reasons of a runtime's conditions that are not an installer's own
/// ([`installer_protocol::Reason`] are the others).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionReason {
    /// Every node has what the spec says.
    UpToDate,
    /// Some nodes take pods.
    NodesReady,
    /// No node takes pods yet.
    NoNodesReady,
    /// The selector selects no node.
    NoNodesSelected,
    /// Nodes are being changed.
    RollingOut,
    /// The first nodes are being tried.
    Canary,
    /// The spec says so.
    Paused,
    /// Too many nodes failed.
    RolloutStopped,
    /// Installers' pods cannot start on some nodes.
    InstallersWaiting,
    /// Some nodes failed, not enough to stop.
    NodesFailed,
    /// Some nodes cannot have the runtime.
    NodesUnsupported,
    /// Nodes are being cleaned.
    Removing,
    /// Nodes could not be cleaned.
    RemovalBlocked,
    /// The RuntimeClass belongs to somebody else.
    RuntimeClassNotOurs,
    /// An older `WasmRuntime` has the same handler or RuntimeClass.
    NameTaken,
    /// The API server does not do what it is asked for.
    ApiError,
    /// All is well.
    AsExpected,
}

impl ConditionReason {
    /// The word in the status.
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
