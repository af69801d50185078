//! The observed cluster state: the facts of watched objects that plans depend on.
//!
//! [`ClusterState`] has the objects of the watches, and those that this operator wrote: the answer
//! to a write is newer than a watch event that is under way, and a plan with the older object would
//! repeat the write.
//!
//! * `cache`: the objects of one kind.
//! * `node`: the facts of a node. `distribution`: its Kubernetes distribution.
//! * `job`: the state of an installer. `warning`: Events about its pod.

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

mod warning;
mod distribution;
mod job;
mod cache;
mod node;

pub use distribution::of_node;
pub use job::{JobState, PodState, job_state, pod_state};

pub use cache::{Cache, Change};
pub use node::facts;

/// Maximum number of remembered unstarted Jobs: more than nodes are changed at a time.
const MAX_UNSTARTED_JOBS: usize = 4096;

/// The observed state of the cluster.
#[derive(Debug, Default)]
pub struct ClusterState {
    /// The runtimes, by name.
    pub runtimes: Cache<WasmRuntime>,
    /// The WasmRuntimeNodes, by name.
    pub runtime_nodes: Cache<WasmRuntimeNode>,
    /// The facts of each node, by name.
    pub nodes: Cache<NodeFacts>,
    /// Installer Jobs, by name.
    pub jobs: Cache<job::JobState>,
    /// Installers' pods, by name.
    pub pods: Cache<job::PodState>,
    /// Jobs that are gone, and never started a container.
    unstarted: BTreeSet<String>,
    /// Warnings about objects of the operator's namespace, by the Events' names. The state is
    /// complete without them.
    warnings: Cache<warning::Warning>,
    /// RuntimeClasses, by name.
    pub classes: Cache<RuntimeClass>,
    /// Names of the objects in [`Self::runtime_nodes`] whose last write got no answer. They are
    /// read before the next plan, because they may name an installer.
    pub unconfirmed_writes: BTreeSet<String>,
}

/// An event of a watch.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is sent through a channel once and matched there"
)]
pub enum WatchEvent {
    /// A WasmRuntime.
    Runtime(watcher::Event<WasmRuntime>),
    /// A WasmRuntimeNode.
    RuntimeNode(watcher::Event<WasmRuntimeNode>),
    /// A Node.
    Node(watcher::Event<Node>),
    /// An installer's Job.
    Job(watcher::Event<Job>),
    /// An installer's pod.
    Pod(watcher::Event<Pod>),
    /// A warning in the operator's namespace.
    Event(watcher::Event<Event>),
    /// A RuntimeClass.
    Class(watcher::Event<RuntimeClass>),
}

impl ClusterState {
    /// Applies a watch event. Returns whether it changes the state.
    pub fn apply_event(&mut self, event: WatchEvent) -> Change {
        match event {
            WatchEvent::Runtime(event) => self.runtimes.apply_event(event, |runtime| runtime),
            WatchEvent::RuntimeNode(event) => self.runtime_nodes.apply_event(event, |state| state),
            WatchEvent::Node(event) => self.nodes.apply_event(event, |node| facts(&node)),
            WatchEvent::Job(event) => {
                if let watcher::Event::Delete(job) = &event {
                    self.record_job_end(&job.name_any());
                }
                self.jobs.apply_event(event, |job| job::job_state(&job))
            }
            WatchEvent::Pod(event) => {
                // The last state of a pod shows how it ended.
                if let watcher::Event::Delete(pod) = &event {
                    let end = job::pod_state(pod);
                    if end.never_began() {
                        self.remember_unstarted(end.job);
                    }
                }
                self.pods.apply_event(event, |pod| job::pod_state(&pod))
            }
            WatchEvent::Event(event) => self
                .warnings
                .apply_event(event, |event| warning::of_event(&event)),
            WatchEvent::Class(event) => self.classes.apply_event(event, |class| class),
        }
    }

    /// Whether every watch has listed all objects.
    pub fn is_complete(&self) -> bool {
        self.runtimes.is_complete()
            && self.runtime_nodes.is_complete()
            && self.nodes.is_complete()
            && self.jobs.is_complete()
            && self.pods.is_complete()
            && self.classes.is_complete()
    }

    /// Removes a Job that this operator deleted.
    pub fn remove_job(&mut self, name: &str) {
        self.record_job_end(name);
        self.jobs.remove(name);
    }

    /// Records that a Job is gone. If its pod was never created, the node was not touched.
    fn record_job_end(&mut self, name: &str) {
        let had_pods = self.jobs.get(name).is_none_or(JobState::had_pods)
            || self.pods.values().any(|pod| pod.job == name);
        if !had_pods && self.warning("Job", name).is_some() {
            self.remember_unstarted(name.to_owned());
        }
    }

    fn remember_unstarted(&mut self, job: String) {
        if self.unstarted.len() >= MAX_UNSTARTED_JOBS {
            self.unstarted.pop_first();
        }
        self.unstarted.insert(job);
    }

    /// Returns the newest warning about an object of the operator's namespace.
    fn warning(&self, kind: &str, name: &str) -> Option<Obstacle> {
        let about = self
            .warnings
            .values()
            .filter(|warning| warning.is_about(kind, name));
        about
            .max_by_key(|warning| warning.last)
            .map(|warning| warning.obstacle.clone())
    }

    /// Returns the facts of an installer, also if its Job is gone.
    fn installer(&self, name: &str) -> Option<JobFacts> {
        let pods: Vec<(&String, &PodState)> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.job == name)
            .collect();
        let of_pod = || pods.iter().find_map(|(pod, _)| self.warning("Pod", pod));
        let warning =
            || of_pod().or_else(|| pods.is_empty().then(|| self.warning("Job", name)).flatten());
        let ends: Vec<&PodState> = pods.iter().map(|(_, pod)| *pod).collect();
        job::facts(
            self.jobs.get(name),
            &ends,
            self.unstarted.contains(name),
            warning,
        )
    }

    /// Returns the input of a plan for `runtime`.
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
        let our_jobs: BTreeSet<String> = ours
            .iter()
            .filter_map(|state| state.status.as_ref()?.job.clone())
            .collect();
        let states = ours
            .into_iter()
            .map(|state| (state.spec.node.clone(), state_of(state)))
            .collect();
        let has_installer = |other: &&&WasmRuntimeNode| {
            other.status.as_ref().is_some_and(|status| {
                status.job.is_some() && matches!(status.phase, Phase::Installing | Phase::Removing)
            })
        };
        let mut busy: BTreeSet<String> = others
            .iter()
            .filter(has_installer)
            .map(|state| state.spec.node.clone())
            .collect();
        // An abandoned installer may still run.
        let is_known = |job: &String| our_jobs.contains(job);
        busy.extend(
            self.jobs
                .iter()
                .filter(|(name, job)| job.is_open() && !is_known(name))
                .map(|(_, job)| job.node.clone()),
        );
        busy.extend(
            self.pods
                .values()
                .filter(|pod| pod.may_run() && !is_known(&pod.job))
                .map(|pod| pod.node.clone()),
        );
        let jobs = self
            .jobs
            .iter()
            .filter(|(_, job)| job.runtime == name)
            .map(|(name, _)| name);
        let jobs: BTreeSet<&String> = jobs.chain(&our_jobs).collect();
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

/// Returns the label selector of this operator's installer Jobs and pods.
pub fn installers() -> String {
    format!(
        "{}={},{}",
        names::MANAGED_BY,
        names::MANAGER,
        names::RUNTIME_LABEL
    )
}
