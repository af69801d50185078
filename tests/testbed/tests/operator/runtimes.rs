//! The runtimes and pods of tests, and waits for their states.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::cluster::REGISTRY;

use crate::fixture::{Archive, Fixture, NAMESPACE, PROBE};

/// The name of most tests' runtime, its class and its handler.
pub(crate) const NAME: &str = "wasmedge";

/// Returns a runtime for the nodes of the pool `wasm`, with `more` in its spec.
pub(crate) fn runtime(more: &Value) -> Value {
    named(NAME, "wasm", more)
}

/// Returns a runtime of this name for the nodes of this pool.
pub(crate) fn named(name: &str, pool: &str, more: &Value) -> Value {
    let mut spec = json!({
        "nodeSelector": { "matchLabels": { "pool": pool } },
        "runtimeClass": { "name": name, "handler": name },
    });
    merge(&mut spec, more);
    json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": name }, "spec": spec })
}

/// Merges `more` into `into`, key by key.
pub(crate) fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// Returns the part of a spec that selects this archive.
pub(crate) fn from_url(archive: &Archive) -> Value {
    json!({ "artifact": { "platforms": [{ "arch": arch(), "url": archive.url,
        "sha256": archive.sha256 }] } })
}

/// Returns this machine's architecture by Kubernetes' name.
pub(crate) fn arch() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    }
}

/// Returns a pod of the class `class` that runs until it is deleted.
pub(crate) fn sleeper(name: &str, class: &str, node: Option<&str>) -> Value {
    pod(name, class, &["sleep", "100000"], node)
}

/// Returns a pod of the class `class` that runs the probe with `args`.
pub(crate) fn pod(name: &str, class: &str, args: &[&str], node: Option<&str>) -> Value {
    let selector = node.map(|node| json!({ "kubernetes.io/hostname": node }));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "made-by": "test" } },
        "spec": {
            "runtimeClassName": class,
            "restartPolicy": "Never",
            "nodeSelector": selector,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": name, "image": format!("{REGISTRY}/{PROBE}"), "args": args }],
        },
    })
}

impl Fixture {
    /// Adds a node to a pool.
    pub(crate) fn pool(&self, node: &str, pool: &str) -> Result<()> {
        self.cluster
            .kubectl()
            .args([
                "label",
                "--overwrite",
                "node",
                node,
                &format!("pool={pool}"),
            ])
            .done()
    }

    /// Changes a runtime's spec.
    pub(crate) fn patch(&self, runtime: &str, spec: &Value) -> Result<()> {
        let patch = json!({ "spec": spec }).to_string();
        self.cluster
            .kubectl()
            .args([
                "patch",
                "wasmruntime",
                runtime,
                "--type=merge",
                "--patch",
                &patch,
            ])
            .done()
    }

    /// Waits until every node of the runtime's pool is up to date, and their number is `nodes`.
    pub(crate) fn up_to_date(&self, runtime: &str, nodes: u64) -> Result<()> {
        self.wait_for(
            &format!("wasmruntime/{runtime}"),
            &format!("to be up to date on {nodes} nodes"),
            |runtime| {
                let status = &runtime["status"];
                let counts = &status["nodes"];
                let seen = status["observedGeneration"] == runtime["metadata"]["generation"];
                let done = counts["desired"] == nodes
                    && counts["updated"] == nodes
                    && counts["removing"] == 0;
                Ok((seen && done).then_some(()))
            },
        )
    }

    /// Waits for a condition's reason, and returns its message.
    pub(crate) fn condition(&self, runtime: &str, kind: &str, reason: &str) -> Result<String> {
        self.wait_for(
            &format!("wasmruntime/{runtime}"),
            &format!("{kind} because of {reason}"),
            |runtime| {
                let status = &runtime["status"];
                let seen = status["observedGeneration"] == runtime["metadata"]["generation"];
                let found = status["conditions"].as_array().and_then(|list| {
                    list.iter()
                        .find(|one| one["type"] == kind && one["reason"] == reason)
                });
                Ok(found
                    .filter(|_| seen)
                    .map(|one| one["message"].as_str().unwrap_or_default().to_owned()))
            },
        )
    }

    /// Returns the operator's object for a runtime on a node.
    pub(crate) fn on_node(&self, runtime: &str, node: &str) -> Result<Value> {
        Ok(self.get(&format!("wasmruntimenode/{runtime}.{node}"))?["status"].clone())
    }

    /// Returns whether pods of the runtime's class may be scheduled on a node.
    pub(crate) fn takes_pods(&self, runtime: &str, node: &str) -> Result<bool> {
        let node = self.get(&format!("node/{node}"))?;
        Ok(node["metadata"]["labels"][format!("runtime.wasmedge.dev/{runtime}")] == "ready")
    }

    /// Waits until a pod has succeeded, and returns its node.
    pub(crate) fn succeeded(&self, pod: &str) -> Result<String> {
        let end = self.cluster.end_of(NAMESPACE, pod)?;
        anyhow::ensure!(
            end == testbed::cluster::End::Succeeded,
            "the pod {pod} failed"
        );
        let object = self.get(&format!("pod/{pod}"))?;
        Ok(object["spec"]["nodeName"]
            .as_str()
            .context("the pod has no node")?
            .to_owned())
    }
}
