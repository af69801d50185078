//! The stages of an installation. Each may be run again at any time, on whatever a killed one left,
//! and says what it changed.
//!
//! | stage | looks at, or does | changes |
//! |---|---|---|
//! | [`check`] | distribution, kernel, containerd, cgroups, containers that run ([`usage`]) | nothing |
//! | [`artifact`] | archive → the runtime's folder | a new folder beside others |
//! | [`configure`] | containerd's configuration, proven before | its files; from here on a failure leads back |
//! | [`restart`] | containerd, if it has not read them | |
//! | [`verify`] | a guest through the handler | |
//! | [`clean`] | what is no longer used | folders of former versions |

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use installer_protocol::{Layout, Reason, Request};

use crate::host::{HostPath, HostRoot, Lock, LockError};
use crate::machine::Machine;

pub mod check;
pub mod usage;
pub mod artifact;
pub mod configure;
pub mod restart;
pub mod verify;
pub mod clean;

/// How long another installer or a guard is waited for: a restart of containerd with all its
/// checks.
const LOCK_WAIT: Duration = Duration::from_mins(1);

/// The folder of all runtimes, in the folder where they are installed.
pub const FOLDER: &str = "wasmedge-runtime";

/// A failure with its word for the report.
#[derive(Debug)]
pub struct Failure {
    /// The word.
    pub reason: Reason,
    /// What failed, with its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure that has no cause but itself.
    pub fn new(
        reason: Reason,
        message: impl fmt::Display + fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        Self {
            reason,
            error: anyhow::Error::msg(message),
        }
    }

    /// The failure and its causes, in one line.
    pub fn message(&self) -> String {
        format!("{:#}", self.error)
    }
}

/// Gives an error its word for the report.
pub trait Because<T> {
    /// The error because of `reason`, with what was tried.
    ///
    /// # Errors
    /// When this is one.
    fn because(self, reason: Reason, tried: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E> Because<T> for Result<T, E>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    fn because(self, reason: Reason, tried: impl FnOnce() -> String) -> Result<T, Failure> {
        self.with_context(tried)
            .map_err(|error| Failure { reason, error })
    }
}

/// Whether this process was asked to end.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Asks it to.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Where things are on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `wasmedge-runtime`, which all runtimes of a node share.
    pub base: HostPath,
    /// The runtime's versions. Its own, although two runtimes may have the same archive: the
    /// programs' paths say whose containers are running.
    pub shelf: HostPath,
    /// What the installer keeps of the runtime.
    pub state: HostPath,
    /// The record.
    pub record: HostPath,
    /// The copy of this program that the guard runs.
    pub guard: HostPath,
    /// Downloads in the making.
    pub downloads: HostPath,
    /// The smoke guest's log.
    pub logs: HostPath,
    /// The folder of containerd's configuration, which the lock is on.
    pub config_folder: HostPath,
    /// containerd's socket.
    pub socket: HostPath,
}

impl Places {
    /// The folder in `wasmedge-runtime` that holds the states of all runtimes.
    pub const STATE: &str = ".state";

    fn new(runtime: &str, layout: &Layout) -> Result<Self, Failure> {
        let path = |text: &str| {
            HostPath::new(text).because(Reason::InvalidRequest, || {
                format!("use {text:?} of the request")
            })
        };
        let base = path(&layout.install)?.join(FOLDER);
        let state = base.join(Self::STATE).join(runtime);
        Ok(Self {
            shelf: base.join(runtime),
            record: state.join("record.json"),
            guard: state.join("guard"),
            downloads: state.join("downloads"),
            logs: state.join("smoke"),
            config_folder: path(&layout.config)?.folder(),
            socket: path(&layout.socket)?,
            base,
            state,
        })
    }
}

/// A node, as this process sees it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// Its files.
    pub root: &'a HostRoot,
    /// Its services.
    pub machine: &'a dyn Machine,
    /// Whether this process was asked to end.
    pub stop: &'a Stop,
}

/// A request on a node.
pub struct Job<'a> {
    /// The node.
    pub node: Node<'a>,
    /// The request.
    pub request: &'a Request,
    /// The distribution's layout with the request's paths in it.
    pub layout: Layout,
    /// Where things are.
    pub places: Places,
}

impl<'a> Job<'a> {
    /// A request on a node.
    ///
    /// # Errors
    /// When it cannot be meant.
    pub fn new(node: Node<'a>, request: &'a Request) -> Result<Self, Failure> {
        // Both become names of files and of tables.
        for (what, name) in [("runtime", &request.runtime), ("handler", &request.handler)] {
            if !is_label(name) {
                let message = format!(
                    "the {what}'s name {name:?} is no DNS label: use up to 63 of a-z, 0-9 and \
                     inner hyphens"
                );
                return Err(Failure::new(Reason::InvalidRequest, message));
            }
        }
        let layout = request.layout();
        let places = Places::new(&request.runtime, &layout)?;
        Ok(Self {
            node,
            request,
            layout,
            places,
        })
    }

    /// Takes the node's lock.
    ///
    /// # Errors
    /// When another installer keeps it.
    pub fn lock(&self) -> Result<Lock, Failure> {
        self.node
            .root
            .lock(&self.places.config_folder, LOCK_WAIT)
            .map_err(|error| {
                let reason = match &error {
                    LockError::Held { .. } => Reason::Locked,
                    LockError::Folder { .. } => Reason::HostFiles,
                };
                Failure {
                    reason,
                    error: error.into(),
                }
            })
    }

    /// Ends here if this process was asked to end: nothing that matters was changed so far.
    ///
    /// # Errors
    /// When it was.
    pub fn go_on(&self) -> Result<(), Failure> {
        if self.node.stop.is_asked() {
            return Err(Failure::new(
                Reason::Interrupted,
                "the installer was asked to end before it changed containerd's configuration",
            ));
        }
        Ok(())
    }

    /// Where this process finds a path of the host.
    ///
    /// # Errors
    /// When it cannot be looked for.
    pub fn locate(&self, path: &HostPath) -> Result<PathBuf, Failure> {
        self.node
            .root
            .locate(path)
            .because(Reason::HostFiles, || format!("look for {path} of the host"))
    }
}

/// Whether a name is a DNS label.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
