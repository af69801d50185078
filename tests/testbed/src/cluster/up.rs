//! Creation of a cluster, and reopening an existing one.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::docker::{Docker, Private};
use super::registry::Place;
use super::{
    Cluster, ClusterOptions, NodeImage, Programs, config, evidence, network, node_image, registry,
};
use crate::cache::Cache;
use crate::command;
use crate::go::{self, modules};
use crate::isolated_namespace::{IsolatedNamespace, Lifetime, NamespaceOptions, Network};
use crate::progress;
use crate::teardown::Run;
use crate::versions::Versions;

/// Timeout of `kind create`, until nodes can be reached.
const CREATE_TIMEOUT: Duration = Duration::from_mins(10);
/// Timeout for nodes and system pods to become ready.
const READY_TIMEOUT: &str = "--timeout=180s";

impl Programs {
    fn build(cache: &Cache, versions: &Versions) -> Result<Self> {
        Ok(Self {
            kubectl: go::build(cache, &modules::kubernetes(&versions.cluster))?.join("kubectl"),
            kind: go::build(cache, &modules::kind(&versions.cluster))?.join("kind"),
        })
    }
}

impl Cluster {
    /// Creates a cluster that belongs to `run`.
    ///
    /// # Errors
    /// Fails if a part of it cannot be made or does not become ready; the error carries evidence of
    /// the cluster.
    pub fn up(cache: &Cache, run: &Run, options: &ClusterOptions) -> Result<Self> {
        let programs = Programs::build(cache, &Versions::pinned()?)?;
        let cluster = match &options.node_image {
            NodeImage::Own => Self::of_own_nodes(cache, run, options, programs)?,
            NodeImage::Stock => Self::of_stock_nodes(cache, run, options, programs, None)?,
            NodeImage::Named(image) => {
                Self::of_stock_nodes(cache, run, options, programs, Some(image))?
            }
        };
        registry::make_known(&cluster.engine, &cluster.nodes, &cluster.registry)?;
        progress::step("nodes and system pods are ready", || {
            cluster.wait_until_ready()
        })?;
        Ok(cluster)
    }

    /// Reopens the cluster of a kept run.
    ///
    /// # Errors
    /// Fails if its isolated namespace is gone.
    pub fn kept(cache: &Cache, run: &Run, name: &str) -> Result<Self> {
        let private = Private::reopen(cache, run, &IsolatedNamespace::of(run)?)?;
        let mut cluster = Self {
            name: name.to_owned(),
            programs: Programs::build(cache, &Versions::pinned()?)?,
            kubeconfig: run.folder().join("kubeconfig"),
            registry: Place::isolated(&private),
            engine: Docker::Private(private),
            nodes: Vec::new(),
            worker: String::new(),
        };
        cluster.find_nodes()?;
        Ok(cluster)
    }

    /// Returns the cluster `name` in the user's Docker, if Docker is available and has it.
    ///
    /// # Errors
    /// Fails if the cluster has no workers, or lacks our registry.
    pub fn in_users_docker(cache: &Cache, name: &str) -> Result<Option<Self>> {
        let Ok(engine) = Docker::of_user() else {
            return Ok(None);
        };
        let programs = Programs::build(cache, &Versions::pinned()?)?;
        let clusters = engine
            .run(&programs.kind)
            .args(["get", "clusters"])
            .text()?;
        if !clusters.lines().any(|line| line == name) {
            return Ok(None);
        }
        let mut cluster = Self {
            name: name.to_owned(),
            programs,
            kubeconfig: users_kubeconfig(cache, name)?,
            registry: registry::find_beside(&engine, name)?,
            engine,
            nodes: Vec::new(),
            worker: String::new(),
        };
        cluster.find_nodes()?;
        Ok(Some(cluster))
    }

