//! Upgrades of nodes with running pods.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::fixture::{Fixture, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};
use crate::watch::Watch;

tests![
    upgrade_proceeds_node_by_node_and_leaves_pods_running,
    rollout_that_is_paused_half_way_waits_and_resumes,
    downgrade_to_the_previous_version_works_like_an_upgrade,
];

/// Prepares two nodes of the pool, with a runtime on each and a pod that runs there; returns the
/// pods' containers.
fn two_nodes_with_pods(fixture: &Fixture) -> Result<Vec<String>> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    fixture.up_to_date(NAME, 2)?;
    for node in fixture.workers() {
        fixture.apply(&sleeper(&format!("old-{node}"), NAME, Some(node)))?;
    }
    fixture
        .workers()
        .iter()
        .map(|node| fixture.running(&format!("old-{node}")))
        .collect()
}

/// Returns the version in the runtime folder that serves a pod's container.
fn version_of(fixture: &Fixture, node: &str, pod: &str) -> Result<String> {
    nodes::runtime_of(fixture, node, &fixture.running(pod)?)
}

fn upgrade_proceeds_node_by_node_and_leaves_pods_running(fixture: &Fixture) -> Result<()> {
    let containers = two_nodes_with_pods(fixture)?;
    let watch = Watch::start(fixture)?;
    watch.wait_for(fixture, "both nodes", |seen| {
        (seen.len() >= 2).then_some(())
    })?;
    fixture.patch(NAME, &from_url(&fixture.archives.next))?;
    // Checked at every poll during the upgrade.
    fixture.wait_for("wasmruntime/wasmedge", "to be up to date", |runtime| {
        let counts = &runtime["status"]["nodes"];
        ensure!(counts["changing"].as_u64().unwrap_or(0) <= 1, "{counts}");
        ensure!(
            counts["ready"].as_u64().unwrap_or(0) == 2,
            "a node accepted no pods while it was changed: {counts}"
        );
        let seen = runtime["status"]["observedGeneration"] == runtime["metadata"]["generation"];
        Ok((seen && counts["updated"] == 2).then_some(()))
    })?;
    // The watch has every state of the nodes, with its time.
    let changes = watch.one_by_one(fixture, 2)?;
    ensure!(
        changes[0].node != changes[1].node,
        "one node was changed twice: {changes:?}"
    );
    for (node, before) in fixture.workers().into_iter().zip(&containers) {
        let status = fixture.on_node(NAME, node)?;
        ensure!(
            status["version"] == fixture.archives.next.version.as_str(),
            "{node} has {status}"
        );
        ensure!(
            fixture.running(&format!("old-{node}"))? == *before,
            "the pod on {node} was restarted"
        );
        ensure!(
            !version_of(fixture, node, &format!("old-{node}"))?.contains("-next"),
            "a running pod changed its runtime"
        );
        fixture.apply(&sleeper(&format!("new-{node}"), NAME, Some(node)))?;
        let path = version_of(fixture, node, &format!("new-{node}"))?;
        ensure!(
            path.contains(&fixture.archives.next.version),
            "a new pod is served by {path}"
        );
    }
    Ok(())
}

fn rollout_that_is_paused_half_way_waits_and_resumes(fixture: &Fixture) -> Result<()> {
    let containers = two_nodes_with_pods(fixture)?;
    let start = |node| nodes::containerd_start(fixture, node);
    let starts = [start(fixture.first())?, start(fixture.second())?];
    fixture.patch(NAME, &from_url(&fixture.archives.next))?;
    let object = format!("wasmruntimenode/{NAME}.{}", fixture.first());
    fixture.wait_for(&object, "to be begun", |node| {
        Ok((node["status"]["phase"] == "Installing").then_some(()))
    })?;
    fixture.patch(NAME, &json!({ "rollout": { "paused": true } }))?;
    // A started node is finished, and no other is started.
    fixture.wait_for(
        "wasmruntime/wasmedge",
        "to be paused after its first node",
        |runtime| {
            let counts = &runtime["status"]["nodes"];
            Ok((counts["updated"] == 1 && counts["changing"] == 0).then_some(()))
        },
    )?;
    fixture.condition(NAME, "Progressing", "Paused")?;
    ensure!(
        start(fixture.first())? != starts[0],
        "the new version came without a restart of containerd"
    );
    ensure!(
        start(fixture.second())? == starts[1],
        "a paused rollout went on"
    );
    let versions = [
        fixture.on_node(NAME, fixture.first())?["version"].clone(),
        fixture.on_node(NAME, fixture.second())?["version"].clone(),
    ];
    ensure!(
        versions
            == [
                fixture.archives.next.version.as_str(),
                fixture.archives.current.version.as_str()
            ],
        "the nodes have {versions:?}"
    );
    // Both versions accept pods meanwhile.
    for (node, version) in fixture.workers().into_iter().zip([
        &fixture.archives.next.version,
        &fixture.archives.current.version,
    ]) {
        fixture.apply(&sleeper(&format!("meanwhile-{node}"), NAME, Some(node)))?;
        let path = version_of(fixture, node, &format!("meanwhile-{node}"))?;
        let is_next = path.contains("-next");
        ensure!(
            path.contains(&format!("/{version}-")) && is_next == version.contains("-next"),
            "on {node} a new pod is served by {path}"
        );
    }
    ensure!(
        start(fixture.second())? == starts[1],
        "a paused rollout went on"
    );
    fixture.patch(NAME, &json!({ "rollout": { "paused": false } }))?;
    fixture.up_to_date(NAME, 2)?;
    ensure!(
        start(fixture.second())? != starts[1],
        "the new version came without a restart of containerd"
    );
    for (node, before) in fixture.workers().into_iter().zip(&containers) {
        ensure!(
            fixture.running(&format!("old-{node}"))? == *before,
            "the pod on {node} was restarted"
        );
    }
    Ok(())
}

fn downgrade_to_the_previous_version_works_like_an_upgrade(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&from_url(&fixture.archives.next)))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.patch(NAME, &json!({ "artifact": { "platforms": [] } }))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&pod("back", NAME, &["args"], None))?;
    fixture.succeeded("back")?;
    // Nothing uses the other version, so it is removed.
    let kept = fixture
        .cluster
        .in_node(
            fixture.first(),
            &["find", "/opt/wasmedge-runtime", "-maxdepth", "3"],
        )
        .text()?;
    ensure!(!kept.contains("-next"), "still there: {kept}");
    Ok(())
}
