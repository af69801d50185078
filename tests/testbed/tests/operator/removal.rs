//! Complete removal of a runtime.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::fixture::{Fixture, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    runtime_in_use_stays_until_its_pods_are_gone,
    a_node_that_leaves_the_pool_is_cleaned,
    runtime_can_be_deleted_during_its_rollout,
    retained_runtime_keeps_working_and_can_be_managed_again,
];

fn delete(fixture: &Fixture, wait: bool) -> Result<()> {
    let wait = if wait { "--wait=true" } else { "--wait=false" };
    fixture
        .cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, wait, "--timeout=180s"])
        .done()
}

fn runtime_in_use_stays_until_its_pods_are_gone(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&sleeper("busy", NAME, None))?;
    let container = fixture.running("busy")?;
    delete(fixture, false)?;
    let message = fixture.condition(NAME, "Degraded", "RemovalBlocked")?;
    ensure!(message.contains("InUse"), "{message}");
    ensure!(
        fixture.running("busy")? == container,
        "the pod was disturbed"
    );
    ensure!(
        !fixture.takes_pods(NAME, fixture.first())?,
        "a node that is being cleaned accepts pods"
    );
    fixture
        .cluster
        .kubectl()
        .args(["delete", "pod", "busy", "--wait"])
        .done()?;
    fixture.wait_until_gone(&format!("wasmruntime/{NAME}"))?;
    ensure!(
        nodes::state(fixture, fixture.first())?.configuration()
            == fixture.before(fixture.first()).configuration(),
        "the node is not clean"
    );
    Ok(())
}

fn a_node_that_leaves_the_pool_is_cleaned(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(
        &json!({ "rollout": { "maxUnavailable": "100%", "canary": 0 } }),
    ))?;
    fixture.up_to_date(NAME, 2)?;
    fixture
        .cluster
        .kubectl()
        .args(["label", "node", fixture.second(), "pool-"])
        .done()?;
    fixture.wait_until_gone(&format!("wasmruntimenode/{NAME}.{}", fixture.second()))?;
    ensure!(
        nodes::state(fixture, fixture.second())? == *fixture.before(fixture.second()),
        "{}",
        fixture
            .before(fixture.second())
            .difference(&nodes::state(fixture, fixture.second())?)
    );
    fixture.apply(&pod("still", NAME, &["args"], None))?;
    ensure!(
        fixture.succeeded("still")? == fixture.first(),
        "it ran on the cleaned node"
    );
    Ok(())
}

fn runtime_can_be_deleted_during_its_rollout(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    fixture.wait_for("wasmruntime/wasmedge", "to have one node", |runtime| {
        Ok((runtime["status"]["nodes"]["updated"] == 1).then_some(()))
    })?;
    delete(fixture, true)
    // The check after each test detects leftovers.
}

fn retained_runtime_keeps_working_and_can_be_managed_again(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({ "uninstallPolicy": "Retain" })))?;
    fixture.up_to_date(NAME, 1)?;
    delete(fixture, true)?;
    fixture.apply(&pod("retained", NAME, &["args"], None))?;
    fixture.succeeded("retained")?;
    // The next runtime of the name finds the retained files.
    fixture.apply(&runtime(&from_url(&fixture.archives.current)))?;
    fixture.up_to_date(NAME, 1)
}
