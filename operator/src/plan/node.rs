//! The step of one node: what follows from what happened to it, and whether it asks to be begun.

use std::collections::BTreeSet;

use installer_protocol::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::pace::{LISTED, Patience, UNMADE, after, limit, patience};
use super::rollout::{Candidate, Why, is_changing};
use super::seen::{Served, serves, startup_taints};
use super::{
    Action, Began, Direction, Draft, JobFacts, NodeFacts, Readiness, Target, Unfit, removal,
};
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;

/// Takes the step of `name`; gives back what it could begin with, if there is something.
pub(super) fn step(
    draft: &mut Draft<'_>,
    target: &Target,
    desired: &BTreeSet<String>,
    direction: Direction,
    name: &str,
) -> Option<Candidate> {
    let observed = draft.observed;
    let status = draft.after.get(name).cloned();
    let state = observed.states.get(name);
    let is_same = |node: &&NodeFacts| state.is_none_or(|state| state.node_uid == node.uid);
    let Some(node) = observed.nodes.get(name).filter(is_same) else {
        removal::forget(draft, name);
        return None;
    };
    if direction == Direction::LetGo {
        removal::forget(draft, name);
        return None;
    }
    let wanted = desired.contains(name);
    match status {
        None if wanted => fresh(draft, target, name, node),
        None => {
            unlabel(draft, name, node);
            None
        }
        // What is half way off goes all the way, also when it is wanted again: only then it is
        // known what is there.
        Some(status) if !wanted || status.phase == Phase::Removing => {
            removal::step(draft, target, name, node, &status)
        }
        // Somebody deleted the node's object. Its finalizer stands for what is on the node: only
        // when that is gone the object goes, and the node is new then. To let go of it at once
        // would lose the node if it is not wanted later.
        Some(status) if state.is_some_and(|state| state.deleting) && !is_changing(&status) => {
            removal::step(draft, target, name, node, &status)
        }
        Some(status) => Step {
            draft,
            target,
            name,
            node,
            status,
        }
        .take(),
    }
}

/// A node that was never touched.
fn fresh(
    draft: &mut Draft<'_>,
    target: &Target,
    name: &str,
    node: &NodeFacts,
) -> Option<Candidate> {
    unlabel(draft, name, node);
    match target.install(node) {
        Ok(_) => candidate(node, name, Why::Fresh),
        Err(_) if !draft.prepared => None,
        Err(unfit) => {
            draft.act(Action::Claim {
                node: name.to_owned(),
                uid: node.uid.clone(),
            });
            unsupported(draft, target, name, unfit);
            None
        }
    }
}

fn unsupported(draft: &mut Draft<'_>, target: &Target, name: &str, unfit: Unfit) {
    let Unfit { reason, message } = unfit;
    draft.set(name, Phase::Unsupported, |status| {
        status.target = Some(target.hash.clone());
        // No installer was asked.
        status.attempts = 0;
        say(status, reason, message);
    });
}

/// A node that is not Ready cannot run an installer: it asks for nothing until it is.
fn candidate(node: &NodeFacts, name: &str, why: Why) -> Option<Candidate> {
    (node.readiness == Readiness::Ready && !node.leaving).then(|| Candidate {
        node: name.to_owned(),
        why,
    })
}

/// The step of a node that shall have the runtime and was claimed.
pub(super) struct Step<'d, 'o, 'a> {
    pub(super) draft: &'d mut Draft<'o>,
    pub(super) target: &'a Target,
    pub(super) name: &'a str,
    pub(super) node: &'a NodeFacts,
    pub(super) status: WasmRuntimeNodeStatus,
}

