//! Kind clusters: Docker in an isolated namespace, this project's node image, a pod network, a
//! registry, and the runtime as the operator installs it.
//!
//! ```text
//! this machine ── kubectl ──► 169.254.N.2 ─┐ namespace (pids, mounts, network)
//!              ── push ─────► :5000 registry│ dockerd ── kind's network ──┬─ NAME-control-plane
//!                                          │                             ├─ NAME-worker
//!                                          └                             └─ NAME-worker2
//! ```
//!
//! Everything lives in the isolated namespace of a run and is removed with the run: every bridge,
//! rule, mount and process. With the stock node image, the user's Docker holds the cluster and kind
//! removes it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command;
use crate::image::{Credentials, Packed, Registry as Access, Transport};
use crate::isolated_namespace::Lifetime;

mod up;
mod config;
mod capabilities;
mod docker;
pub(crate) mod rootfs;
mod archive;
mod node_image;
mod network;
mod registry;
pub mod operator;
mod pods;
mod evidence;

use docker::Docker;
pub use pods::End;
use registry::Place;
pub use registry::REGISTRY;

/// The image of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeImage {
    /// This project's image, in a private Docker: needs neither Docker nor the internet.
    Own,
    /// The image that this release of kind names, in the user's Docker.
    Stock,
    /// This image, in the user's Docker.
    Named(String),
}

/// Options of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The cluster's name, and the prefix of its nodes' names.
    pub name: String,
    /// The nodes' image.
    pub node_image: NodeImage,
    /// Its lifetime in a private Docker.
    pub lifetime: Lifetime,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    engine: Docker,
    programs: Programs,
    kubeconfig: PathBuf,
    registry: Place,
    nodes: Vec<String>,
    worker: String,
}

/// The programs that create a cluster and talk to it.
#[derive(Debug, Clone)]
struct Programs {
    kubectl: PathBuf,
    kind: PathBuf,
}

impl Cluster {
    /// Returns a run of `kubectl` on this cluster.
    pub fn kubectl(&self) -> command::Run {
        command::Run::new(&self.programs.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
    }

    /// Returns the path of the `kubectl` program.
    pub fn kubectl_program(&self) -> &Path {
        &self.programs.kubectl
    }

    /// Returns the cluster's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Returns the names of all nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Returns the first worker by name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Returns a run of a program in the node `node`.
    pub fn in_node(&self, node: &str, arguments: &[&str]) -> command::Run {
        self.engine.in_node(node, arguments)
    }

    /// Restarts the node `node` as a reboot of its machine would: all its processes end, and
    /// systemd starts it again.
    ///
    /// # Errors
    /// Fails if Docker cannot restart it, or the node's network cannot be connected again.
    pub fn restart_node(&self, node: &str) -> Result<()> {
        self.engine.docker(&["restart", node]).done()?;
        // The kernel dropped the routes to other nodes' pods.
        network::connect(self)
    }

    /// Returns the cluster's registry, `host:port`, as this machine reaches it. Pods reach the same
    /// registry as [`REGISTRY`].
    pub fn registry(&self) -> &str {
        &self.registry.here
    }

    /// Pushes an image with a reference that begins with [`Cluster::registry`].
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or refuses.
    pub fn push(&self, image: &Packed) -> Result<()> {
        image
            .push(&Access {
                transport: Transport::Http,
                credentials: Credentials::Anonymous,
            })
            .map(drop)
    }

    /// Lists the nodes with kind.
    fn find_nodes(&mut self) -> Result<()> {
        let list = self
            .engine
            .run(&self.programs.kind)
            .args(["get", "nodes", "--name", &self.name])
            .text()?;
        self.nodes = list.lines().map(str::to_owned).collect();
        self.nodes.sort();
        let worker = self
            .nodes
            .iter()
            .find(|node| !node.contains("control-plane"));
        self.worker = worker
            .with_context(|| {
                format!(
                    "the cluster {} has no worker: nodes {:?}",
                    self.name, self.nodes
                )
            })?
            .clone();
        Ok(())
    }
}
