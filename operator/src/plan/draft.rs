//! A plan in the making: its actions, and the status of each node once they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::action::Action;
use super::observed::{JobFacts, NodeFacts, Observed};
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;

/// A plan in the making.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) observed: &'a Observed,
    pub(super) actions: Vec<Action>,
    /// The status of each node once the actions are done.
    pub(super) after: BTreeMap<String, WasmRuntimeNodeStatus>,
    /// Whether the finalizer and the RuntimeClass are there. Without them, no installer is started
    /// and no node is labelled.
    pub(super) prepared: bool,
    wake: Option<Timestamp>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(observed: &'a Observed) -> Self {
        Self {
            observed,
            actions: Vec::new(),
            after: observed.statuses(),
            prepared: true,
            wake: None,
        }
    }

    /// Adds an action.
    pub(super) fn act(&mut self, action: Action) {
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

    /// Sets the node's phase and status; fields that `change` does not touch stay.
    pub(super) fn set(
        &mut self,
        node: &str,
        phase: Phase,
        change: impl FnOnce(&mut WasmRuntimeNodeStatus),
    ) {
        let mut status = self.after.get(node).cloned().unwrap_or_default();
        // The first step away from a node on which no installer was started.
        status.untouched |= status.phase == Phase::Claimed;
        if status.phase != phase {
            status.since = Some(Time(self.observed.now));
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

    /// Deletes a Job of `node`.
    pub(super) fn delete_job(&mut self, node: &str, job: impl Into<String>) {
        self.act(Action::DeleteJob {
            node: Some(node.to_owned()),
            job: job.into(),
        });
    }

    /// Abandons an installer that may still run: deletes its Job. A later plan starts the node
    /// again, once no installer is seen to run there.
    pub(super) fn abandon_installer(&mut self, node: &str, job: String) {
        self.set(node, Phase::Installing, |status| {
            status.job = None;
            status.untouched = false;
        });
        self.delete_job(node, job);
    }

    /// Removes the readiness label from `node`, if it is there.
    pub(super) fn unlabel(&mut self, name: &str, node: &NodeFacts) {
        if node
            .labels
            .contains_key(&names::ready_label(&self.observed.runtime.name_any()))
        {
            let action = Action::Unlabel {
                node: name.to_owned(),
                uid: node.uid.clone(),
            };
            if !self.actions.contains(&action) {
                self.act(action);
            }
        }
    }

    /// Deletes the object of a node that is gone, or that keeps what is installed, and its Job.
    pub(super) fn forget(&mut self, node: &str) {
        let Some(status) = self.after.get(node).cloned() else {
            return;
        };
        if let Some(job) = status.job {
            self.delete_job(node, job);
        }
        self.act(Action::Forget {
            node: node.to_owned(),
        });
    }

    /// Returns the name of every node that exists or that has a status.
    pub(super) fn known_nodes(&self) -> BTreeSet<String> {
        self.observed
            .nodes
            .keys()
            .chain(self.observed.states.keys())
            .cloned()
            .collect()
    }

    /// Deletes ended Jobs that no node refers to: an earlier operator recorded their result and
    /// stopped before it deleted them.
    pub(super) fn delete_leftover_jobs(&mut self) {
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

    /// Whether every object of a node is deleted once the actions are done.
    pub(super) fn is_clean(&self) -> bool {
        self.after.is_empty()
            && self
                .observed
                .states
                .keys()
                .all(|node| !self.after.contains_key(node))
    }

    /// Requests another plan at `time` at the latest.
    pub(super) fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    /// Requests another plan for when `node` is tried again, if it is.
    pub(super) fn wake_for_retry(&mut self, node: &str) {
        if let Some(Time(time)) = self
            .after
            .get(node)
            .and_then(|status| status.retry_at.clone())
        {
            self.wake_at(time);
        }
    }

    /// Returns the delay to the next requested plan.
    pub(super) fn requeue_after(&self) -> Option<Duration> {
        let wake = self.wake?;
        // Slightly later, so that the time has passed for certain.
        Some(
            Duration::try_from(wake.duration_since(self.observed.now)).unwrap_or_default()
                + Duration::from_millis(50),
        )
    }
}

/// Sets the reason and the message of a node's status.
pub(super) fn set_reason(status: &mut WasmRuntimeNodeStatus, reason: Reason, message: String) {
    status.reason = Some(reason.as_str().to_owned());
    status.message = Some(message);
}

/// Whether a node is being changed: it counts against the budget.
pub(crate) fn is_changing(status: &WasmRuntimeNodeStatus) -> bool {
    match status.phase {
        Phase::Installing | Phase::Verifying => true,
        // A node that is retried automatically is in an unknown state until then. A node that lost
        // its handler has no attempt yet.
        Phase::Failed => status.retry_at.is_some() && status.attempts > 0,
        Phase::Removing => status.job.is_some(),
        Phase::Claimed | Phase::Ready | Phase::Unsupported => false,
    }
}