impl Step<'_, '_, '_> {
    fn take(mut self) -> Option<Candidate> {
        match self.status.phase {
            Phase::Claimed => self.begin(Why::Fresh),
            Phase::Installing => self.installing(),
            Phase::Verifying => self.verifying(),
            Phase::Ready => self.ready(),
            Phase::Failed => self.failed(),
            Phase::Unsupported => self.unsupported(),
            // The caller sends these another way.
            Phase::Removing => None,
        }
    }

    /// Asks to begin, unless the node is known to be unfit for what it would be brought to.
    pub(super) fn begin(&mut self, why: Why) -> Option<Candidate> {
        match self.target.install(self.node) {
            Ok(_) => candidate(self.node, self.name, why),
            Err(unfit) if self.status.installed.is_none() => {
                unsupported(self.draft, self.target, self.name, unfit);
                None
            }
            Err(Unfit { reason, message }) => {
                // What it has goes on working.
                let hash = self.target.hash.clone();
                self.set(Phase::Failed, |status| {
                    status.target = Some(hash);
                    status.retry_at = None;
                    say(status, reason, message);
                });
                None
            }
        }
    }

    fn unsupported(&mut self) -> Option<Candidate> {
        self.unlabel();
        // An installer looked at the host and said so of this very spec: only a person knows when
        // that has changed.
        let was_told =
            self.status.attempts > 0 && self.status.target.as_ref() == Some(&self.target.hash);
        if was_told && !self.is_asked_again() {
            None
        } else {
            self.begin(Why::Fresh)
        }
    }

    fn is_asked_again(&self) -> bool {
        let asked = self
            .draft
            .observed
            .runtime
            .annotations()
            .get(names::RETRY_ANNOTATION);
        asked.is_some() && asked != self.status.retry_token.as_ref()
    }

    fn installing(&mut self) -> Option<Candidate> {
        let Some(job) = self.status.job.clone() else {
            // It was given up. Whether it is still at work is known by the Jobs and pods that are
            // left.
            return self.begin(Why::Retry);
        };
        let observed = self.draft.observed;
        match observed.jobs.get(&job) {
            Some(JobFacts::Reported(report)) => self.hear(&job, report),
            facts if self.status.withdrawn => return self.after_withdrawal(&job, facts),
            None => self.start_again(job),
            Some(JobFacts::Running {
                made,
                template,
                start,
            }) => self.wait_for(&job, *made, template.as_ref(), start),
            Some(JobFacts::Ending) => self.wait_for_end(&job),
            Some(JobFacts::Lost { why, began }) => self.lost(&job, why, *began),
        }
        None
    }

    /// The operator ended between writing down the Job and making it, it cannot be made, or
    /// somebody removed it.
    fn start_again(&mut self, job: String) {
        let is_wanted = self.status.target.as_ref() == Some(&self.target.hash);
        let Some(request) = self.target.install(self.node).ok().filter(|_| is_wanted) else {
            // The node is begun anew, with what the spec says by now and under that name.
            return give_up(self.draft, self.name, job);
        };
        match patience(self.draft, self.status.since.as_ref(), None) {
            Patience::Until(end) => {
                self.draft.wake_at(end);
                let limit = limit(self.draft);
                self.draft.act(Action::StartInstaller {
                    job,
                    node: self.name.to_owned(),
                    request: Box::new(request),
                    limit,
                });
            }
            Patience::Over(_) => self.lost(&job, UNMADE, Began::Perhaps),
        }
    }

    pub(super) fn verifying(&mut self) -> Option<Candidate> {
        let served = serves(self.node, self.target.handler());
        if self.node.readiness == Readiness::Ready && served != Served::No {
            if !self.draft.prepared {
                return None;
            }
            self.label();
            self.set(Phase::Ready, |status| {
                status.reason = None;
                status.message = None;
                status.attempts = 0;
            });
            return None;
        }
        let end = after(
            self.status.since.as_ref(),
            self.draft.observed.now,
            limit(self.draft),
        );
        if self.draft.observed.now < end {
            self.draft.wake_at(end);
            return None;
        }
        self.unlabel();
        let message = if self.node.readiness == Readiness::NotReady {
            "the runtime was installed, and since then the node is not Ready: look at its kubelet \
             and containerd"
        } else {
            "the runtime was installed and ran a guest, but the node's status does not list the \
             handler: look at containerd's configuration"
        };
        self.set(Phase::Failed, |status| {
            status.installed = None;
            status.retry_at = None;
            say(status, Reason::HandlerMissing, message.to_owned());
        });
        None
    }

    fn ready(&mut self) -> Option<Candidate> {
        // What a kubelet lists may be older than what an installer proved; it asks containerd every
        // few seconds.
        let settled = after(self.status.since.as_ref(), self.draft.observed.now, LISTED);
        let is_listed = serves(self.node, self.target.handler()) != Served::No;
        if !is_listed && self.draft.observed.now < settled {
            self.draft.wake_at(settled);
        } else if !is_listed && self.node.readiness == Readiness::Ready {
            // Somebody wrote containerd's configuration anew, as some distributions do at each
            // boot.
            self.unlabel();
            let now = self.draft.observed.now;
            self.set(Phase::Failed, |status| {
                status.installed = None;
                status.retry_at = Some(Time(now));
                say(
                    status,
                    Reason::HandlerMissing,
                    "containerd no longer serves the handler: it is being installed again"
                        .to_owned(),
                );
            });
            return candidate(self.node, self.name, Why::Reverify);
        }
        self.label();
        if self.status.installed.as_ref() != Some(&self.target.hash) {
            return self.begin(Why::Upgrade);
        }
        if self.status.boot_id.as_ref() != Some(&self.node.boot_id) {
            // Files and configuration may be gone with the reboot.
            return self.begin(Why::Reverify);
        }
        None
    }

    fn failed(&mut self) -> Option<Candidate> {
        self.offer_what_it_has();
        if self.status.target.as_ref() != Some(&self.target.hash) {
            return self.begin(Why::Upgrade);
        }
        if self.is_asked_again() {
            // One that waits for its next try has its slot already.
            return self.begin(if self.status.retry_at.is_some() {
                Why::Retry
            } else {
                Why::Upgrade
            });
        }
        match &self.status.retry_at {
            Some(Time(time)) if *time <= self.draft.observed.now => {
                let lost_handler = self.status.attempts == 0;
                self.begin(if lost_handler {
                    Why::Reverify
                } else {
                    Why::Retry
                })
            }
            Some(_) => {
                self.wake_for_retry();
                None
            }
            None => None,
        }
    }

    /// An older version that works goes on taking pods.
    fn offer_what_it_has(&mut self) {
        let now = self.draft.observed.now;
        // What a kubelet lists may be of the containerd that was there before the way back.
        let settled = after(self.status.since.as_ref(), now, LISTED);
        match serves(self.node, self.target.handler()) {
            _ if self.status.installed.is_none() => self.unlabel(),
            Served::Yes => self.label(),
            Served::No if now < settled => self.draft.wake_at(settled),
            Served::No => self.unlabel(),
            Served::CannotSay => {}
        }
    }

    pub(super) fn wake_for_retry(&mut self) {
        if let Some(Time(time)) = self
            .draft
            .after
            .get(self.name)
            .and_then(|status| status.retry_at.clone())
        {
            self.draft.wake_at(time);
        }
    }

    pub(super) fn set(&mut self, phase: Phase, change: impl FnOnce(&mut WasmRuntimeNodeStatus)) {
        self.draft.set(self.name, phase, change);
    }

    fn label(&mut self) {
        if !self.draft.prepared {
            return;
        }
        let label = names::ready_label(&self.draft.observed.runtime.name_any());
        let uid = self.node.uid.clone();
        if self.node.labels.get(&label).map(String::as_str) != Some(names::READY) {
            self.draft.act(Action::Label {
                node: self.name.to_owned(),
                uid: uid.clone(),
            });
        }
        let taints = startup_taints(&self.draft.observed.runtime.spec.startup_taints, self.node);
        if !taints.is_empty() {
            self.draft.act(Action::RemoveTaints {
                node: self.name.to_owned(),
                uid,
                taints,
            });
        }
    }

    pub(super) fn unlabel(&mut self) {
        unlabel(self.draft, self.name, self.node);
    }
}

/// Gives up an installer that may be at work all the same: its Job goes now, and the node is begun
/// again by a later plan, which sees whether anybody is still at work there.
pub(super) fn give_up(draft: &mut Draft<'_>, name: &str, job: String) {
    draft.set(name, Phase::Installing, |status| {
        status.job = None;
        status.untouched = false;
    });
    draft.act(Action::DeleteJob {
        node: Some(name.to_owned()),
        job,
    });
}

/// Takes the readiness label off, if it is there.
pub(super) fn unlabel(draft: &mut Draft<'_>, name: &str, node: &NodeFacts) {
    if node
        .labels
        .contains_key(&names::ready_label(&draft.observed.runtime.name_any()))
    {
        let action = Action::Unlabel {
            node: name.to_owned(),
            uid: node.uid.clone(),
        };
        if !draft.actions.contains(&action) {
            draft.act(action);
        }
    }
}

pub(super) fn say(status: &mut WasmRuntimeNodeStatus, reason: Reason, message: String) {
    status.reason = Some(reason.as_str().to_owned());
    status.message = Some(message);
}
