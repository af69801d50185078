//! A new version comes to nodes on which pods run.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bed::{Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};
use crate::watch::Watch;

tests![
    an_upgrade_goes_from_node_to_node_and_leaves_pods_running,
    a_rollout_that_is_paused_in_the_middle_waits_and_goes_on,
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
    bed.workers()
        .iter()
        .map(|node| bed.running(&format!("old-{node}")))
        .collect()
}

/// The version in the folder from which a pod's container is served.
fn version_of(bed: &Bed, node: &str, pod: &str) -> Result<String> {
    nodes::runtime_of(bed, node, &bed.running(pod)?)
}

fn an_upgrade_goes_from_node_to_node_and_leaves_pods_running(bed: &Bed) -> Result<()> {
    let containers = two_nodes_with_pods(bed)?;
    let watch = Watch::start(bed)?;
    watch.wait_for(bed, "both nodes", |seen| (seen.len() >= 2).then_some(()))?;
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    // Seen at every look while it lasts.
    bed.wait_for("wasmruntime/wasmedge", "to be up to date", |runtime| {
        let counts = &runtime["status"]["nodes"];
        ensure!(counts["changing"].as_u64().unwrap_or(0) <= 1, "{counts}");
        ensure!(
            counts["ready"].as_u64().unwrap_or(0) == 2,
            "a node took no pods while it was changed: {counts}"
        );
        let seen = runtime["status"]["observedGeneration"] == runtime["metadata"]["generation"];
        Ok((seen && counts["updated"] == 2).then_some(()))
    })?;
    // And of every state of the nodes, by its time.
    let changes = watch.one_by_one(bed, 2)?;
    ensure!(
        changes[0].node != changes[1].node,
        "one node was changed twice: {changes:?}"
    );
    for (node, before) in bed.workers().into_iter().zip(&containers) {
        let status = bed.on_node(NAME, node)?;
        ensure!(
            status["version"] == bed.archives.next.version.as_str(),
            "{node} has {status}"
        );
        ensure!(
            bed.running(&format!("old-{node}"))? == *before,
            "the pod on {node} was restarted"
        );
        ensure!(
            !version_of(bed, node, &format!("old-{node}"))?.contains("-next"),
            "a running pod changed its runtime"
        );
        bed.apply(&sleeper(&format!("new-{node}"), NAME, Some(node)))?;
        let path = version_of(bed, node, &format!("new-{node}"))?;
        ensure!(
            path.contains(&bed.archives.next.version),
            "a new pod is served by {path}"
        );
    }
    Ok(())
}

fn a_rollout_that_is_paused_in_the_middle_waits_and_goes_on(bed: &Bed) -> Result<()> {
    let containers = two_nodes_with_pods(bed)?;
    let start = |node| nodes::containerd_start(bed, node);
    let starts = [start(bed.first())?, start(bed.second())?];
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    let object = format!("wasmruntimenode/{NAME}.{}", bed.first());
    bed.wait_for(&object, "to be begun", |node| {
        Ok((node["status"]["phase"] == "Installing").then_some(()))
    })?;
    bed.patch(NAME, &json!({ "rollout": { "paused": true } }))?;
    // What was begun is finished, and nothing else is begun.
    bed.wait_for(
        "wasmruntime/wasmedge",
        "to be paused behind its first node",
        |runtime| {
            let counts = &runtime["status"]["nodes"];
            Ok((counts["updated"] == 1 && counts["changing"] == 0).then_some(()))
        },
    )?;
    bed.condition(NAME, "Progressing", "Paused")?;
    ensure!(
        start(bed.first())? != starts[0],
        "the new version came without a restart of containerd"
    );
    ensure!(
        start(bed.second())? == starts[1],
        "a paused rollout went on"
    );
    let versions = [
        bed.on_node(NAME, bed.first())?["version"].clone(),
        bed.on_node(NAME, bed.second())?["version"].clone(),
    ];
    ensure!(
        versions
            == [
                bed.archives.next.version.as_str(),
                bed.archives.current.version.as_str()
            ],
        "the nodes have {versions:?}"
    );
    // Both versions take pods meanwhile.
    for (node, version) in bed
        .workers()
        .into_iter()
        .zip([&bed.archives.next.version, &bed.archives.current.version])
    {
        bed.apply(&sleeper(&format!("meanwhile-{node}"), NAME, Some(node)))?;
        let path = version_of(bed, node, &format!("meanwhile-{node}"))?;
        let is_next = path.contains("-next");
        ensure!(
            path.contains(&format!("/{version}-")) && is_next == version.contains("-next"),
            "on {node} a new pod is served by {path}"
        );
    }
    ensure!(
        start(bed.second())? == starts[1],
        "a paused rollout went on"
    );
    bed.patch(NAME, &json!({ "rollout": { "paused": false } }))?;
    bed.up_to_date(NAME, 2)?;
    ensure!(
        start(bed.second())? != starts[1],
        "the new version came without a restart of containerd"
    );
    for (node, before) in bed.workers().into_iter().zip(&containers) {
        ensure!(
            bed.running(&format!("old-{node}"))? == *before,
            "the pod on {node} was restarted"
        );
    }
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
    let kept = bed
        .cluster
        .in_node(
            bed.first(),
            &["find", "/opt/wasmedge-runtime", "-maxdepth", "3"],
        )
        .text()?;
    ensure!(!kept.contains("-next"), "still there: {kept}");
    Ok(())
}
