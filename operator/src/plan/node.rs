//! The step of one node: what follows from what happened to it, and whether an installer could be
//! started there.

use std::collections::BTreeSet;

use super::action::Action;
use super::candidate::{Candidate, Why};
use super::direction::Direction;
use super::draft::{Draft, is_changing};
use super::observed::NodeFacts;
use super::removal;
use super::step::{Step, set_unsupported};
use super::target::Target;
use crate::crd::Phase;

/// Takes the step of `name`; returns a candidate if an installer could be started there.
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
        draft.forget(name);
        return None;
    };
    if direction == Direction::Retain {
        draft.forget(name);
        return None;
    }
    let wanted = desired.contains(name);
    match status {
        None if wanted => fresh(draft, target, name, node),
        None => {
            draft.unlabel(name, node);
            None
        }
        // A removal that was started is completed, also if the node is wanted again: only then its
        // state is known.
        Some(status) if !wanted || status.phase == Phase::Removing => {
            removal::step(draft, target, name, node, &status)
        }
        // The node's object was deleted by a user. Its finalizer is there because the
        // runtime may be installed: the object is released after a removal, and the node is fresh
        // then. Releasing it at once would lose track of the node if it is not wanted later.
        Some(status) if state.is_some_and(|state| state.deleting) && !is_changing(&status) => {
            removal::step(draft, target, name, node, &status)
        }
        Some(status) => dispatch(Step {
            draft,
            target,
            name,
            node,
            status,
        }),
    }
}

/// The step of a node without a WasmRuntimeNode.
fn fresh(
    draft: &mut Draft<'_>,
    target: &Target,
    name: &str,
    node: &NodeFacts,
) -> Option<Candidate> {
    draft.unlabel(name, node);
    match target.install(node) {
        Ok(_) => Candidate::to_install(name, node, Why::Fresh),
        Err(_) if !draft.prepared => None,
        Err(unfit) => {
            draft.act(Action::Claim {
                node: name.to_owned(),
                uid: node.uid.clone(),
            });
            set_unsupported(draft, target, name, unfit);
            None
        }
    }
}

fn dispatch(mut step: Step<'_, '_, '_>) -> Option<Candidate> {
    match step.status.phase {
        Phase::Claimed => step.begin(Why::Fresh),
        Phase::Installing => step.installing(),
        Phase::Verifying => step.verifying(),
        Phase::Ready => step.ready(),
        Phase::Failed => step.failed(),
        Phase::Unsupported => step.unsupported(),
        // The caller handles these in `removal`.
        Phase::Removing => None,
    }
}
