//! The plan for a runtime: a pure function from what was observed to a list of actions.
//!
//! The phases of a node, in and out. Each arrow is one reconcile; the operator may stop after any
//! of them.
//!
//! ```text
//!              started         job: Installed        Ready, handler listed
//!  (none) ──► Claimed ──► Installing ──────► Verifying ──────────────► Ready ──┐ new spec, reboot
//!                ▲             │  ▲                  │ timeout           │     │
//!                │   any other │  │ new spec,        ▼                   │     │
//!                │     outcome └──┼──────────────► Failed ◄──────────────┘     │
//!                │                └─────────────────┘ retry   handler lost     │
//!                └─────────────────────────────────────────────────────────────┘
//!
//!  not wanted:  label off ──► Removing ──job: Removed──► (none)
//! ```
//!
//! The modules in the order of the data; each uses only modules before it:
//!
//! 1. `observed`: the input. `action`: the output. `target`, `direction`: what the spec wants.
//!    `draft`: the plan in the making. `timing`, `node_facts`, `candidate`: parts of decisions.
//! 2. `class`: the RuntimeClass.
//! 3. `job_result`, `open_job`: what an installer's Job leads to. `step`, `installed`,
//!    `installing`: a node that shall have the runtime. `removal`: one that shall not. `node`:
//!    chooses between these.
//! 4. `rollout`: the candidates on which installers are started.
//!
//! A step is recorded in the node's object before it is taken, and each step can be repeated: after
//! a crash the next operator continues from the object.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::crd::WasmRuntimeNodeStatus;

mod observed;
mod action;
mod target;
mod direction;
mod draft;
mod timing;
mod node_facts;
mod candidate;
mod class;
mod job_result;
mod open_job;
mod step;
mod installed;
mod installing;
mod removal;
mod node;
mod rollout;
#[cfg(test)]
pub(crate) mod tests;

pub use action::Action;
pub use class::ClassVerdict;
pub use direction::Direction;
pub(crate) use draft::is_changing;
pub use observed::{
    Began, Handlers, InstallerFacts, JobFacts, NodeFacts, NodeState, Observed, Obstacle, Readiness,
    Start,
};
pub use rollout::Rollout;
pub use target::{Target, Unfit, template};

use draft::Draft;

/// The actions for a runtime, and what follows from them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The actions, in their order.
    pub actions: Vec<Action>,
    /// The status of each node once the actions are done.
    pub after: BTreeMap<String, WasmRuntimeNodeStatus>,
    /// The nodes that shall have the runtime.
    pub desired: BTreeSet<String>,
    /// The target of the rollout.
    pub target: Target,
    /// The state of the rollout.
    pub rollout: Rollout,
    /// What has to be done about the RuntimeClass.
    pub class: ClassVerdict,
    /// When the next plan is due, even without a change in the cluster.
    pub requeue_after: Option<Duration>,
}

impl Plan {
    /// Returns the plan without its actions.
    #[must_use]
    pub fn without_actions(self, observed: &Observed) -> Self {
        Self {
            actions: Vec::new(),
            after: observed.statuses(),
            ..self
        }
    }
}

/// Makes the plan.
pub fn plan(observed: &Observed) -> Plan {
    let direction = Direction::of(&observed.runtime);
    let target = Target::of(observed);
    let class = class::class_verdict(observed, direction);
    let desired = direction::desired_nodes(observed, direction);
    let mut draft = Draft::new(observed);
    if let Some(action) = class::preparation(observed, class, direction) {
        draft.act(action);
        draft.prepared = false;
    }
    if direction == Direction::Remove && class == ClassVerdict::ToRemove {
        draft.act(Action::RemoveRuntimeClass);
    }
    // First the consequences of what happened, then new starts: a slot that became free is used at
    // once.
    let mut candidates = Vec::new();
    for name in draft.known_nodes() {
        candidates.extend(node::step(&mut draft, &target, &desired, direction, &name));
    }
    let rollout =
        rollout::start_installers(&mut draft, &target, &desired, class, direction, candidates);
    draft.delete_leftover_jobs();
    if direction != Direction::Install && draft.is_clean() {
        draft.act(Action::ReleaseFinalizer);
    }
    let requeue_after = draft.requeue_after();
    Plan {
        actions: draft.actions,
        after: draft.after,
        desired,
        target,
        rollout,
        class,
        requeue_after,
    }
}
