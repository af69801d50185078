//! The runtime as users get it: this project's images in the cluster's registry, the chart
//! installed by Helm, and waiting for what the operator says.

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

/// The runtime that the chart makes unless told otherwise.
pub const RUNTIME: &str = "wasmedge";
/// The label of nodes on which [`RUNTIME`] works; its value is `ready`.
pub const READY_LABEL: &str = "runtime.wasmedge.dev/wasmedge";
/// Tag of the images, which is the chart's appVersion.
const TAG: &str = env!("CARGO_PKG_VERSION");
/// Names of the images, as the chart has them.
const OPERATOR: &str = "wasmedge-operator";
const INSTALLER: &str = "node-installer";
/// How long Helm may wait for its hooks.
const HOOKS_LIMIT: &str = "--timeout=5m";

/// The digests of images that a cluster's registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The operator's.
    pub operator: String,
    /// The installer's.
    pub installer: String,
}

impl Pushed {
    /// The chart's values that lead to these images and to no others.
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
    /// Puts the project's images into the cluster's registry, under the names that the chart gives
    /// them there.
    ///
    /// # Errors
    /// When an archive cannot be read, or the registry refuses.
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

    /// Waits until `found` gives a value for an object that belongs to no namespace, such as
    /// `wasmruntime/wasmedge`.
    ///
    /// # Errors
    /// When `found` fails, or it does not come to pass within `limit`; the error carries what
    /// cluster and operator say.
    pub fn wait_for_object<T>(
        &self,
        object: &str,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(
            format_args!("{object}: {what}"),
            limit,
            || {
                self.get(helm::NAMESPACE, object)?
                    .as_ref()
                    .map_or(Ok(None), &mut found)
            },
            || self.operator_evidence(),
        )
    }

    /// Waits until the runtime's condition `kind` has this status for the spec that it has now.
    ///
    /// # Errors
    /// As [`Cluster::wait_for_object`].
    pub fn wait_for_condition(
        &self,
        runtime: &str,
        kind: &str,
        status: &str,
        limit: Duration,
    ) -> Result<()> {
        let what = format!("{kind} to be {status}");
        self.wait_for_object(&format!("wasmruntime/{runtime}"), &what, limit, |runtime| {
            Ok((condition(runtime, kind) == Some(status)).then_some(()))
        })
    }

    /// What operator, installers and nodes have to say, beside what [`Cluster::evidence`] tells.
    pub fn operator_evidence(&self) -> String {
        let said = super::evidence::said;
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
            said(
                "runtimes",
                self.kubectl()
                    .args(["get", "wasmruntimes", "--output=yaml"]),
            ),
            said(
                "nodes of runtimes",
                self.kubectl()
                    .args(["get", "wasmruntimenodes", "--output=wide"]),
            ),
            said(
                "log of the operator and of hooks",
                self.kubectl().args(operator).args(last),
            ),
            self.evidence(Some(helm::NAMESPACE)),
        ]
        .join("\n")
    }
}

/// Installs the chart from `images`, which are pushed first, with `values` over its own. Helm waits
/// for its hooks, not for nodes.
///
/// # Errors
/// When an image cannot be pushed, or Helm or a hook fails.
pub fn install(cluster: &Cluster, helm: &Helm, images: &Images, values: &Value) -> Result<()> {
    let pushed = cluster.push_images(images)?;
    apply(cluster, helm, "install", &pushed, values)
}

/// Brings a release that [`install`] made to these images and values.
///
/// # Errors
/// As [`install`].
pub fn upgrade(cluster: &Cluster, helm: &Helm, images: &Images, values: &Value) -> Result<()> {
    let pushed = cluster.push_images(images)?;
    apply(cluster, helm, "upgrade", &pushed, values)
}

/// Goes back to what the release was before its last change.
///
/// # Errors
/// When Helm fails.
pub fn rollback(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let run = helm.on(cluster).args([
        "rollback",
        helm::RELEASE,
        "--namespace",
        helm::NAMESPACE,
        "--wait",
        HOOKS_LIMIT,
    ]);
    run.done()
        .map_err(|error| error.context(cluster.operator_evidence()))
}

/// Removes what [`install`] made. Helm waits until the hook has seen every node clean.
///
/// # Errors
/// When the nodes are not clean in time.
pub fn uninstall(cluster: &Cluster, helm: &Helm) -> Result<()> {
    let run = helm.on(cluster).args([
        "uninstall",
        helm::RELEASE,
        "--namespace",
        helm::NAMESPACE,
        HOOKS_LIMIT,
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
    run = run.args(["--namespace", helm::NAMESPACE, "--wait", HOOKS_LIMIT]);
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

/// This machine's architecture, which images are made for, as Kubernetes names it.
fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    }
}

/// A condition's status, if it speaks of the spec that the object has now.
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
    fn a_condition_of_an_older_spec_says_nothing() {
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
    fn images_are_named_by_digest() {
        let pushed = Pushed {
            operator: "sha256:1".into(),
            installer: "sha256:2".into(),
        };
        assert_eq!(pushed.values()["installer"]["image"]["digest"], "sha256:2");
        assert_eq!(pushed.values()["global"]["registry"], REGISTRY);
    }
}
