//! Nodes on which an installer could be started, and why.

use super::observed::{NodeFacts, Readiness};

/// A node on which an installer could be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: String,
    pub(super) why: Why,
}

/// Why an installer could be started on a node. The order is that in which they are started:
/// interrupted work first, then nodes without pods of the runtime, so that a new version is tried
/// where it can harm least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The last attempt failed with a reason that may be transient.
    Retry,
    /// The node was rebooted, or lost the handler.
    Reverify,
    /// The runtime has to be removed from it.
    Remove,
    /// The runtime was never installed there.
    Fresh,
    /// Another target is installed, or failed there.
    Upgrade,
}

impl Candidate {
    /// Returns a candidate for an installation. A node that is not Ready cannot run an installer.
    pub(super) fn to_install(name: &str, node: &NodeFacts, why: Why) -> Option<Self> {
        (node.readiness == Readiness::Ready && !node.leaving).then(|| Self {
            node: name.to_owned(),
            why,
        })
    }

    /// Returns a candidate for a removal. A node that is not Ready cannot run an installer.
    pub(super) fn to_remove(name: &str, node: &NodeFacts) -> Option<Self> {
        (node.readiness == Readiness::Ready).then(|| Self {
            node: name.to_owned(),
            why: Why::Remove,
        })
    }
}
