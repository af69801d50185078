//! The step of one node that shall have the runtime: what all phases share.

use kube::ResourceExt as _;

use super::action::Action;
use super::candidate::{Candidate, Why};
use super::draft::{Draft, set_reason};
use super::node_facts::startup_taints;
use super::observed::NodeFacts;
use super::target::{Target, Unfit};
use crate::crd::{Phase, WasmRuntimeNodeStatus};
use crate::names;

/// The step of a node that shall have the runtime and has a WasmRuntimeNode.
pub(super) struct Step<'d, 'o, 'a> {
    pub(super) draft: &'d mut Draft<'o>,
    pub(super) target: &'a Target,
    pub(super) name: &'a str,
    pub(super) node: &'a NodeFacts,
    pub(super) status: WasmRuntimeNodeStatus,
}

impl Step<'_, '_, '_> {
    /// Returns a candidate, unless the node is known to be unfit for the target.
    pub(super) fn begin(&mut self, why: Why) -> Option<Candidate> {
        match self.target.install(self.node) {
            Ok(_) => Candidate::to_install(self.name, self.node, why),
            Err(unfit) if self.status.installed.is_none() => {
                set_unsupported(self.draft, self.target, self.name, unfit);
                None
            }
            Err(Unfit { reason, message }) => {
                // What is installed continues to work.
                let hash = self.target.hash.clone();
                self.set(Phase::Failed, |status| {
                    status.target = Some(hash);
                    status.retry_at = None;
                    set_reason(status, reason, message);
                });
                None
            }
        }
    }

    /// Whether a user requested another attempt, by a new value of the annotation.
    pub(super) fn is_retry_requested(&self) -> bool {
        let requested = self
            .draft
            .observed
            .runtime
            .annotations()
            .get(names::RETRY_ANNOTATION);
        requested.is_some() && requested != self.status.retry_token.as_ref()
    }

    pub(super) fn set(&mut self, phase: Phase, change: impl FnOnce(&mut WasmRuntimeNodeStatus)) {
        self.draft.set(self.name, phase, change);
    }

    /// Takes the status that the draft has now.
    pub(super) fn reload_status(&mut self) {
        self.status = self.draft.after.get(self.name).cloned().unwrap_or_default();
    }

    /// Sets the readiness label and removes startup taints, where they are not so already.
    pub(super) fn label(&mut self) {
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
        self.draft.unlabel(self.name, self.node);
    }
}

/// Sets the phase of a node that cannot have the runtime, known without running an installer.
pub(super) fn set_unsupported(draft: &mut Draft<'_>, target: &Target, name: &str, unfit: Unfit) {
    let Unfit { reason, message } = unfit;
    draft.set(name, Phase::Unsupported, |status| {
        status.target = Some(target.hash.clone());
        // No installer ran.
        status.attempts = 0;
        set_reason(status, reason, message);
    });
}
