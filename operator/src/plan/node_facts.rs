//! Questions about a node's facts: whether it serves a handler, and which startup taints it has.

use super::observed::{Handlers, NodeFacts};
use crate::crd::{StartupTaint, TaintEffect};

/// Whether a node serves a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    No,
    /// Its kubelet does not report handlers; only the installer can ask containerd.
    Unknown,
}

/// Returns whether `node` serves `handler`.
pub(super) fn serves(node: &NodeFacts, handler: &str) -> Served {
    match &node.handlers {
        Handlers::Unknown => Served::Unknown,
        Handlers::Listed(handlers) if handlers.contains(handler) => Served::Yes,
        Handlers::Listed(_) => Served::No,
    }
}

/// Returns the startup taints of `spec` that the node still has.
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
