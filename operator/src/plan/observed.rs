//! The input of a plan: the runtime, its nodes, and the status of the runtime on each.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::{Distribution, Report};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{Arch, WasmRuntime, WasmRuntimeNodeStatus};

/// The input of a plan.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The time of the observation.
    pub now: Timestamp,
    /// The runtime.
    pub runtime: WasmRuntime,
    /// The other runtimes of the cluster.
    pub peers: Vec<WasmRuntime>,
    /// Every node of the cluster, by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// The WasmRuntimeNodes of this runtime, by the nodes' names.
    pub states: BTreeMap<String, NodeState>,
    /// Nodes on which an installer runs that no WasmRuntimeNode of this runtime names: another
    /// runtime's, or an abandoned one of its own.
    pub busy: BTreeSet<String>,
    /// Installer Jobs of this runtime, by name.
    pub jobs: BTreeMap<String, JobFacts>,
    /// The RuntimeClass that the spec names.
    pub class: Option<RuntimeClass>,
    /// The settings of installers.
    pub installer: InstallerFacts,
}

impl Observed {
    /// Returns the present status of each node.
    pub(super) fn statuses(&self) -> BTreeMap<String, WasmRuntimeNodeStatus> {
        self.states
            .iter()
            .map(|(name, state)| (name.clone(), state.status.clone()))
            .collect()
    }
}

/// The settings of installer Jobs that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallerFacts {
    /// The image that installers run from.
    pub image: String,
    /// The architectures that the image is for.
    pub architectures: Vec<Arch>,
    /// Digest of every setting in a Job's template.
    pub digest: String,
}

/// The facts of a node that a plan depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Distinguishes it from a later node of the same name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Key and effect of each of its taints.
    pub taints: Vec<(String, String)>,
    /// Whether the kubelet reports that it can run pods.
    pub readiness: Readiness,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// `kubernetes.io/arch`, if there are runtimes for it.
    pub arch: Option<Arch>,
    /// The operating system, such as `linux`.
    pub os: String,
    /// The handlers that its containerd serves.
    pub handlers: Handlers,
    /// Changes with each boot.
    pub boot_id: String,
    /// The detected distribution.
    pub distribution: Distribution,
}

/// Whether a node can run pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, or that is unknown.
    NotReady,
}

/// The handlers that a node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handlers {
    /// These.
    Listed(BTreeSet<String>),
    /// Its containerd (before 2.0) does not report them to the kubelet. The installer checked on
    /// the node.
    Unknown,
}

/// The WasmRuntimeNode of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// Distinguishes the object from a later one of the same name.
    pub uid: String,
    /// The uid of the node that it was created for; a later node of that name has another one.
    pub node_uid: String,
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// The last written status.
    pub status: WasmRuntimeNodeStatus,
}

/// The facts of an installer Job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobFacts {
    /// It has not ended.
    Running {
        /// When it was created.
        created: Option<Timestamp>,
        /// Digest of its template; none if an older operator created it.
        template: Option<String>,
        /// Whether its container runs.
        start: Start,
    },
    /// The Job is deleted, and its pod has not ended.
    Ending,
    /// It ended and left a report.
    Reported(Box<Report>),
    /// It ended without a report.
    Lost {
        /// What Kubernetes reports of its end.
        why: String,
        /// Whether its container may have run.
        began: Began,
    },
}

/// Whether an installer's container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It runs, or has run.
    Started,
    /// It does not run yet, and Kubernetes gives no reason.
    Pending,
    /// It cannot start, for this reason. Kubernetes keeps trying.
    Blocked(Obstacle),
}

/// What keeps an installer's container from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Kubernetes' reason, such as `ErrImagePull`, `FailedMount` or `FailedCreate`.
    pub reason: String,
    /// The message for users.
    pub message: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// Whether an installer's container may have run before it was seen to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// It did not: the node was not touched.
    Never,
    /// It may have.
    Perhaps,
}
