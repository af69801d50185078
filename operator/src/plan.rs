//! What is to be done for a runtime now: a pure function of what was observed.
//!
//! A node's way, and the way back. Every arrow is one reconcile; each may be the last one of this
//! operator.
//!
//! ```text
//!              grant           job: Installed        Ready, handler listed
//!  (none) ──► Claimed ──► Installing ──────► Verifying ──────────────► Ready ──┐ new spec, reboot
//!                ▲             │  ▲                  │ too late          │     │
//!                │   any other │  │ new spec,        ▼                   │     │
//!                │     outcome └──┼──────────────► Failed ◄──────────────┘     │
//!                │                └─────────────────┘ retry   handler lost     │
//!                └─────────────────────────────────────────────────────────────┘
//!
//!  no longer wanted:  label off ──► Removing ──job: Removed──► (none)
//! ```
//!
//! * `observed`: what decisions are made of. * `node`: the step of one node. * `waiting`: an
//!   installer that has not ended. * `heard`: what an installer's end leads to. * `rollout`: which
//!   nodes may begin. * `removal`: the way back.
//!
//! A step is written down in the node's object before it is taken, and each step can be taken
//! twice: whoever comes after a crash goes on where the object says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use installer_protocol::Request;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;

use crate::crd::{Phase, StartupTaint, UninstallPolicy, WasmRuntime, WasmRuntimeNodeStatus};

mod observed;
mod target;
mod node;
mod heard;
mod waiting;
mod pace;
mod seen;
mod rollout;
mod removal;
mod class;
#[cfg(test)]
pub(crate) mod tests;

pub use class::ClassVerdict;
pub use observed::{
    Began, Handlers, InstallerFacts, JobFacts, NodeFacts, NodeState, Observed, Obstacle, Readiness,
    Start,
};
pub use rollout::Rollout;
pub(crate) use rollout::is_changing;
pub use target::{Target, Unfit, template};

/// One change, idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Keeps the runtime's object until its nodes are clean.
    AddFinalizer,
    /// Makes the RuntimeClass what the spec says.
    ApplyRuntimeClass,
    /// Takes the RuntimeClass away, or puts an adopted one back as it was.
    RemoveRuntimeClass,
    /// Makes the node's object.
    Claim {
        /// The node.
        node: String,
        /// The object goes with it.
        uid: String,
    },
    /// Writes down where the node stands.
    SetNode {
        /// The node.
        node: String,
        /// Where it stands.
        status: Box<WasmRuntimeNodeStatus>,
    },
    /// Starts an installer.
    StartInstaller {
        /// The Job's name.
        job: String,
        /// The node.
        node: String,
        /// What is to be done.
        request: Box<Request>,
        /// How long it may take.
        limit: Duration,
    },
    /// Removes a Job that has been heard.
    DeleteJob {
        /// The node whose step this is; none for a Job that nobody refers to any more.
        node: Option<String>,
        /// Its name.
        job: String,
    },
    /// Lets pods land.
    Label {
        /// The node.
        node: String,
        /// Whose label it is to be.
        uid: String,
    },
    /// Keeps pods from landing.
    Unlabel {
        /// The node.
        node: String,
        /// Whose label it was.
        uid: String,
    },
    /// Takes startup taints off.
    RemoveTaints {
        /// The node.
        node: String,
        /// Whose taints they are.
        uid: String,
        /// Which.
        taints: Vec<StartupTaint>,
    },
    /// Removes the node's object.
    Forget {
        /// The node.
        node: String,
    },
    /// Lets the runtime's object go.
    ReleaseFinalizer,
}

impl Action {
    /// The node that the action concerns; after a failure the node's further actions wait.
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

/// What is to be done, and what then is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The changes, in their order.
    pub actions: Vec<Action>,
    /// Where every node stands once they are made.
    pub after: BTreeMap<String, WasmRuntimeNodeStatus>,
    /// The nodes that shall have the runtime.
    pub desired: BTreeSet<String>,
    /// What nodes are brought to.
    pub target: Target,
    /// What holds the rollout, or that nothing does.
    pub rollout: Rollout,
    /// Whose RuntimeClass it is.
    pub class: ClassVerdict,
    /// When to look again though nothing was seen to change.
    pub again: Option<Duration>,
}

impl Plan {
    /// The plan as long as nothing of it is done.
    #[must_use]
    pub fn undone(self, observed: &Observed) -> Self {
        Self {
            actions: Vec::new(),
            after: standing(observed),
            ..self
        }
    }
}

/// Where every node stands now.
fn standing(observed: &Observed) -> BTreeMap<String, WasmRuntimeNodeStatus> {
    observed
        .states
        .iter()
        .map(|(name, state)| (name.clone(), state.status.clone()))
        .collect()
}

/// Whether a runtime is on its way in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Nodes shall have it.
    In,
    /// It is being deleted, and its nodes are cleaned.
    Out,
    /// It is being deleted, and its nodes are left alone.
    LetGo,
}

