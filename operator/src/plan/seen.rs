//! What a node shows of itself: the handlers that it serves, the taints that it has.

use super::{Handlers, NodeFacts};
use crate::crd::{StartupTaint, TaintEffect};

/// Whether a node serves a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The installer asked on the node, nobody else can.
    CannotSay,
}

/// Whether `node` serves `handler`.
pub(super) fn serves(node: &NodeFacts, handler: &str) -> Served {
    match &node.handlers {
        Handlers::Unanswerable => Served::CannotSay,
        Handlers::Listed(handlers) if handlers.contains(handler) => Served::Yes,
        Handlers::Listed(_) => Served::No,
    }
}

/// The startup taints that a node still has.
pub(super) fn startup_taints(spec: &[StartupTaint], node: &NodeFacts) -> Vec<StartupTaint> {
    let effect = |taint: &StartupTaint| match taint.effect {
        Some(TaintEffect::NoSchedule) => Some("NoSchedule"),
        Some(TaintEffect::PreferNoSchedule) => Some("PreferNoSchedule"),
        Some(TaintEffect::NoExecute) => Some("NoExecute"),
        None => None,
    };
    let has = |taint: &&StartupTaint| {
        node.taints.iter().any(|(key, found)| {
            *key == taint.key && effect(taint).is_none_or(|effect| effect == found)
        })
    };
    spec.iter().filter(has).cloned().collect()
}
