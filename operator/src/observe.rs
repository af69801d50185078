//! Watched objects as values: what decisions are made of, and nothing else of them.
//!
//! [`World`] holds what watches said, and what this operator wrote itself: an answer to a write is
//! newer than any watch event that is still on its way, and a decision made on the older one would
//! be made twice.
//!
//! * `node`: what matters of a node. * `distribution`: what it seems to be. * `job`: how far an
//!   installer is. * `complaint`: what Events say of its pod.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};

use crate::crd::{Phase, WasmRuntime, WasmRuntimeNode};
use crate::names;
use crate::plan::{InstallerFacts, JobFacts, NodeFacts, NodeState, Observed, Obstacle};

mod complaint;
mod distribution;
mod job;
mod kept;
mod node;

pub use distribution::of_node;
pub use job::{JobEnd, PodEnd, end_of_job, end_of_pod};

/// How many Jobs are remembered whose pod ended before it started: more than nodes are changed at a
/// time.
const REMEMBERED: usize = 4096;
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
    /// Jobs that are gone, and whose pod is known to have ended before its container started.
    unstarted: BTreeSet<String>,
    /// Warnings about objects of the operator's namespace, by the Events' names. Nothing waits for
    /// them.
    complaints: Kept<complaint::Complaint>,
    /// RuntimeClasses, by name.
    pub classes: Kept<RuntimeClass>,
    /// Names of the objects in [`Self::runtime_nodes`] that were written without an answer: nothing
    /// is decided before it is known which installer they name.
    pub doubts: BTreeSet<String>,
}

/// What a watch, or a write of our own, says.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it goes through a channel once and is taken apart there"
)]
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
    /// Of something that went wrong in the operator's namespace.
    Event(watcher::Event<Event>),
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
            News::Job(event) => {
                if let watcher::Event::Delete(job) = &event {
                    self.note_end_of_job(&job.name_any());
                }
                self.jobs.hear(event, |job| job::end_of_job(&job))
            }
            News::Pod(event) => {
                // The last that is heard of a pod says how it ended.
                if let watcher::Event::Delete(pod) = &event {
                    let end = job::end_of_pod(pod);
                    if end.never_began() {
                        self.remember_unstarted(end.job);
                    }
                }
                self.pods.hear(event, |pod| job::end_of_pod(&pod))
            }
            News::Event(event) => self
                .complaints
                .hear(event, |event| complaint::of_event(&event)),
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

    /// Takes out a Job that we removed.
    pub fn remove_job(&mut self, name: &str) {
        self.note_end_of_job(name);
        self.jobs.remove(name);
    }

    /// A Job is gone. If its pod was refused each time that it was to be made, nothing has happened
    /// on the node.
    fn note_end_of_job(&mut self, name: &str) {
        let had_pods = self.jobs.get(name).is_none_or(JobEnd::had_pods)
            || self.pods.values().any(|pod| pod.job == name);
        if !had_pods && self.complaint("Job", name).is_some() {
            self.remember_unstarted(name.to_owned());
        }
    }

    fn remember_unstarted(&mut self, job: String) {
        if self.unstarted.len() >= REMEMBERED {
            self.unstarted.pop_first();
        }
        self.unstarted.insert(job);
    }

    /// The newest warning about an object of the operator's namespace.
    fn complaint(&self, kind: &str, name: &str) -> Option<Obstacle> {
        let about = self
            .complaints
            .values()
            .filter(|complaint| complaint.is_about(kind, name));
        about
            .max_by_key(|complaint| complaint.last)
            .map(|complaint| complaint.obstacle.clone())
    }

    /// What is known of an installer, whose Job may be gone.
    fn installer(&self, name: &str) -> Option<JobFacts> {
        let pods: Vec<(&String, &PodEnd)> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.job == name)
            .collect();
        let of_pod = || pods.iter().find_map(|(pod, _)| self.complaint("Pod", pod));
        let complaint = || {
            of_pod().or_else(|| {
                pods.is_empty()
                    .then(|| self.complaint("Job", name))
                    .flatten()
            })
        };
        let ends: Vec<&PodEnd> = pods.iter().map(|(_, pod)| *pod).collect();
        job::facts(
            self.jobs.get(name),
            &ends,
            self.unstarted.contains(name),
            complaint,
        )
    }

    /// What a decision about `runtime` is made of.
    pub fn observed(
        &self,
        runtime: &WasmRuntime,
        now: Timestamp,
        installer: &InstallerFacts,
    ) -> Observed {
        let name = runtime.name_any();
        let (ours, others): (Vec<_>, Vec<_>) = self
            .runtime_nodes
            .values()
            .partition(|state| state.spec.runtime == name);
        let ours_at_work: BTreeSet<String> = ours
            .iter()
            .filter_map(|state| state.status.as_ref()?.job.clone())
            .collect();
        let states = ours
            .into_iter()
            .map(|state| (state.spec.node.clone(), state_of(state)))
            .collect();
        let at_work = |other: &&&WasmRuntimeNode| {
            other.status.as_ref().is_some_and(|status| {
                status.job.is_some() && matches!(status.phase, Phase::Installing | Phase::Removing)
            })
        };
        let mut busy: BTreeSet<String> = others
            .iter()
            .filter(at_work)
            .map(|state| state.spec.node.clone())
            .collect();
        // An installer that was given up for lost may be at work all the same.
        let is_known = |job: &String| ours_at_work.contains(job);
        busy.extend(
            self.jobs
                .iter()
                .filter(|(name, job)| job.is_open() && !is_known(name))
                .map(|(_, job)| job.node.clone()),
        );
        busy.extend(
            self.pods
                .values()
                .filter(|pod| pod.is_at_work() && !is_known(&pod.job))
                .map(|pod| pod.node.clone()),
        );
        let jobs = self
            .jobs
            .iter()
            .filter(|(_, job)| job.runtime == name)
            .map(|(name, _)| name);
        let jobs: BTreeSet<&String> = jobs.chain(&ours_at_work).collect();
        Observed {
            now,
            runtime: runtime.clone(),
            peers: self
                .runtimes
                .values()
                .filter(|peer| peer.name_any() != name)
                .cloned()
                .collect(),
            nodes: self
                .nodes
                .iter()
                .map(|(name, node)| (name.clone(), node.clone()))
                .collect(),
            states,
            busy,
            jobs: jobs
                .into_iter()
                .filter_map(|name| Some((name.clone(), self.installer(name)?)))
                .collect(),
            class: self.classes.get(&runtime.spec.runtime_class.name).cloned(),
            installer: installer.clone(),
        }
    }
}

fn state_of(state: &WasmRuntimeNode) -> NodeState {
    let owner = state
        .owner_references()
        .iter()
        .find(|owner| owner.kind == "Node");
    NodeState {
        uid: state.uid().unwrap_or_default(),
        node_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
        deleting: state.meta().deletion_timestamp.is_some(),
        status: state.status.clone().unwrap_or_default(),
    }
}

/// Which installer Jobs and pods are this operator's, as a label selector.
pub fn installers() -> String {
    format!(
        "{}={},{}",
        names::MANAGED_BY,
        names::MANAGER,
        names::RUNTIME_LABEL
    )
}
