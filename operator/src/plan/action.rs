//! The actions of a plan: idempotent changes of the cluster.

use std::time::Duration;

use installer_protocol::Request;

use crate::crd::{StartupTaint, WasmRuntimeNodeStatus};

/// One change, idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Adds the finalizer that keeps the WasmRuntime until its nodes are clean.
    AddFinalizer,
    /// Creates the RuntimeClass, or changes it to the state in the spec.
    ApplyRuntimeClass,
    /// Deletes the RuntimeClass, or restores an adopted one.
    RemoveRuntimeClass,
    /// Creates the WasmRuntimeNode.
    Claim {
        /// The node.
        node: String,
        /// The node's uid: the Node owns the object.
        uid: String,
    },
    /// Writes the status of the WasmRuntimeNode.
    SetNode {
        /// The node.
        node: String,
        /// The new status.
        status: Box<WasmRuntimeNodeStatus>,
    },
    /// Creates an installer Job.
    StartInstaller {
        /// The Job's name.
        job: String,
        /// The node.
        node: String,
        /// The request that the installer gets.
        request: Box<Request>,
        /// The Job's deadline.
        timeout: Duration,
    },
    /// Deletes a Job after its result was recorded, or after it was abandoned.
    DeleteJob {
        /// The node of the Job; none for a Job that no node refers to.
        node: Option<String>,
        /// The Job's name.
        job: String,
    },
    /// Sets the readiness label, so that pods can be scheduled.
    Label {
        /// The node.
        node: String,
        /// The node's uid.
        uid: String,
    },
    /// Removes the readiness label.
    Unlabel {
        /// The node.
        node: String,
        /// The node's uid.
        uid: String,
    },
    /// Removes startup taints.
    RemoveTaints {
        /// The node.
        node: String,
        /// The node's uid.
        uid: String,
        /// The taints to remove.
        taints: Vec<StartupTaint>,
    },
    /// Deletes the WasmRuntimeNode.
    Forget {
        /// The node.
        node: String,
    },
    /// Removes the finalizer of the WasmRuntime.
    ReleaseFinalizer,
}

impl Action {
    /// Returns the node that the action concerns. If an action fails, the node's further actions
    /// are skipped.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Claim { node, .. }
            | Self::SetNode { node, .. }
            | Self::StartInstaller { node, .. }
            | Self::Label { node, .. }
            | Self::Unlabel { node, .. }
            | Self::RemoveTaints { node, .. }
            | Self::Forget { node } => Some(node),
            Self::DeleteJob { node, .. } => node.as_deref(),
            Self::AddFinalizer
            | Self::ApplyRuntimeClass
            | Self::RemoveRuntimeClass
            | Self::ReleaseFinalizer => None,
        }
    }
}
