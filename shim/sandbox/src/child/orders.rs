//! What the host tells a container's process, and what the process answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::guest::Stdio;
use crate::plan::{Namespaces, Plan, Proc, ProcessPlan, Sysctl};
use crate::wire::{WireFd, truncated};

/// What the host sends to start a process that is ready.
pub(crate) const START: u8 = b's';
/// What the host sends to a process that was born in a container, when it knows it.
pub(crate) const GO_ON: u8 = b'g';

/// For a container's first process.
#[derive(Serialize, Deserialize)]
pub(crate) struct ContainerOrders<W> {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// Namespaces to join.
    pub(crate) joined: Vec<Joined>,
    /// The tree to mount for each of the plan's mounts; none for one that has no source.
    pub(crate) sources: Vec<Option<WireFd>>,
    /// The root file system's mount.
    pub(crate) rootfs: WireFd,
    /// The host's `/proc`, where the set-up writes to it.
    pub(crate) proc: Option<WireFd>,
    /// The user namespace that the process enters, if it has one.
    pub(crate) users: Option<WireFd>,
    pub(crate) stdio: WireStdio,
    pub(crate) workload: W,
}

/// For a process that joins a container.
#[derive(Serialize, Deserialize)]
pub(crate) struct ExecOrders<P> {
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

/// For a process that does nothing but hold a pod's namespaces.
#[derive(Serialize, Deserialize)]
pub(crate) struct HolderOrders {
    pub(crate) name: String,
    /// The pod's user namespace.
    pub(crate) users: WireFd,
    /// Its other namespaces that exist.
    pub(crate) joined: Vec<Joined>,
    /// Those that do not.
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

/// For a process that does nothing but make the `/proc` of a container in a mount namespace of its
/// own.
#[derive(Serialize, Deserialize)]
pub(crate) struct ViewOrders {
    pub(crate) name: String,
    /// The context of the file system, which the container's first process opened in its pid
    /// namespace.
    pub(crate) context: WireFd,
    pub(crate) proc: Proc,
}

/// A namespace to join.
#[derive(Serialize, Deserialize)]
pub(crate) struct Joined {
    /// Kind and path, for messages.
    pub(crate) name: String,
    pub(crate) file: WireFd,
}

/// [`Stdio`] on its way.
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

/// What a process says of its set-up.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    /// A container's first process has entered its root. With it comes the context of a `/proc`.
    Entered,
    /// A process that exec adds is confined and was born in the container, with this number on the
    /// node. The process that reports this ends.
    Born(u32),
    /// It waits for its start, and says this of its workload.
    Ready(Option<String>),
    /// A step failed.
    Failed(Failure),
    /// The workload cannot run.
    Refused(String),
}

impl Answer {
    /// As much of it as the host listens to.
    pub(crate) fn fitting(self) -> Self {
        match self {
            Self::Entered | Self::Born(_) => self,
            Self::Ready(told) => Self::Ready(told.map(truncated)),
            Self::Failed(failure) => Self::Failed(failure.truncated()),
            Self::Refused(text) => Self::Refused(truncated(text)),
        }
    }
}
