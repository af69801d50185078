//! A new version comes to nodes on which pods run.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bed::{Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    an_upgrade_goes_from_node_to_node_and_leaves_pods_running,
    a_paused_rollout_waits_and_goes_on,
    going_back_to_the_former_version_is_an_upgrade_like_any_other,
];

/// The pool's nodes, with a runtime on each and a pod that runs there; the pods' containers.
fn two_nodes_with_pods(bed: &Bed) -> Result<Vec<String>> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    bed.up_to_date(NAME, 2)?;
    for node in bed.workers() {
        bed.apply(&sleeper(&format!("old-{node}"), NAME, Some(node)))?;
    }
    bed.workers().iter().map(|node| bed.running(&format!("old-{node}"))).collect()
}

/// The version in the folder from which a pod's container is served.
fn version_of(bed: &Bed, node: &str, pod: &str) -> Result<String> {
    nodes::runtime_of(bed, node, &bed.running(pod)?)
}

fn an_upgrade_goes_from_node_to_node_and_leaves_pods_running(bed: &Bed) -> Result<()> {
    let containers = two_nodes_with_pods(bed)?;
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    // One node at a time: seen at every look while it lasts.
    bed.wait_for("wasmruntime/wasmedge", "to be up to date", |runtime| {
        let counts = &runtime["status"]["nodes"];
        ensure!(counts["changing"].as_u64().unwrap_or(0) <= 1, "{counts}");
        ensure!(counts["ready"].as_u64().unwrap_or(0) == 2, "a node took no pods while it was changed: {counts}");
        let seen = runtime["status"]["observedGeneration"] == runtime["metadata"]["generation"];
        Ok((seen && counts["updated"] == 2).then_some(()))
    })?;
    let mut times: Vec<Value> = Vec::new();
    for (node, before) in bed.workers().into_iter().zip(&containers) {
        let status = bed.on_node(NAME, node)?;
        ensure!(status["version"] == bed.archives.next.version.as_str(), "{node} has {status}");
        times.push(status["since"].clone());
        ensure!(bed.running(&format!("old-{node}"))? == *before, "the pod on {node} was restarted");
        ensure!(!version_of(bed, node, &format!("old-{node}"))?.contains("-next"), "a running pod changed its runtime");
        bed.apply(&sleeper(&format!("new-{node}"), NAME, Some(node)))?;
        let path = version_of(bed, node, &format!("new-{node}"))?;
        ensure!(path.contains(&bed.archives.next.version), "a new pod is served by {path}");
    }
    ensure!(times[0] != times[1], "both nodes were ready at {}", times[0]);
    Ok(())
}

fn a_paused_rollout_waits_and_goes_on(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    bed.up_to_date(NAME, 1)?;
    let mut change = from_url(&bed.archives.next);
    change["rollout"] = json!({ "paused": true });
    bed.patch(NAME, &change)?;
    bed.condition(NAME, "Progressing", "Paused")?;
    let start = nodes::containerd_start(bed, bed.first())?;
    ensure!(bed.on_node(NAME, bed.first())?["version"] == bed.archives.current.version.as_str(), "a paused rollout went on");
    bed.patch(NAME, &json!({ "rollout": { "paused": false } }))?;
    bed.up_to_date(NAME, 1)?;
    ensure!(nodes::containerd_start(bed, bed.first())? != start, "the new version came without a restart of containerd");
    Ok(())
}

fn going_back_to_the_former_version_is_an_upgrade_like_any_other(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&from_url(&bed.archives.next)))?;
    bed.up_to_date(NAME, 1)?;
    bed.patch(NAME, &json!({ "artifact": { "platforms": [] } }))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("back", NAME, &["args"], None))?;
    bed.succeeded("back")?;
    // Nothing uses the other version any more, so it is gone.
    let kept = bed.cluster.in_node(bed.first(), &["find", "/opt/wasmedge-runtime", "-maxdepth", "3"]).text()?;
    ensure!(!kept.contains("-next"), "still there: {kept}");
    Ok(())
}