    /// Removes a cluster from the user's Docker.
    ///
    /// # Errors
    /// Fails if kind or Docker fails.
    pub fn delete_from_users_docker(&self) -> Result<()> {
        delete(&self.engine, &self.programs.kind, &self.name)?;
        match fs::remove_file(&self.kubeconfig) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.kubeconfig.display()))
            }
            _ => Ok(()),
        }
    }

    /// Creates a cluster of this project's node image in a private Docker.
    fn of_own_nodes(
        cache: &Cache,
        run: &Run,
        options: &ClusterOptions,
        programs: Programs,
    ) -> Result<Self> {
        let image = node_image::make(cache, &Versions::pinned()?)?;
        let private = progress::step("started Docker in an isolated namespace", || {
            let isolated = IsolatedNamespace::start(
                run,
                NamespaceOptions {
                    network: Network::Private,
                    lifetime: options.lifetime,
                },
            )?;
            Private::start(cache, run, &isolated)
        })?;
        let place = progress::step("started a registry", || {
            registry::start_isolated(cache, run, &private)
        })?;
        let file = config::with_additions(
            config::FILE,
            private.address(),
            config::Cgroups::of_machine(),
        )?;
        let mut cluster = Self {
            name: options.name.clone(),
            engine: Docker::Private(private),
            programs,
            kubeconfig: run.folder().join("kubeconfig"),
            registry: place,
            nodes: Vec::new(),
            worker: String::new(),
        };
        progress::step("loaded the node image", || {
            cluster
                .engine
                .docker(&["load", "--quiet", "--input"])
                .arg(&image.archive)
                .done()
        })?;
        progress::step("created the nodes", || {
            cluster.create(run, Some(&image.name), &file)
        })?;
        progress::step("connected the pods", || {
            network::connect(&cluster).and_then(|()| network::seal_dns(&cluster))
        })?;
        Ok(cluster)
    }

    /// Creates a cluster of kind's own node image, or of `image`, in the user's Docker, with the
    /// project's configuration unchanged.
    fn of_stock_nodes(
        cache: &Cache,
        run: &Run,
        options: &ClusterOptions,
        programs: Programs,
        image: Option<&str>,
    ) -> Result<Self> {
        let engine = Docker::of_user()?;
        let kubeconfig = match options.lifetime {
            Lifetime::Process => run.folder().join("kubeconfig"),
            Lifetime::Kept => users_kubeconfig(cache, &options.name)?,
        };
        // The user's Docker keeps every container that is not removed.
        let (remover, kind, name) = (engine.clone(), programs.kind.clone(), options.name.clone());
        run.on_end(format!("delete the cluster {name}"), move || {
            delete(&remover, &kind, &name)
        });
        let registry = Place {
            here: String::new(),
            nodes: String::new(),
        };
        let mut cluster = Self {
            name: options.name.clone(),
            engine,
            programs,
            kubeconfig,
            registry,
            nodes: Vec::new(),
            worker: String::new(),
        };
        progress::step("created the nodes", || {
            cluster.create(run, image, config::FILE)
        })?;
        cluster.registry = progress::step("started a registry", || {
            registry::start_beside(&cluster.engine, &options.name)
        })?;
        Ok(cluster)
    }

    fn create(&mut self, run: &Run, image: Option<&str>, file: &str) -> Result<()> {
        let path = run.folder().join("kind.yaml");
        fs::write(&path, file).with_context(|| format!("write {}", path.display()))?;
        let mut create = self
            .engine
            .run(&self.programs.kind)
            .args(["create", "cluster", "--retain", "--name", &self.name]);
        create = create
            .arg("--config")
            .arg(&path)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        if let Some(image) = image {
            create = create.args(["--image", image]);
        }
        if let Err(error) = create.deadline(CREATE_TIMEOUT).done() {
            // The nodes that exist may have logged the reason.
            let _ = self.find_nodes();
            let nodes: Vec<String> = self
                .nodes
                .iter()
                .map(|node| self.console_and_journal(node))
                .collect();
            bail!(
                "{error:#}\n{}\n{}",
                nodes.join("\n"),
                self.engine.log_tail()
            );
        }
        self.find_nodes()
    }

    fn console_and_journal(&self, node: &str) -> String {
        let console = evidence::output_of(
            &format!("console of {node}"),
            self.engine.docker(&["logs", "--tail", "40", node]),
        );
        format!("{console}\n{}", self.journal(node))
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = || {
            self.kubectl()
                .args([
                    "wait",
                    "--for=condition=Ready",
                    "node",
                    "--all",
                    READY_TIMEOUT,
                ])
                .done()?;
            let system = || {
                self.kubectl().args([
                    "--namespace",
                    "kube-system",
                    "rollout",
                    "status",
                    READY_TIMEOUT,
                ])
            };
            system().arg("daemonset/kube-proxy").done()?;
            system().arg("deployment/coredns").done()
        };
        ready().map_err(|error: anyhow::Error| error.context(self.evidence(Some("kube-system"))))
    }
}

/// Removes a cluster and its registry from a Docker that outlives this process.
fn delete(engine: &Docker, kind: &PathBuf, name: &str) -> Result<()> {
    let registry = engine
        .docker(&["rm", "--force", "--volumes", &registry::container(name)])
        .output();
    command::Run::new(kind)
        .args(["delete", "cluster", "--name", name])
        .done()?;
    registry.map(drop)
}

/// Returns the kubeconfig file of a cluster in the user's Docker: both outlive every run.
fn users_kubeconfig(cache: &Cache, name: &str) -> Result<PathBuf> {
    Ok(cache.managed("kind")?.join(format!("{name}.kubeconfig")))
}
