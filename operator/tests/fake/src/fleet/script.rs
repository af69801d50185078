//! What installers do on a node.

use std::time::Duration;

use installer_protocol::{Outcome, Reason};

/// What one installer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// It does what it is asked for.
    Works,
    /// It fails, and says why. The node is as before, unless the outcome is [`Outcome::Broken`]:
    /// then the runtime's handler works no more.
    Fails(Outcome, Reason),
    /// Its container is killed after half of its time, and says nothing.
    Dies,
    /// It never ends by itself.
    Hangs,
    /// Its image cannot be pulled.
    NeverStarts,
    /// A folder cannot be mounted into its pod.
    CannotMount,
    /// containerd cannot start its container.
    FailsToStart,
    /// The API server does not admit its pod.
    IsNotAdmitted,
    /// It does what it is asked for, and its node is not Ready for so long afterwards.
    WorksWithNotReady(Duration),
    /// It does what it is asked for, but containerd does not list the handler afterwards.
    WorksWithoutHandler,
    /// Its node stops to answer after half of its time, for good.
    NodeDies,
    /// Its node is removed from the cluster after half of its time.
    NodeVanishes,
}

/// How fast things go on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From a Job to its running container.
    pub start: Duration,
    /// An installer's work.
    pub work: Duration,
    /// From the end of a container to the Job's end.
    pub notice: Duration,
    /// From a new handler to the kubelet's telling of it.
    pub tell: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            start: seconds(2),
            work: seconds(15),
            notice: seconds(1),
            tell: seconds(5),
        }
    }
}

impl Script {
    /// An installer that refuses, for a reason that does not pass.
    pub fn unsupported() -> Self {
        Self::Fails(Outcome::Refused, Reason::Unsupported)
    }

    /// Whether its container is never made.
    pub(super) fn makes_no_container(&self) -> bool {
        matches!(
            self,
            Self::NeverStarts | Self::CannotMount | Self::IsNotAdmitted
        )
    }

    /// An installer whose smoke guest failed, and that put everything back.
    pub fn rolls_back() -> Self {
        Self::Fails(Outcome::RolledBack, Reason::SmokeFailed)
    }

    /// An installer that cannot download the archive, which may pass.
    pub fn cannot_download() -> Self {
        Self::Fails(Outcome::Refused, Reason::Download)
    }
}
