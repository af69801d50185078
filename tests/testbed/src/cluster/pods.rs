//! Pods of tests: applied, awaited with evidence, their logs read.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Cluster;
use crate::wait;

/// Timeout for a pod to reach a state, first pull included.
const POD_TIMEOUT: Duration = Duration::from_mins(2);

/// The end of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every container ended with exit code 0.
    Succeeded,
    /// A container ended with another exit code.
    Failed,
}

impl Cluster {
    /// Applies a manifest, YAML or JSON, in `namespace`.
    ///
    /// # Errors
    /// Fails if the API server refuses it.
    pub fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        self.kubectl()
            .args(["--namespace", namespace, "apply", "--filename", "-"])
            .input(manifest)
            .done()
    }

    /// Returns an object of the API server, `pod/hello` for example; none if it does not exist.
    ///
    /// # Errors
    /// Fails if the API server does not answer.
    pub fn get(&self, namespace: &str, object: &str) -> Result<Option<Value>> {
        let get = self.kubectl().args([
            "--namespace",
            namespace,
            "get",
            object,
            "--ignore-not-found",
            "--output=json",
        ]);
        let text = get.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("read {object} in {namespace}"))
    }

    /// Waits until `found` returns a value for `object`, which need not exist yet.
    ///
    /// # Errors
    /// Fails if `found` fails, or returns nothing in time; the error carries evidence of the
    /// cluster.
    pub fn wait_for<T>(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        mut found: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(
            format_args!("{object} in {namespace}: {what}"),
            POD_TIMEOUT,
            || {
                self.get(namespace, object)?
                    .as_ref()
                    .map_or(Ok(None), &mut found)
            },
            || self.evidence(Some(namespace)),
        )
    }

    /// Waits until the pod has ended.
    ///
    /// # Errors
    /// Fails as [`Cluster::wait_for`] does.
    pub fn end_of(&self, namespace: &str, pod: &str) -> Result<End> {
        self.wait_for(namespace, &format!("pod/{pod}"), "to end", |pod| {
            Ok(match pod["status"]["phase"].as_str() {
                Some("Succeeded") => Some(End::Succeeded),
                Some("Failed") => Some(End::Failed),
                _ => None,
            })
        })
    }

    /// Returns the log of a pod's container.
    ///
    /// # Errors
    /// Fails if there is no log.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let output = self
            .kubectl()
            .args([
                "--namespace",
                namespace,
                "logs",
                pod,
                "--container",
                container,
            ])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "kubectl logs {pod} --container {container}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}
