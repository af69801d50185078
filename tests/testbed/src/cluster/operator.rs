//! The runtime as users install it: this project's images in the cluster's registry, the chart
//! through Helm, and waits for the operator's status.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Cluster, REGISTRY};
use crate::helm::{self, Helm};
use crate::image::Packed;
use crate::prepared::Images;
use crate::wait;

/// Name of the chart's default runtime.
pub const RUNTIME: &str = "wasmedge";
/// Label of nodes on which [`RUNTIME`] works; its value is `ready`.
pub const READY_LABEL: &str = "runtime.wasmedge.dev/wasmedge";
/// Tag of the images: the chart's appVersion.
const TAG: &str = env!("CARGO_PKG_VERSION");
/// Names of the images in the chart.
const OPERATOR: &str = "wasmedge-operator";
const INSTALLER: &str = "node-installer";
/// Timeout of Helm's hooks.
const HOOKS_TIMEOUT: &str = "--timeout=5m";

/// The digests of images in a cluster's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the operator's image.
    pub operator: String,
    /// Of the installer's image.
    pub installer: String,
}

impl Pushed {
    /// Returns the chart's values that select exactly these images.
    pub fn values(&self) -> Value {
        json!({
            "global": { "registry": REGISTRY },
            "image": { "digest": self.operator },
            "installer": { "image": { "digest": self.installer },
            "architectures": [architecture()] },
        })
    }
}

impl Cluster {
    /// Pushes the project's images to the cluster's registry, under their names in the chart.
    ///
    /// # Errors
    /// Fails if an archive cannot be read, or the registry refuses an image.
    pub fn push_images(&self, images: &Images) -> Result<Pushed> {
        let push = |archive: &Path, name: &str| {
            let image = Packed::read_archive(archive)?
                .named(&format!("{}/{name}:{TAG}", self.registry()))?;
            self.push(&image).with_context(|| format!("push {name}"))?;
            anyhow::Ok(image.root().digest().to_string())
        };
        Ok(Pushed {
            operator: push(&images.operator, OPERATOR)?,
            installer: push(&images.installer, INSTALLER)?,
        })
    }

    /// Waits until `found` returns a value for a cluster-scoped object, such as
    /// `wasmruntime/wasmedge`.
    ///
    /// # Errors
    /// Fails if `found` fails, or returns nothing within `timeout`; the error carries evidence of
    /// cluster and operator.
    pub fn wait_for_object<T>(
        &self,
        object: &str,
        what: &str,
        timeout: Duration,
        mut found: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(
            format_args!("{object}: {what}"),
            timeout,
            || {
                self.get(helm::NAMESPACE, object)?
                    .as_ref()
                    .map_or(Ok(None), &mut found)
            },
            || self.operator_evidence(),
        )
    }

    /// Waits until the runtime's condition `kind` has this status for the current spec.
    ///
    /// # Errors
    /// Fails as [`Cluster::wait_for_object`] does.
    pub fn wait_for_condition(
        &self,
        runtime: &str,
        kind: &str,
        status: &str,
        timeout: Duration,
    ) -> Result<()> {
        let what = format!("{kind} to be {status}");
        self.wait_for_object(
            &format!("wasmruntime/{runtime}"),
            &what,
            timeout,
            |runtime| Ok((condition(runtime, kind) == Some(status)).then_some(())),
        )
    }

    /// Returns evidence of operator, installers and nodes, in addition to [`Cluster::evidence`].
    pub fn operator_evidence(&self) -> String {
        use super::evidence::output_of;
        let operator = [
            "--namespace",
            helm::NAMESPACE,
            "logs",
            "--selector=app.kubernetes.io/name=wasmedge-operator",
        ];
        let last = [
            "--prefix",
            "--tail=60",
            "--ignore-errors",
            "--all-containers",
        ];
        [
            output_of(
                "runtimes",
                self.kubectl()
                    .args(["get", "wasmruntimes", "--output=yaml"]),
            ),
            output_of(
                "nodes of runtimes",
                self.kubectl()
                    .args(["get", "wasmruntimenodes", "--output=wide"]),
            ),
            output_of(
                "log of the operator and of hooks",
                self.kubectl().args(operator).args(last),
            ),
            self.evidence(Some(helm::NAMESPACE)),
        ]
        .join("\n")
    }
}

