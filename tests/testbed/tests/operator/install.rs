//! A runtime comes to the nodes of its pool, and pods land there and nowhere else.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::wait;

use crate::bed::{Bed, LIMIT, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, named, pod, runtime, sleeper};

tests![
    a_pod_that_was_there_before_the_runtime_waits_and_then_runs,
    a_node_that_joins_the_pool_later_gets_the_runtime,
    no_node_takes_pods_before_it_serves_the_handler,
    two_runtimes_come_and_go_without_disturbing_each_other,
    startup_taints_are_taken_off_when_the_runtime_works,
    the_runtime_comes_from_a_url_if_its_digest_is_right,
];

fn a_pod_that_was_there_before_the_runtime_waits_and_then_runs(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    // Paused, so that the pod is there first.
    bed.apply(&runtime(&json!({ "rollout": { "paused": true } })))?;
    bed.wait_for("runtimeclass/wasmedge", "to be there", |_| Ok(Some(())))?;
    bed.apply(&pod("early", NAME, &["args"], None))?;
    bed.wait_for("pod/early", "to find no node", |pod| {
        ensure!(
            pod["spec"]["nodeName"].is_null(),
            "it landed on {}",
            pod["spec"]["nodeName"]
        );
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(conditions
            .iter()
            .any(|condition| condition["reason"] == "Unschedulable")
            .then_some(()))
    })?;
    bed.patch(NAME, &json!({ "rollout": { "paused": false } }))?;
    let node = bed.succeeded("early")?;
    ensure!(node == bed.first(), "it ran on {node}");
    // A pod that may run anywhere lands on the one node, however many there are of it.
    for name in ["one", "two", "three"] {
        bed.apply(&pod(name, NAME, &["args"], None))?;
    }
    for name in ["one", "two", "three"] {
        let node = bed.succeeded(name)?;
        ensure!(node == bed.first(), "{name} ran on {node}");
    }
    ensure!(
        !bed.takes_pods(NAME, bed.second())?,
        "a node outside of the pool takes pods"
    );
    ensure!(
        nodes::state(bed, bed.second())? == *bed.before(bed.second()),
        "a node outside of the pool was changed"
    );
    Ok(())
}

fn a_node_that_joins_the_pool_later_gets_the_runtime(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    bed.up_to_date(NAME, 1)?;
    bed.pool(bed.second(), "wasm")?;
    bed.up_to_date(NAME, 2)?;
    bed.apply(&pod("there", NAME, &["args"], Some(bed.second())))?;
    ensure!(bed.succeeded("there")? == bed.second(), "it ran elsewhere");
    Ok(())
}

fn no_node_takes_pods_before_it_serves_the_handler(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    // Whenever the label is seen, the node lists the handler.
    let node = format!("node/{}", bed.first());
    wait::until(
        "the node to take pods",
        LIMIT,
        || {
            let object = bed.get(&node)?;
            let handlers = object["status"]["runtimeHandlers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let serves = handlers.iter().any(|handler| handler["name"] == NAME);
            let labelled = object["metadata"]["labels"]["runtime.wasmedge.dev/wasmedge"] == "ready";
            ensure!(
                serves || !labelled,
                "the node takes pods and lists {handlers:?}"
            );
            Ok((labelled && serves).then_some(()))
        },
        || bed.cluster.operator_evidence(),
    )
}

fn two_runtimes_come_and_go_without_disturbing_each_other(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    for name in ["blue", "green"] {
        bed.apply(&named(
            name,
            "wasm",
            &json!({ "rollout": { "maxUnavailable": 2, "canary": 0 } }),
        ))?;
    }
    for name in ["blue", "green"] {
        bed.up_to_date(name, 2)?;
    }
    for (name, node) in [("blue", bed.first()), ("green", bed.second())] {
        bed.apply(&sleeper(name, name, Some(node)))?;
    }
    let containers = [bed.running("blue")?, bed.running("green")?];
    bed.cluster
        .kubectl()
        .args(["delete", "pod", "blue", "--wait"])
        .done()?;
    bed.cluster
        .kubectl()
        .args(["delete", "wasmruntime", "blue", "--wait", "--timeout=180s"])
        .done()?;
    ensure!(
        bed.running("green")? == containers[1],
        "the pod of the other runtime was restarted"
    );
    ensure!(
        bed.takes_pods("green", bed.first())? && !bed.takes_pods("blue", bed.first())?,
        "the wrong label is gone"
    );
    bed.apply(&pod("after", "green", &["args"], Some(bed.first())))?;
    bed.succeeded("after").map(drop)
}

fn startup_taints_are_taken_off_when_the_runtime_works(bed: &Bed) -> Result<()> {
    let taint = "wasm.example/starting=:NoSchedule";
    bed.cluster
        .kubectl()
        .args(["taint", "node", bed.first(), taint])
        .done()?;
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(
        &json!({ "startupTaints": [{ "key": "wasm.example/starting" }] }),
    ))?;
    bed.up_to_date(NAME, 1)?;
    let taints = bed.get(&format!("node/{}", bed.first()))?["spec"]["taints"].clone();
    ensure!(taints.is_null(), "the node still has {taints}");
    Ok(())
}

fn the_runtime_comes_from_a_url_if_its_digest_is_right(bed: &Bed) -> Result<()> {
    let archive = &bed.archives.current;
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&from_url(archive)))?;
    bed.up_to_date(NAME, 1)?;
    let status = bed.on_node(NAME, bed.first())?;
    ensure!(
        status["sha256"] == archive.sha256.as_str()
            && status["version"] == archive.version.as_str(),
        "it has {status}"
    );
    bed.apply(&pod("downloaded", NAME, &["args"], None))?;
    bed.succeeded("downloaded").map(drop)
}
