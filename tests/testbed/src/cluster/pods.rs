//! Pods as tests and people meet them: applied, waited for with evidence, their logs read.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Cluster;
use crate::wait;

/// How long a pod may take for what is asked of it, first pull included.
const LIMIT: Duration = Duration::from_mins(2);

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every container ended with exit code 0.
    Succeeded,
    /// One did not.
    Failed,
}

impl Cluster {
    /// Applies a manifest, YAML or JSON, in `namespace`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        self.kubectl()
            .args(["--namespace", namespace, "apply", "--filename", "-"])
            .input(manifest)
            .done()
    }

    /// An object as the API server has it, `pod/hello` for example; none if it is not there.
    ///
    /// # Errors
    /// When the API server does not answer.
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

    /// Waits until `found` gives a value for `object`, which may come into being only now.
    ///
    /// # Errors
    /// When `found` fails, or it does not come to pass in time; the error carries what the cluster
    /// says.
    pub fn wait_for<T>(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        mut found: impl FnMut(&Value) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(
            format_args!("{object} in {namespace}: {what}"),
            LIMIT,
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
    /// As [`Cluster::wait_for`].
    pub fn end_of(&self, namespace: &str, pod: &str) -> Result<End> {
        self.wait_for(namespace, &format!("pod/{pod}"), "to end", |pod| {
            Ok(match pod["status"]["phase"].as_str() {
                Some("Succeeded") => Some(End::Succeeded),
                Some("Failed") => Some(End::Failed),
                _ => None,
            })
        })
    }

    /// The log of a container of a pod.
    ///
    /// # Errors
    /// When there is none.
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
