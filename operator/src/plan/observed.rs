//! What a decision is made of: the runtime, its nodes, and how far it is on each.

use std::collections::{BTreeMap, BTreeSet};

use installer_protocol::{Distribution, Report};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{Arch, WasmRuntime, WasmRuntimeNodeStatus};

/// Everything that a decision is made of.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The time of looking.
    pub now: Timestamp,
    /// The runtime.
    pub runtime: WasmRuntime,
    /// The other runtimes of the cluster.
    pub peers: Vec<WasmRuntime>,
    /// Every node of the cluster, by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// How far this runtime is on nodes, by the nodes' names.
    pub states: BTreeMap<String, NodeState>,
    /// Nodes on which an installer is at work that this runtime does not know of: another
    /// runtime's, or one of its own that was given up for lost.
    pub busy: BTreeSet<String>,
    /// Installer Jobs of this runtime, by name.
    pub jobs: BTreeMap<String, JobFacts>,
    /// The RuntimeClass of the runtime's name.
    pub class: Option<RuntimeClass>,
    /// What installers are made of.
    pub installer: InstallerFacts,
}

/// What matters of the settings by which installer Jobs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallerFacts {
    /// The image that installers run from.
    pub image: String,
    /// The architectures that the image is for.
    pub architectures: Vec<Arch>,
    /// Digest over every setting that stands in a Job's template.
    pub digest: String,
}

/// What matters of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    /// Tells it from a later node of the same name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Key and effect of each of its taints.
    pub taints: Vec<(String, String)>,
    /// Whether the kubelet says that it can run pods.
    pub readiness: Readiness,
    /// Whether it is about to go.
    pub leaving: bool,
    /// `kubernetes.io/arch`, if it is one that there are runtimes for.
    pub arch: Option<Arch>,
    /// `linux`, or another.
    pub os: String,
    /// Which handlers its containerd serves.
    pub handlers: Handlers,
    /// Changes with each boot.
    pub boot_id: String,
    /// What it seems to be.
    pub distribution: Distribution,
}

/// Whether a node can run pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, or nobody knows.
    NotReady,
}

/// Which handlers a node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handlers {
    /// These.
    Listed(BTreeSet<String>),
    /// Its containerd (before 2.0) does not tell the kubelet. The installer asked it on the node.
    Unanswerable,
}

/// How far the runtime is on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// Tells the object from a later one of the same name.
    pub uid: String,
    /// The node that it was made for; a later node of that name is another one.
    pub node_uid: String,
    /// Whether somebody deleted the object.
    pub deleting: bool,
    /// What was last written down.
    pub status: WasmRuntimeNodeStatus,
}

/// An installer Job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobFacts {
    /// It has not ended.
    Running {
        /// When it was made.
        made: Option<Timestamp>,
        /// Digest of the template that it was made of; none where an older operator made it.
        template: Option<String>,
        /// Whether its container runs.
        start: Start,
    },
    /// The Job is deleted, and its pod has not ended.
    Ending,
    /// It ended, and said so.
    Reported(Box<Report>),
    /// It ended without a report.
    Lost {
        /// What Kubernetes says of its end.
        why: String,
        /// Whether its container may have run.
        began: Began,
    },
}

/// Whether an installer's container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It runs.
    Started,
    /// It does not run yet, and Kubernetes gives no reason.
    Pending,
    /// It cannot start, for this reason. Kubernetes tries it again and again.
    Blocked(Obstacle),
}

/// What keeps an installer's container from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// In Kubernetes' word, such as `ErrImagePull`, `FailedMount` or `FailedCreate`.
    pub reason: String,
    /// For people.
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
