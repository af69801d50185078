//! What a node is like: files that an installer could touch, labels, taints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bed::Bed;

/// What of a node has to be the same before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Digest, mode and path of each file, and each folder.
    files: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    taints: Vec<String>,
}

impl State {
    /// What only one of the two has.
    pub(crate) fn difference(&self, now: &Self) -> String {
        let mut text = String::new();
        for (sign, lines) in [('-', self.files.difference(&now.files)), ('+', now.files.difference(&self.files))] {
            for line in lines {
                let _ = writeln!(text, "{sign} {line}");
            }
        }
        if (&self.labels, &self.taints) != (&now.labels, &now.taints) {
            let _ = writeln!(text, "labels and taints were {:?} {:?}, are {:?} {:?}", self.labels, self.taints, now.labels, now.taints);
        }
        text
    }

    /// Digests, modes and paths of containerd's configuration alone.
    pub(crate) fn configuration(&self) -> Vec<&String> {
        self.files.iter().filter(|line| line.contains(" etc/containerd")).collect()
    }
}

/// What `node` is like now.
pub(crate) fn state(bed: &Bed, node: &str) -> Result<State> {
    let script = r#"cd / && find etc/containerd opt -xdev \( -type f -exec sh -c 'for f; do echo "$(sha256sum <"$f") $(stat -c %a "$f") $f"; done' _ {} + \) -o -type d -printf 'folder %m %p\n' -o -type l -printf 'link %p %l\n'"#;
    let files = bed.cluster.in_node(node, &["sh", "-c", script]).text()?;
    let object = bed.get(&format!("node/{node}"))?;
    let labels = object["metadata"]["labels"].as_object().context("a node has labels")?;
    let taints = object["spec"]["taints"].as_array().cloned().unwrap_or_default();
    Ok(State {
        files: files.lines().map(str::to_owned).collect(),
        labels: labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        taints: taints.iter().map(Value::to_string).collect(),
    })
}

/// When the node's containerd was started, in a form that changes with each start.
pub(crate) fn containerd_start(bed: &Bed, node: &str) -> Result<String> {
    bed.cluster.in_node(node, &["systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "containerd"]).text()
}

/// Whether the node itself was restarted since the cluster came up: then its pods were, too.
pub(crate) fn was_restarted(bed: &Bed, node: &str) -> Result<bool> {
    Ok(bed.cluster.in_node(node, &["cat", "/var/tmp/was-restarted"]).output()?.status.success())
}

/// The folder of the runtime that serves a pod's container, by what containerd wrote down when it started it.
pub(crate) fn runtime_of(bed: &Bed, node: &str, container_id: &str) -> Result<String> {
    let id = container_id.trim_start_matches("containerd://");
    let folder = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let path = bed.cluster.in_node(node, &["cat", &format!("{folder}/shim-binary-path")]).text();
    path.with_context(|| format!("read which shim serves {id} on {node}"))
}

/// Whether a node is Ready.
pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}
