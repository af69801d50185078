//! A runtime goes, and nothing of it is left.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bed::{Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    a_runtime_that_pods_use_stays_until_they_are_gone,
    a_node_that_leaves_the_pool_is_cleaned,
    a_runtime_can_go_in_the_middle_of_its_rollout,
    a_retained_runtime_works_on_and_can_be_taken_up_again,
];

fn delete(bed: &Bed, wait: bool) -> Result<()> {
    let wait = if wait { "--wait=true" } else { "--wait=false" };
    bed.cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, wait, "--timeout=180s"])
        .done()
}

fn a_runtime_that_pods_use_stays_until_they_are_gone(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&sleeper("busy", NAME, None))?;
    let container = bed.running("busy")?;
    delete(bed, false)?;
    let message = bed.condition(NAME, "Degraded", "RemovalBlocked")?;
    ensure!(message.contains("InUse"), "{message}");
    ensure!(bed.running("busy")? == container, "the pod was disturbed");
    ensure!(
        !bed.takes_pods(NAME, bed.first())?,
        "a node that is being cleaned takes pods"
    );
    bed.cluster
        .kubectl()
        .args(["delete", "pod", "busy", "--wait"])
        .done()?;
    bed.wait_until_gone(&format!("wasmruntime/{NAME}"))?;
    ensure!(
        nodes::state(bed, bed.first())?.configuration() == bed.before(bed.first()).configuration(),
        "the node is not clean"
    );
    Ok(())
}

fn a_node_that_leaves_the_pool_is_cleaned(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(
        &json!({ "rollout": { "maxUnavailable": "100%", "canary": 0 } }),
    ))?;
    bed.up_to_date(NAME, 2)?;
    bed.cluster
        .kubectl()
        .args(["label", "node", bed.second(), "pool-"])
        .done()?;
    bed.wait_until_gone(&format!("wasmruntimenode/{NAME}.{}", bed.second()))?;
    ensure!(
        nodes::state(bed, bed.second())? == *bed.before(bed.second()),
        "{}",
        bed.before(bed.second())
            .difference(&nodes::state(bed, bed.second())?)
    );
    bed.apply(&pod("still", NAME, &["args"], None))?;
    ensure!(
        bed.succeeded("still")? == bed.first(),
        "it ran on the cleaned node"
    );
    Ok(())
}

fn a_runtime_can_go_in_the_middle_of_its_rollout(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    bed.wait_for("wasmruntime/wasmedge", "to have one node", |runtime| {
        Ok((runtime["status"]["nodes"]["updated"] == 1).then_some(()))
    })?;
    delete(bed, true)
    // What is looked at after each test tells whether anything is left.
}

fn a_retained_runtime_works_on_and_can_be_taken_up_again(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({ "uninstallPolicy": "Retain" })))?;
    bed.up_to_date(NAME, 1)?;
    delete(bed, true)?;
    bed.apply(&pod("retained", NAME, &["args"], None))?;
    bed.succeeded("retained")?;
    // The next runtime of the name finds what is there.
    bed.apply(&runtime(&from_url(&bed.archives.current)))?;
    bed.up_to_date(NAME, 1)
}