impl Direction {
    /// Which way `runtime` is on.
    pub fn of(runtime: &WasmRuntime) -> Self {
        match (
            runtime.meta().deletion_timestamp.is_some(),
            runtime.spec.uninstall_policy,
        ) {
            (false, _) => Self::In,
            (true, UninstallPolicy::Remove) => Self::Out,
            (true, UninstallPolicy::Retain) => Self::LetGo,
        }
    }
}

/// Decides.
pub fn plan(observed: &Observed) -> Plan {
    let direction = Direction::of(&observed.runtime);
    let target = Target::of(observed);
    let class = class::judge(observed, direction);
    let desired = desired(observed, direction);
    let mut draft = Draft::new(observed);
    if let Some(action) = class::preparation(observed, class, direction) {
        draft.act(action);
        draft.prepared = false;
    }
    if direction == Direction::Out && class == ClassVerdict::ToRemove {
        draft.act(Action::RemoveRuntimeClass);
    }
    // First what follows from what happened, then what may begin: a slot that became free is used
    // at once.
    let mut candidates = Vec::new();
    for name in draft.known_nodes() {
        candidates.extend(node::step(&mut draft, &target, &desired, direction, &name));
    }
    let rollout = rollout::begin(&mut draft, &target, &desired, class, direction, candidates);
    draft.sweep();
    if direction != Direction::In && draft.after.is_empty() && draft.states_are_gone() {
        draft.act(Action::ReleaseFinalizer);
    }
    let again = draft.again();
    Plan {
        actions: draft.actions,
        after: draft.after,
        desired,
        target,
        rollout,
        class,
        again,
    }
}

/// The nodes that shall have the runtime.
fn desired(observed: &Observed, direction: Direction) -> BTreeSet<String> {
    if direction != Direction::In {
        return BTreeSet::new();
    }
    let selector = &observed.runtime.spec.node_selector;
    let wanted = observed.nodes.iter().filter(|(_, node)| {
        !node.leaving && node.os == "linux" && target::selects(selector, &node.labels)
    });
    wanted.map(|(name, _)| name.clone()).collect()
}

/// A plan in the making: actions, and where nodes stand once they are made.
#[derive(Debug)]
struct Draft<'a> {
    observed: &'a Observed,
    actions: Vec<Action>,
    after: BTreeMap<String, WasmRuntimeNodeStatus>,
    /// Whether there is all that nodes rest on: if not, nothing is begun, and no node is labelled.
    prepared: bool,
    wake: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    fn new(observed: &'a Observed) -> Self {
        Self {
            observed,
            actions: Vec::new(),
            after: standing(observed),
            prepared: true,
            wake: None,
        }
    }

    fn act(&mut self, action: Action) {
        match &action {
            Action::Claim { node, .. } => drop(
                self.after
                    .insert(node.clone(), WasmRuntimeNodeStatus::default()),
            ),
            Action::SetNode { node, status } => {
                drop(self.after.insert(node.clone(), (**status).clone()));
            }
            Action::Forget { node } => drop(self.after.remove(node)),
            _ => {}
        }
        self.actions.push(action);
    }

    /// Writes down that the node stands elsewhere now; what `change` does not touch stays.
    fn set(&mut self, node: &str, phase: Phase, change: impl FnOnce(&mut WasmRuntimeNodeStatus)) {
        let mut status = self.after.get(node).cloned().unwrap_or_default();
        // The first step away from a node that nothing was begun on.
        status.untouched |= status.phase == Phase::Claimed;
        if status.phase != phase {
            status.since = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                self.observed.now,
            ));
        }
        status.phase = phase;
        change(&mut status);
        if self.after.get(node) != Some(&status) {
            self.act(Action::SetNode {
                node: node.to_owned(),
                status: Box::new(status),
            });
        }
    }

    /// Every node that is there or that the runtime was brought to, by name.
    fn known_nodes(&self) -> BTreeSet<String> {
        self.observed
            .nodes
            .keys()
            .chain(self.observed.states.keys())
            .cloned()
            .collect()
    }

    /// Removes Jobs that ended and were heard by an operator that did not come to remove them.
    fn sweep(&mut self) {
        let is_open =
            |facts: &JobFacts| matches!(facts, JobFacts::Running { .. } | JobFacts::Ending);
        let ended = self
            .observed
            .jobs
            .iter()
            .filter(|(_, facts)| !is_open(facts));
        for (job, _) in ended {
            let referred = self
                .after
                .values()
                .any(|status| status.job.as_ref() == Some(job));
            let removed = self.actions.iter().any(
                |action| matches!(action, Action::DeleteJob { job: other, .. } if other == job),
            );
            if !referred && !removed {
                self.actions.push(Action::DeleteJob {
                    node: None,
                    job: job.clone(),
                });
            }
        }
    }

    fn states_are_gone(&self) -> bool {
        self.observed
            .states
            .keys()
            .all(|node| !self.after.contains_key(node))
    }

    /// Asks for another look at `time` at the latest.
    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    fn again(&self) -> Option<Duration> {
        let wake = self.wake?;
        // A moment later than that, so that the time has come for sure.
        Some(
            Duration::try_from(wake.duration_since(self.observed.now)).unwrap_or_default()
                + Duration::from_millis(50),
        )
    }
}
