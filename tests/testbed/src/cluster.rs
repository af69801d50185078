//! Kind clusters: Docker in an isolated namespace, a node image of our own, a network for pods, a
//! registry, and the runtime as the operator brings it.
//!
//! ```text
//! this machine ── kubectl ──► 169.254.N.2 ─┐ namespace (pids, mounts, network)
//!              ── push ─────► :5000 registry│ dockerd ── kind's network ──┬─ NAME-control-plane
//!                                          │                             ├─ NAME-worker
//!                                          └                             └─ NAME-worker2
//! ```
//!
//! Everything lives in the namespace of a run: when the run ends, so does the cluster, with every
//! bridge, rule, mount and process. With the stock node image it is the user's Docker that holds
//! the cluster, and kind that removes it.

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

/// Which image the nodes are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeImage {
    /// Ours, in a Docker of our own: needs neither Docker nor the internet.
    Own,
    /// The one that this release of kind names, in the user's Docker.
    Stock,
    /// This one, in the user's Docker.
    Named(String),
}

/// What a cluster shall be like.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its name, which its nodes' names begin with.
    pub name: String,
    /// What its nodes are made of.
    pub node_image: NodeImage,
    /// How long it lives, if its Docker is our own.
    pub lifetime: Lifetime,
}

/// A cluster that is up.
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

/// What talks to a cluster, and what makes it.
#[derive(Debug, Clone)]
struct Programs {
    kubectl: PathBuf,
    kind: PathBuf,
}

impl Cluster {
    /// `kubectl` for this cluster.
    pub fn kubectl(&self) -> command::Run {
        command::Run::new(&self.programs.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
    }

    /// Where the `kubectl` program lies.
    pub fn kubectl_program(&self) -> &Path {
        &self.programs.kubectl
    }

    /// The file that leads `kubectl` here.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The first worker by name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// A program in the node `node`.
    pub fn in_node(&self, node: &str, arguments: &[&str]) -> command::Run {
        self.engine.in_node(node, arguments)
    }

    /// Restarts the node `node`, as if its machine were: everything on it ends, and systemd brings
    /// it up again.
    ///
    /// # Errors
    /// When Docker cannot, or the node's network cannot be connected again.
    pub fn restart_node(&self, node: &str) -> Result<()> {
        self.engine.docker(&["restart", node]).done()?;
        // Routes to the other nodes' pods are the kernel's, and gone.
        network::connect(self)
    }

    /// The cluster's registry, `host:port`, as this machine reaches it. Pods call the same one
    /// [`REGISTRY`].
    pub fn registry(&self) -> &str {
        &self.registry.here
    }

    /// Pushes an image that is named for [`Cluster::registry`].
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub fn push(&self, image: &Packed) -> Result<()> {
        image
            .push(&Access {
                transport: Transport::Http,
                credentials: Credentials::Anonymous,
            })
            .map(drop)
    }

    /// Asks kind for the nodes.
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
