//! The context of one run: the target node, the request, and the paths that follow from both.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use installer_protocol::layout::INSTALL_FOLDER;
use installer_protocol::{Layout, Reason, Request};

use crate::failure::{Failure, WithReason as _};
use crate::machine::Machine;
use crate::node_root::{Lock, LockError, NodePath, NodeRoot};

/// Maximum wait for the node's lock: another installer or a guard may be restarting containerd with
/// all checks.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);

/// A request to stop this process, set by a signal.
#[derive(Debug, Default)]
pub struct Cancellation(AtomicBool);

impl Cancellation {
    /// Requests the stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether a stop was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The installer's paths on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationPaths {
    /// `wasmedge-runtime`, shared by all runtimes of the node.
    pub base: NodePath,
    /// The versions of this runtime and the handler's entries. Runtimes do not share it even if
    /// their archives are equal: the path of a container's program must name its runtime.
    pub versions: NodePath,
    /// The installer's state of this runtime.
    pub state: NodePath,
    /// The record of what was done.
    pub record: NodePath,
    /// The copy of this program that the guard runs.
    pub guard: NodePath,
    /// Unfinished downloads.
    pub downloads: NodePath,
    /// The smoke guest's log folder.
    pub logs: NodePath,
    /// The folder of containerd's configuration. The lock is on it.
    pub config_folder: NodePath,
    /// containerd's socket.
    pub socket: NodePath,
}

impl InstallationPaths {
    /// The folder in `wasmedge-runtime` with the states of all runtimes.
    pub const STATE: &str = ".state";

    fn new(runtime: &str, layout: &Layout) -> Result<Self, Failure> {
        let path = |text: &str| {
            NodePath::new(text).with_reason(Reason::InvalidRequest, || {
                format!("use {text:?} of the request")
            })
        };
        let base = path(&layout.install)?.join(INSTALL_FOLDER);
        let state = base.join(Self::STATE).join(runtime);
        Ok(Self {
            versions: base.join(runtime),
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

/// A node as this process reaches it.
#[derive(Clone, Copy)]
pub struct TargetNode<'a> {
    /// Its files.
    pub root: &'a NodeRoot,
    /// Its services.
    pub machine: &'a dyn Machine,
    /// Whether this process is to stop.
    pub cancellation: &'a Cancellation,
}

/// A request on a node.
pub struct Installation<'a> {
    /// The node.
    pub node: TargetNode<'a>,
    /// The request.
    pub request: &'a Request,
    /// The distribution's layout with the request's paths in it.
    pub layout: Layout,
    /// The paths on the node.
    pub paths: InstallationPaths,
}

impl<'a> Installation<'a> {
    /// Validates `request` and derives its paths.
    ///
    /// # Errors
    /// If a name or a path of the request is not valid.
    pub fn new(node: TargetNode<'a>, request: &'a Request) -> Result<Self, Failure> {
        // Both become names of files and of tables.
        for (what, name) in [("runtime", &request.runtime), ("handler", &request.handler)] {
            if !is_dns_label(name) {
                let message = format!(
                    "the {what}'s name {name:?} is not a DNS label: use up to 63 of a-z, 0-9 and \
                     inner hyphens"
                );
                return Err(Failure::new(Reason::InvalidRequest, message));
            }
        }
        let layout = request.layout();
        let paths = InstallationPaths::new(&request.runtime, &layout)?;
        Ok(Self {
            node,
            request,
            layout,
            paths,
        })
    }

    /// Takes the node's lock.
    ///
    /// # Errors
    /// If another process holds it for too long.
    pub fn lock(&self) -> Result<Lock, Failure> {
        self.node
            .root
            .lock(&self.paths.config_folder, LOCK_TIMEOUT)
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

    /// Fails if a stop was requested. Call it only while containerd's configuration is unchanged.
    ///
    /// # Errors
    /// If a stop was requested.
    pub fn check_not_cancelled(&self) -> Result<(), Failure> {
        if self.node.cancellation.is_cancelled() {
            return Err(Failure::new(
                Reason::Interrupted,
                "the installer was stopped before it changed containerd's configuration",
            ));
        }
        Ok(())
    }

    /// Returns the path by which this process reaches a path of the node.
    ///
    /// # Errors
    /// If the path cannot be resolved.
    pub fn locate(&self, path: &NodePath) -> Result<PathBuf, Failure> {
        self.node
            .root
            .locate(path)
            .with_reason(Reason::HostFiles, || format!("find {path} on the node"))
    }

    /// Lists the names in a folder, sorted. An absent folder is empty.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self, folder: &NodePath) -> Result<Vec<String>, Failure> {
        let list = || -> io::Result<Vec<String>> {
            let entries = match fs::read_dir(self.node.root.locate(folder)?) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut names = entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        list().with_reason(Reason::HostFiles, || format!("list {folder} on the node"))
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
