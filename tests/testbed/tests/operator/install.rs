//! Installation of a runtime on the nodes of its pool, and scheduling of pods on these nodes only.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, named, pod, runtime, sleeper};

tests![
    pod_created_before_the_runtime_waits_and_then_runs,
    a_node_that_joins_the_pool_later_gets_the_runtime,
    no_node_takes_pods_before_it_serves_the_handler,
    two_runtimes_are_installed_and_removed_independently,
    startup_taints_are_removed_when_the_runtime_works,
    runtime_is_installed_from_a_url_with_a_matching_digest,
];

fn pod_created_before_the_runtime_waits_and_then_runs(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    // Paused, so that the pod exists first.
    fixture.apply(&runtime(&json!({ "rollout": { "paused": true } })))?;
    fixture.wait_for("runtimeclass/wasmedge", "to be there", |_| Ok(Some(())))?;
    fixture.apply(&pod("early", NAME, &["args"], None))?;
    fixture.wait_for("pod/early", "to find no node", |pod| {
        ensure!(
            pod["spec"]["nodeName"].is_null(),
            "it was scheduled on {}",
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
    fixture.patch(NAME, &json!({ "rollout": { "paused": false } }))?;
    let node = fixture.succeeded("early")?;
    ensure!(node == fixture.first(), "it ran on {node}");
    // All pods that may run on any node are scheduled on the one node.
    for name in ["one", "two", "three"] {
        fixture.apply(&pod(name, NAME, &["args"], None))?;
    }
    for name in ["one", "two", "three"] {
        let node = fixture.succeeded(name)?;
        ensure!(node == fixture.first(), "{name} ran on {node}");
    }
    ensure!(
        !fixture.takes_pods(NAME, fixture.second())?,
        "a node outside of the pool takes pods"
    );
    ensure!(
        nodes::state(fixture, fixture.second())? == *fixture.before(fixture.second()),
        "a node outside of the pool was changed"
    );
    Ok(())
}

fn a_node_that_joins_the_pool_later_gets_the_runtime(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    fixture.up_to_date(NAME, 1)?;
    fixture.pool(fixture.second(), "wasm")?;
    fixture.up_to_date(NAME, 2)?;
    fixture.apply(&pod("there", NAME, &["args"], Some(fixture.second())))?;
    ensure!(
        fixture.succeeded("there")? == fixture.second(),
        "it ran elsewhere"
    );
    Ok(())
}

fn no_node_takes_pods_before_it_serves_the_handler(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    // Whenever the label is seen, the node lists the handler.
    let node = format!("node/{}", fixture.first());
    wait::until(
        "the node to take pods",
        CHANGE_TIMEOUT,
        || {
            let object = fixture.get(&node)?;
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
        || fixture.cluster.operator_evidence(),
    )
}

fn two_runtimes_are_installed_and_removed_independently(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    for name in ["blue", "green"] {
        fixture.apply(&named(
            name,
            "wasm",
            &json!({ "rollout": { "maxUnavailable": 2, "canary": 0 } }),
        ))?;
    }
    for name in ["blue", "green"] {
        fixture.up_to_date(name, 2)?;
    }
    for (name, node) in [("blue", fixture.first()), ("green", fixture.second())] {
        fixture.apply(&sleeper(name, name, Some(node)))?;
    }
    let containers = [fixture.running("blue")?, fixture.running("green")?];
    fixture
        .cluster
        .kubectl()
        .args(["delete", "pod", "blue", "--wait"])
        .done()?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "wasmruntime", "blue", "--wait", "--timeout=180s"])
        .done()?;
    ensure!(
        fixture.running("green")? == containers[1],
        "the pod of the other runtime was restarted"
    );
    ensure!(
        fixture.takes_pods("green", fixture.first())?
            && !fixture.takes_pods("blue", fixture.first())?,
        "the wrong label is gone"
    );
    fixture.apply(&pod("after", "green", &["args"], Some(fixture.first())))?;
    fixture.succeeded("after").map(drop)
}

fn startup_taints_are_removed_when_the_runtime_works(fixture: &Fixture) -> Result<()> {
    let taint = "wasm.example/starting=:NoSchedule";
    fixture
        .cluster
        .kubectl()
        .args(["taint", "node", fixture.first(), taint])
        .done()?;
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(
        &json!({ "startupTaints": [{ "key": "wasm.example/starting" }] }),
    ))?;
    fixture.up_to_date(NAME, 1)?;
    let taints = fixture.get(&format!("node/{}", fixture.first()))?["spec"]["taints"].clone();
    ensure!(taints.is_null(), "the node still has {taints}");
    Ok(())
}

fn runtime_is_installed_from_a_url_with_a_matching_digest(fixture: &Fixture) -> Result<()> {
    let archive = &fixture.archives.current;
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&from_url(archive)))?;
    fixture.up_to_date(NAME, 1)?;
    let status = fixture.on_node(NAME, fixture.first())?;
    ensure!(
        status["sha256"] == archive.sha256.as_str()
            && status["version"] == archive.version.as_str(),
        "it has {status}"
    );
    fixture.apply(&pod("downloaded", NAME, &["args"], None))?;
    fixture.succeeded("downloaded").map(drop)
}
