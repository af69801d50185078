//! The request that a forking process serves.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::wire::WireFd;

/// The function that a new process calls with its end of the control socket. It returns the exit
/// code. The process has no descriptors but this one and the null device as its standard streams.
pub type Entry = fn(OwnedFd) -> u8;

/// A request for a process. The same request is served by forkers and zygotes.
#[derive(Debug)]
pub struct SpawnRequest(WireRequest);

/// The request as it crosses into the forking process. Only [`SpawnRequest::new`] makes one, which
/// is why its address can be called.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireRequest {
    /// The address of an [`Entry`].
    pub(crate) entry: usize,
    /// The new process's end of its control socket.
    pub(crate) control: WireFd,
    /// `CLONE_NEW*`: the namespaces that it gets new.
    pub(crate) namespaces: u64,
    /// The folder of the cgroup, of version 2, in which it is born.
    pub(crate) cgroup: Option<WireFd>,
}

impl SpawnRequest {
    /// Asks for a process that calls `entry` with `control` and has the namespaces `CLONE_NEW*`
    /// new.
    pub fn new(entry: Entry, control: OwnedFd, namespaces: u64) -> Self {
        Self(WireRequest {
            entry: entry as usize,
            control: WireFd::new(control),
            namespaces,
            cgroup: None,
        })
    }

    /// Asks for a process that is born in the cgroup of this folder.
    #[must_use]
    pub fn in_cgroup(mut self, folder: OwnedFd) -> Self {
        self.0.cgroup = Some(WireFd::new(folder));
        self
    }

    pub(crate) fn wire(&self) -> &WireRequest {
        &self.0
    }
}
