//! Scripts of installers on a node.

use std::time::Duration;

use installer_protocol::{Outcome, Reason};

/// The script of one installer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// It succeeds.
    Works,
    /// It fails with a report. The node is unchanged, unless the outcome is [`Outcome::Broken`]:
    /// then the runtime's handler does not work.
    Fails(Outcome, Reason),
    /// Its container is killed after half of its time, without a report.
    Dies,
    /// It never ends.
    Hangs,
    /// Its image cannot be pulled.
    NeverStarts,
    /// A folder cannot be mounted into its pod.
    CannotMount,
    /// containerd cannot start its container.
    FailsToStart,
    /// The API server does not admit its pod.
    IsNotAdmitted,
    /// It succeeds, and its node is not Ready for this time afterwards.
    WorksWithNotReady(Duration),
    /// It succeeds, but containerd does not list the handler afterwards.
    WorksWithoutHandler,
    /// Its node stops responding after half of its time, permanently.
    NodeDies,
    /// Its node is removed from the cluster after half of its time.
    NodeVanishes,
}

/// The delays on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// From a Job to its running container.
    pub start: Duration,
    /// The work of an installer.
    pub work: Duration,
    /// From the end of a container to the Job's end.
    pub notice: Duration,
    /// From a new handler to its listing by the kubelet.
    pub listing: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            start: seconds(2),
            work: seconds(15),
            notice: seconds(1),
            listing: seconds(5),
        }
    }
}

impl Script {
    /// Returns an installer that refuses with a permanent reason.
    pub fn unsupported() -> Self {
        Self::Fails(Outcome::Refused, Reason::Unsupported)
    }

    /// Whether its container is never created.
    pub(super) fn has_no_container(&self) -> bool {
        matches!(
            self,
            Self::NeverStarts | Self::CannotMount | Self::IsNotAdmitted
        )
    }

    /// Returns an installer whose smoke test failed, and that rolled back.
    pub fn rolls_back() -> Self {
        Self::Fails(Outcome::RolledBack, Reason::SmokeFailed)
    }

    /// Returns an installer that cannot download the archive, a transient failure.
    pub fn cannot_download() -> Self {
        Self::Fails(Outcome::Refused, Reason::Download)
    }
}
