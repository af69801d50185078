//! Watched objects as values: what decisions are made of, and nothing else of them.
//!
//! [`World`] holds what watches said, and what this operator wrote itself: an answer to a write is newer than any watch
//! event that is still on its way, and a decision made on the older one would be made twice.
//!
//! * `node`: what matters of a node. * `distribution`: what it seems to be. * `job`: how an installer ended.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};

use crate::crd::{Phase, WasmRuntime, WasmRuntimeNode};
use crate::names;
use crate::plan::{NodeFacts, NodeState, Observed};

mod distribution;
mod job;
mod kept;
mod node;

pub use distribution::of_node;
pub use job::{JobEnd, PodEnd, end_of_job, end_of_pod};
pub use kept::{Change, Kept};
pub use node::facts;

/// All that the operator knows of the cluster.
#[derive(Debug, Default)]
pub struct World {
    /// The runtimes, by name.
    pub runtimes: Kept<WasmRuntime>,
    /// How far runtimes are on nodes, by the objects' names.
    pub runtime_nodes: Kept<WasmRuntimeNode>,
    /// What matters of each node, by name.
    pub nodes: Kept<NodeFacts>,
    /// Installer Jobs, by name.
    pub jobs: Kept<job::JobEnd>,
    /// What installers' pods say, by the pods' names.
    pub pods: Kept<job::PodEnd>,
    /// RuntimeClasses, by name.
    pub classes: Kept<RuntimeClass>,
    /// Names of the objects in [`Self::runtime_nodes`] that were written without an answer: nothing is decided before it
    /// is known which installer they name.
    pub doubts: BTreeSet<String>,
}

/// What a watch, or a write of our own, says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it goes through a channel once and is taken apart there")]
pub enum News {
    /// Of a runtime.
    Runtime(watcher::Event<WasmRuntime>),
    /// Of how far a runtime is on a node.
    RuntimeNode(watcher::Event<WasmRuntimeNode>),
    /// Of a node.
    Node(watcher::Event<Node>),
    /// Of an installer's Job.
    Job(watcher::Event<Job>),
    /// Of an installer's pod.
    Pod(watcher::Event<Pod>),
    /// Of a RuntimeClass.
    Class(watcher::Event<RuntimeClass>),
}

impl World {
    /// Takes in what was said; whether it matters.
    pub fn hear(&mut self, news: News) -> Change {
        match news {
            News::Runtime(event) => self.runtimes.hear(event, |runtime| runtime),
            News::RuntimeNode(event) => self.runtime_nodes.hear(event, |state| state),
            News::Node(event) => self.nodes.hear(event, |node| facts(&node)),
            News::Job(event) => self.jobs.hear(event, |job| job::end_of_job(&job)),
            News::Pod(event) => self.pods.hear(event, |pod| job::end_of_pod(&pod)),
            News::Class(event) => self.classes.hear(event, |class| class),
        }
    }

    /// Whether every watch has said all that there is.
    pub fn is_complete(&self) -> bool {
        self.runtimes.is_complete()
            && self.runtime_nodes.is_complete()
            && self.nodes.is_complete()
            && self.jobs.is_complete()
            && self.pods.is_complete()
            && self.classes.is_complete()
    }

    /// What a decision about `runtime` is made of.
    pub fn observed(&self, runtime: &WasmRuntime, now: Timestamp, installer_image: &str) -> Observed {
        let name = runtime.name_any();
        let (ours, others): (Vec<_>, Vec<_>) = self.runtime_nodes.values().partition(|state| state.spec.runtime == name);
        let ours_at_work: BTreeSet<String> = ours.iter().filter_map(|state| state.status.as_ref()?.job.clone()).collect();
        let states = ours.into_iter().map(|state| (state.spec.node.clone(), state_of(state))).collect();
        let at_work = |other: &&&WasmRuntimeNode| {
            other.status.as_ref().is_some_and(|status| status.job.is_some() && matches!(status.phase, Phase::Installing | Phase::Removing))
        };
        let mut busy: BTreeSet<String> = others.iter().filter(at_work).map(|state| state.spec.node.clone()).collect();
        // An installer that was given up for lost may be at work all the same.
        let is_known = |job: &String| ours_at_work.contains(job);
        busy.extend(self.jobs.iter().filter(|(name, job)| job.is_open() && !is_known(name)).map(|(_, job)| job.node.clone()));
        busy.extend(self.pods.values().filter(|pod| pod.is_at_work() && !is_known(&pod.job)).map(|pod| pod.node.clone()));
        let jobs = self.jobs.iter().filter(|(_, job)| job.runtime == name);
        Observed {
            now,
            runtime: runtime.clone(),
            peers: self.runtimes.values().filter(|peer| peer.name_any() != name).cloned().collect(),
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), node.clone())).collect(),
            states,
            busy,
            jobs: jobs.map(|(name, job)| (name.clone(), job.facts(self.pods.values().filter(|pod| pod.job == *name)))).collect(),
            class: self.classes.get(&runtime.spec.runtime_class.name).cloned(),
            installer_image: installer_image.to_owned(),
        }
    }
}

fn state_of(state: &WasmRuntimeNode) -> NodeState {
    let owner = state.owner_references().iter().find(|owner| owner.kind == "Node");
    NodeState {
        uid: state.uid().unwrap_or_default(),
        node_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
        deleting: state.meta().deletion_timestamp.is_some(),
        status: state.status.clone().unwrap_or_default(),
    }
}

/// Which installer Jobs and pods are this operator's, as a label selector.
pub fn installers() -> String {
    format!("{}={},{}", names::MANAGED_BY, names::MANAGER, names::RUNTIME_LABEL)
}