/// Pushes `images` and installs the chart with them and with `values` over its own. Helm waits for
/// its hooks, not for nodes.
///
/// # Errors
/// Fails if an image cannot be pushed, or Helm or a hook fails.
pub fn install(cluster: &Cluster, helm: &Helm, images: &Images, values: &Value) -> Result<()> {
    let pushed = cluster.push_images(images)?;
    apply(cluster, helm, "install", &pushed, values)
}

/// Upgrades a release that [`install`] made to these images and values.
///
/// # Errors
/// Fails as [`install`] does.
pub fn upgrade(cluster: &Cluster, helm: &Helm, images: &Images, values: &Value) -> Result<()> {
    let pushed = cluster.push_images(images)?;
    apply(cluster, helm, "upgrade", &pushed, values)
}

/// Rolls the release back to its previous revision.
///
/// # Errors
/// Fails if Helm fails.
pub fn rollback(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let run = helm.on(cluster).args([
        "rollback",
        helm::RELEASE,
        "--namespace",
        helm::NAMESPACE,
        "--wait",
        HOOKS_TIMEOUT,
    ]);
    run.done()
        .map_err(|error| error.context(cluster.operator_evidence()))
}

/// Uninstalls the release. Helm waits until the hook has found every node clean.
///
/// # Errors
/// Fails if the nodes are not clean in time.
pub fn uninstall(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let run = helm.on(cluster).args([
        "uninstall",
        helm::RELEASE,
        "--namespace",
        helm::NAMESPACE,
        HOOKS_TIMEOUT,
    ]);
    run.done()
        .map_err(|error| error.context(cluster.operator_evidence()))
}

fn apply(
    cluster: &Cluster,
    helm: &Helm,
    verb: &str,
    pushed: &Pushed,
    values: &Value,
) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for the chart's values")?;
    let mut run = helm
        .on(cluster)
        .args([verb, helm::RELEASE])
        .arg(helm::chart());
    run = run.args(["--namespace", helm::NAMESPACE, "--wait", HOOKS_TIMEOUT]);
    if verb == "install" {
        run = run.arg("--create-namespace");
    }
    for (name, values) in [("images.json", &pushed.values()), ("values.json", values)] {
        let file = folder.path().join(name);
        fs::write(&file, values.to_string())
            .with_context(|| format!("write {}", file.display()))?;
        run = run.arg("--values").arg(file);
    }
    run.done()
        .map_err(|error| error.context(cluster.operator_evidence()))
}

/// Returns this machine's architecture, for which the images are built, by Kubernetes' name.
fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    }
}

/// Returns a condition's status if it refers to the object's current generation.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let status = &object["status"];
    let conditions = status["conditions"]
        .as_array()
        .filter(|_| status["observedGeneration"] == object["metadata"]["generation"])?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)?["status"]
        .as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_of_an_older_generation_is_ignored() {
        let object = |observed: u32| {
            json!({
                "metadata": { "generation": 2 },
                "status": { "observedGeneration": observed, "conditions": [{ "type": "Available",
                "status": "True" }] },
            })
        };
        assert_eq!(condition(&object(2), "Available"), Some("True"));
        assert_eq!(condition(&object(2), "Degraded"), None);
        assert_eq!(condition(&object(1), "Available"), None);
        assert_eq!(
            condition(&json!({ "metadata": { "generation": 1 } }), "Available"),
            None
        );
    }

    #[test]
    fn chart_values_name_images_by_digest() {
        let pushed = Pushed {
            operator: "sha256:1".into(),
            installer: "sha256:2".into(),
        };
        assert_eq!(pushed.values()["installer"]["image"]["digest"], "sha256:2");
        assert_eq!(pushed.values()["global"]["registry"], REGISTRY);
    }
}
