//! Kind clusters: Docker in a cell, a node image of our own, a network for pods, a registry, the runtime on one worker.
//!
//! ```text
//! this machine ── kubectl ──► 169.254.N.2 ─┐ cell (pids, mounts, network)
//!              ── push ─────► :5000 registry│ dockerd ── kind's network ──┬─ NAME-control-plane
//!                                          │                             ├─ NAME-worker   ◄ the runtime, RuntimeClass
//!                                          └                             └─ NAME-worker2
//! ```
//!
//! Everything lives in the cell of a run: when the run ends, so does the cluster, with every bridge, rule, mount and
//! process. With the stock node image it is the user's Docker that holds the cluster, and kind that removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::cell::{Cell, CellOptions, Lifetime, Network};
use crate::command;
use crate::go::{self, modules};
use crate::progress;
use crate::teardown::Run;
use crate::versions::Versions;

mod config;
mod capabilities;
mod docker;
mod rootfs;
mod archive;
mod node_image;
mod network;
mod runtime;
mod evidence;

use docker::{Docker, Private};
pub use runtime::{HANDLER, LABEL, Runtime};

/// From `kind create` to nodes that can be talked to.
const CREATE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// For nodes and system pods to become ready.
const READY_LIMIT: &str = "--timeout=180s";

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
    /// What runs Wasm pods.
    pub runtime: Runtime,
    /// How long it lives, if its Docker is our own.
    pub lifetime: Lifetime,
}

/// A cluster that is up.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    engine: Docker,
    kubectl: PathBuf,
    kind: PathBuf,
    kubeconfig: PathBuf,
    nodes: Vec<String>,
    worker: String,
}

impl Cluster {
    /// Brings up a cluster that belongs to `run`.
    ///
    /// # Errors
    /// When a part of it cannot be made or does not become ready; the error carries what the cluster says.
    pub fn up(cache: &Cache, run: &Run, options: &ClusterOptions) -> Result<Self> {
        let versions = Versions::pinned()?;
        let kubectl = go::build(cache, &modules::kubernetes(&versions.cluster))?.join("kubectl");
        let kind = go::build(cache, &modules::kind(&versions.cluster))?.join("kind");
        let kubeconfig = run.folder().join("kubeconfig");
        let (engine, image, file) = match &options.node_image {
            NodeImage::Own => own_engine(cache, run, &versions, options.lifetime)?,
            NodeImage::Stock => (Docker::users()?, None, config::FILE.to_owned()),
            NodeImage::Named(image) => (Docker::users()?, Some(image.clone()), config::FILE.to_owned()),
        };
        let mut cluster = Self { name: options.name.clone(), engine, kubectl, kind, kubeconfig, nodes: Vec::new(), worker: String::new() };
        progress::step("created the nodes", || cluster.create(run, image.as_deref(), &file))?;
        if options.node_image == NodeImage::Own {
            progress::step("connected the pods", || network::connect(&cluster).and_then(|()| network::seal_dns(&cluster)))?;
        }
        progress::step(format_args!("put the runtime on {}", cluster.worker), || {
            runtime::install(&cluster, &cluster.worker, &options.runtime)
        })?;
        progress::step("nodes and system pods are ready", || cluster.wait_until_ready())?;
        Ok(cluster)
    }

    /// The cluster of a run that was kept.
    ///
    /// # Errors
    /// When its cell is gone.
    pub fn kept(cache: &Cache, run: &Run, name: &str) -> Result<Self> {
        let versions = Versions::pinned()?;
        let cell = Cell::of(run)?;
        let mut cluster = Self {
            name: name.to_owned(),
            engine: Docker::Private(Private::known(cache, run, &cell)?),
            kubectl: go::build(cache, &modules::kubernetes(&versions.cluster))?.join("kubectl"),
            kind: go::build(cache, &modules::kind(&versions.cluster))?.join("kind"),
            kubeconfig: run.folder().join("kubeconfig"),
            nodes: Vec::new(),
            worker: String::new(),
        };
        cluster.find_nodes()?;
        Ok(cluster)
    }

    /// `kubectl` for this cluster.
    pub fn kubectl(&self) -> command::Run {
        command::Run::new(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig)
    }

    /// Where the `kubectl` program lies.
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// The file that leads `kubectl` here.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The node that has the runtime.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// A program in the node `node`.
    pub fn in_node(&self, node: &str, arguments: &[&str]) -> command::Run {
        self.engine.in_node(node, arguments)
    }

    fn create(&mut self, run: &Run, image: Option<&str>, file: &str) -> Result<()> {
        let path = run.folder().join("kind.yaml");
        fs::write(&path, file).with_context(|| format!("write {}", path.display()))?;
        if let Docker::Users = self.engine {
            // Our own engine dies with the cell; the user's keeps what is not taken from it.
            let (kind, name) = (self.kind.clone(), self.name.clone());
            run.on_end(format!("delete the cluster {name}"), move || {
                command::Run::new(kind).args(["delete", "cluster", "--name", &name]).done()
            });
        }
        let mut create = self.engine.run(&self.kind).args(["create", "cluster", "--retain", "--name", &self.name]);
        create = create.arg("--config").arg(&path).arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(image) = image {
            create = create.args(["--image", image]);
        }
        if let Err(error) = create.deadline(CREATE_LIMIT).done() {
            let _ = self.find_nodes();
            let journals: Vec<String> = self.nodes.iter().map(|node| self.node_evidence(node)).collect();
            bail!("{error:#}\n{}\n{}", journals.join("\n"), self.engine.last_words());
        }
        self.find_nodes()
    }

    fn node_evidence(&self, node: &str) -> String {
        let console = evidence::said(&format!("console of {node}"), self.engine.docker(&["logs", "--tail", "40", node]));
        format!("{console}\n{}", self.journal(node))
    }

    /// Asks kind for the nodes; the runtime goes to the first worker by name.
    fn find_nodes(&mut self) -> Result<()> {
        let list = self.engine.run(&self.kind).args(["get", "nodes", "--name", &self.name]).text()?;
        self.nodes = list.lines().map(str::to_owned).collect();
        self.nodes.sort();
        let worker = self.nodes.iter().find(|node| !node.contains("control-plane"));
        self.worker = worker.with_context(|| format!("the cluster {} has no worker: nodes {:?}", self.name, self.nodes))?.clone();
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = || {
            self.kubectl().args(["wait", "--for=condition=Ready", "node", "--all", READY_LIMIT]).done()?;
            let system = || self.kubectl().args(["--namespace", "kube-system", "rollout", "status", READY_LIMIT]);
            system().arg("daemonset/kube-proxy").done()?;
            system().arg("deployment/coredns").done()
        };
        ready().map_err(|error| error.context(self.evidence(Some("kube-system"))))
    }
}

/// Starts a Docker of the run's own and loads our node image; gives the image's name and kind's configuration too.
fn own_engine(cache: &Cache, run: &Run, versions: &Versions, lifetime: Lifetime) -> Result<(Docker, Option<String>, String)> {
    let image = node_image::make(cache, versions)?;
    let private = progress::step("started Docker in a cell", || {
        let cell = Cell::start(run, CellOptions { network: Network::Private, lifetime })?;
        Private::start(cache, run, &cell)
    })?;
    let file = config::with_additions(config::FILE, private.address(), config::Cgroups::of_machine())?;
    let engine = Docker::Private(private);
    progress::step("loaded the node image", || engine.run("docker").arg("load").arg("--quiet").arg("--input").arg(&image.archive).done())?;
    Ok((engine, Some(image.name), file))
}
