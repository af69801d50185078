//! Helm and this project's chart: rendered for tests, installed on clusters.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::command::Run;
use crate::go::{self, modules};
use crate::versions::Versions;

/// Name of the chart's release in tests, demos and the documentation.
pub const RELEASE: &str = "wasmedge";
/// Namespace of that release.
pub const NAMESPACE: &str = "wasmedge-system";

/// A Helm without the user's settings, repositories and plugins.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// Finds the pinned Helm, which is built unless it is cached.
    ///
    /// # Errors
    /// Fails if it cannot be built.
    pub fn find(cache: &Cache) -> Result<Self> {
        let program = go::build(cache, &modules::helm(&Versions::pinned()?.cluster))?.join("helm");
        Ok(Self {
            program,
            home: cache.managed("helm")?,
        })
    }

    /// Returns the program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns a run of `helm` without a cluster.
    pub fn run(&self) -> Run {
        let mut run = Run::new(&self.program);
        for (name, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            run = run.env(name, self.home.join(folder));
        }
        for name in [
            "KUBECONFIG",
            "HELM_NAMESPACE",
            "HELM_KUBECONTEXT",
            "HELM_PLUGINS",
            "HELM_DRIVER",
            "HELM_DEBUG",
        ] {
            run = run.without_env(name);
        }
        run
    }

    /// Returns a run of `helm` on `cluster`.
    pub fn on(&self, cluster: &Cluster) -> Run {
        self.run().env("KUBECONFIG", cluster.kubeconfig())
    }

    /// Renders all objects of `chart` with `values` as YAML, for a pinned version of Kubernetes.
    ///
    /// # Errors
    /// Fails if the values are refused, or a template fails.
    pub fn render(&self, chart: &Path, values: Option<&Path>) -> Result<String> {
        let version = Versions::pinned()?.cluster.kubernetes;
        let mut run = self.run().args(["template", RELEASE]).arg(chart).args([
            "--namespace",
            NAMESPACE,
            "--kube-version",
            &version,
        ]);
        if let Some(file) = values {
            run = run.arg("--values").arg(file);
        }
        run.text()
            .with_context(|| format!("render {} with {}", chart.display(), shown(values)))
    }
}

fn shown(values: Option<&Path>) -> String {
    values.map_or_else(
        || "its own values".to_owned(),
        |file| file.display().to_string(),
    )
}

/// Returns the folder of this project's chart.
pub fn chart() -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../charts/wasmedge-operator"
    ))
    .components()
    .collect()
}
