//! The direction of a runtime, in or out of the cluster, and the nodes that shall have it.

use std::collections::BTreeSet;

use kube::Resource as _;

use super::observed::Observed;
use super::target::selects;
use crate::crd::{UninstallPolicy, WasmRuntime};

/// Whether a runtime is being installed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Its nodes shall have it.
    Install,
    /// It is being deleted, and its nodes are cleaned.
    Remove,
    /// It is being deleted, and its nodes keep what is installed.
    Retain,
}

impl Direction {
    /// Returns the direction of `runtime`.
    pub fn of(runtime: &WasmRuntime) -> Self {
        match (
            runtime.meta().deletion_timestamp.is_some(),
            runtime.spec.uninstall_policy,
        ) {
            (false, _) => Self::Install,
            (true, UninstallPolicy::Remove) => Self::Remove,
            (true, UninstallPolicy::Retain) => Self::Retain,
        }
    }
}

/// Returns the nodes that shall have the runtime.
pub(super) fn desired_nodes(observed: &Observed, direction: Direction) -> BTreeSet<String> {
    if direction != Direction::Install {
        return BTreeSet::new();
    }
    let selector = &observed.runtime.spec.node_selector;
    let wanted = observed
        .nodes
        .iter()
        .filter(|(_, node)| !node.leaving && node.os == "linux" && selects(selector, &node.labels));
    wanted.map(|(name, _)| name.clone()).collect()
}
