//! Setup requests, which the host sends to a container's process, and the replies of the process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::guest::Stdio;
use crate::plan::{Namespaces, Plan, Proc, ProcessPlan, Sysctl};
use crate::wire::{WireFd, truncated};
use crate::workload::Refusal;

/// The byte that starts a process that is ready.
pub(crate) const START: u8 = b's';
/// The byte that the host sends to a process that was forked into a container, once the host has a
/// handle of it.
pub(crate) const CONTINUE: u8 = b'g';

/// The setup request for a container's first process.
#[derive(Serialize, Deserialize)]
pub(crate) struct ContainerSetup<W> {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// Namespaces to join.
    pub(crate) joined: Vec<NamespaceFile>,
    /// Where the process opens the sources of the plan's bind mounts; none without such a mount.
    pub(crate) sources: Option<SourceNamespaces>,
    /// The root file system's mount.
    pub(crate) rootfs: WireFd,
    /// The host's `/proc`, where the set-up writes to it.
    pub(crate) proc: Option<WireFd>,
    /// The user namespace that the process enters, if it has one.
    pub(crate) users: Option<WireFd>,
    pub(crate) stdio: WireStdio,
    pub(crate) workload: W,
}

/// The mount namespaces between which a process moves to open sources of mounts.
#[derive(Serialize, Deserialize)]
pub(crate) struct SourceNamespaces {
    /// The node's.
    pub(crate) node: WireFd,
    /// The process's own.
    pub(crate) own: WireFd,
}

/// The setup request for a process that joins a container.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExecSetup<P> {
    pub(crate) name: String,
    /// The container's first process.
    pub(crate) container: WireFd,
    /// The mount namespace with the container's `/proc`, for a Linux program that sees one.
    pub(crate) view: Option<WireFd>,
    /// The host's `/proc`, where the set-up writes to it.
    pub(crate) proc: Option<WireFd>,
    /// The container's user namespace, if it has one.
    pub(crate) users: Option<WireFd>,
    pub(crate) stdio: WireStdio,
    pub(crate) process: ProcessPlan,
    pub(crate) program: P,
}

/// The setup request for a process that does nothing but hold a pod's namespaces.
#[derive(Serialize, Deserialize)]
pub(crate) struct HolderSetup {
    pub(crate) name: String,
    /// The pod's user namespace.
    pub(crate) users: WireFd,
    /// Other namespaces that exist.
    pub(crate) joined: Vec<NamespaceFile>,
    /// Namespaces that do not exist yet.
    pub(crate) namespaces: Namespaces,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctls: Vec<Sysctl>,
    /// The host's `/proc`, where the set-up writes to it.
    pub(crate) proc: Option<WireFd>,
}

/// A Linux program of the container's root.
#[derive(Serialize, Deserialize)]
pub(crate) struct NativeProgram {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
}

/// The setup request for a process that does nothing but make the `/proc` of a container in a mount
/// namespace of its own.
#[derive(Serialize, Deserialize)]
pub(crate) struct ViewSetup {
    pub(crate) name: String,
    /// The context of the file system, which the container's first process opened in its pid
    /// namespace.
    pub(crate) context: WireFd,
    pub(crate) proc: Proc,
}

/// An opened namespace to join.
#[derive(Serialize, Deserialize)]
pub(crate) struct NamespaceFile {
    /// Kind and path, for messages.
    pub(crate) name: String,
    pub(crate) file: WireFd,
}

/// [`Stdio`] as it crosses into the process.
#[derive(Serialize, Deserialize)]
pub(crate) struct WireStdio {
    pub(crate) stdin: Option<WireFd>,
    pub(crate) stdout: Option<WireFd>,
    pub(crate) stderr: Option<WireFd>,
    pub(crate) terminal: Option<WireFd>,
}

impl From<Stdio> for WireStdio {
    fn from(stdio: Stdio) -> Self {
        match stdio {
            Stdio::Streams {
                stdin,
                stdout,
                stderr,
            } => Self {
                stdin: stdin.map(WireFd::new),
                stdout: stdout.map(WireFd::new),
                stderr: stderr.map(WireFd::new),
                terminal: None,
            },
            Stdio::Terminal(slave) => Self {
                stdin: None,
                stdout: None,
                stderr: None,
                terminal: Some(WireFd::new(slave)),
            },
        }
    }
}

/// A process's report on its set-up.
#[derive(Serialize, Deserialize)]
pub(crate) enum SetupReply {
    /// A container's first process has entered its root. With it comes the context of a `/proc`.
    Entered,
    /// A process that exec adds is confined and was forked into the container, with this number on
    /// the node. The process that reports this ends.
    Forked(u32),
    /// It waits for its start.
    Ready,
    /// A step failed.
    Failed(Failure),
    /// The workload cannot run.
    Refused(Refusal),
}

impl SetupReply {
    /// Cuts its texts to what the host accepts.
    pub(crate) fn truncated(self) -> Self {
        match self {
            Self::Entered | Self::Forked(_) | Self::Ready => self,
            Self::Failed(failure) => Self::Failed(failure.truncated()),
            Self::Refused(refusal) => Self::Refused(refusal.map(truncated)),
        }
    }
}
