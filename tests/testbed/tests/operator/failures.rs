//! What goes wrong on a node leaves it as it was, stops the rollout, and is said.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bed::{Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![
    an_archive_with_another_digest_is_not_used_and_stops_the_rollout,
    a_version_that_does_not_work_is_rolled_back_byte_for_byte,
    a_first_version_that_does_not_work_leaves_the_node_as_it_was,
    a_containerd_configuration_that_cannot_be_read_is_left_alone,
    a_full_disk_leaves_the_node_as_it_was,
    a_handler_of_somebody_else_is_not_taken_over,
    a_class_of_somebody_else_blocks_until_it_may_be_adopted_and_comes_back,
];

/// The node works: Ready, containerd answers, and its configuration is what it was.
fn is_unharmed(bed: &Bed, node: &str) -> Result<()> {
    let now = nodes::state(bed, node)?;
    ensure!(now.configuration() == bed.before(node).configuration(), "containerd's configuration:\n{}", bed.before(node).difference(&now));
    ensure!(nodes::is_ready(&bed.get(&format!("node/{node}"))?), "{node} is not Ready");
    bed.cluster.in_node(node, &["ctr", "version"]).done()
}

fn an_archive_with_another_digest_is_not_used_and_stops_the_rollout(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    let mut spec = from_url(&bed.archives.next);
    spec["artifact"]["platforms"][0]["sha256"] = json!("0".repeat(64));
    bed.apply(&runtime(&spec))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("DigestMismatch"), "{message}");
    is_unharmed(bed, bed.first())?;
    let (first, second) = (bed.takes_pods(NAME, bed.first())?, bed.takes_pods(NAME, bed.second())?);
    ensure!(!first && !second, "a node without the runtime takes pods");
    ensure!(!bed.is_there(&format!("wasmruntimenode/{NAME}.{}", bed.second()))?, "the second node was begun after the first had failed");
    // Put right, it goes on by itself.
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    bed.up_to_date(NAME, 2)
}

fn a_version_that_does_not_work_is_rolled_back_byte_for_byte(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&sleeper("old", NAME, None))?;
    let container = bed.running("old")?;
    let before = nodes::state(bed, bed.first())?;
    bed.patch(NAME, &from_url(&bed.archives.broken))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    let after = nodes::state(bed, bed.first())?;
    ensure!(after.configuration() == before.configuration(), "containerd's configuration:\n{}", before.difference(&after));
    ensure!(bed.running("old")? == container, "a running pod was restarted");
    // What worked before works on.
    ensure!(bed.takes_pods(NAME, bed.first())?, "the node takes no pods any more");
    bed.apply(&pod("new", NAME, &["args"], None))?;
    bed.succeeded("new").map(drop)
}

fn a_first_version_that_does_not_work_leaves_the_node_as_it_was(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&from_url(&bed.archives.broken)))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("SmokeFailed"), "{message}");
    is_unharmed(bed, bed.first())?;
    ensure!(!bed.takes_pods(NAME, bed.first())?, "the node takes pods");
    Ok(())
}

fn a_containerd_configuration_that_cannot_be_read_is_left_alone(bed: &Bed) -> Result<()> {
    let config = "/etc/containerd/config.toml";
    bed.pool(bed.first(), "wasm")?;
    // containerd runs on what it read at its start; the next start would fail.
    let shell = |script: &str| bed.cluster.in_node(bed.first(), &["sh", "-c", script]).done();
    shell(&format!("cp -p {config} /var/tmp/config.toml && echo 'this is = = no TOML' >> {config}"))?;
    let start = nodes::containerd_start(bed, bed.first())?;
    bed.apply(&runtime(&json!({})))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped");
    let digest = bed.cluster.in_node(bed.first(), &["tail", "--lines=1", config]).text();
    shell(&format!("cp -p /var/tmp/config.toml {config} && rm /var/tmp/config.toml"))?;
    ensure!(message?.contains("ContainerdConfig"), "the reason is another one");
    ensure!(digest?.contains("no TOML"), "the admin's file was changed");
    ensure!(nodes::containerd_start(bed, bed.first())? == start, "containerd was restarted");
    is_unharmed(bed, bed.first())
}

fn a_full_disk_leaves_the_node_as_it_was(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    let shell = |script: &str| bed.cluster.in_node(bed.first(), &["sh", "-c", script]).done();
    shell("mkdir -p /opt/wasmedge-runtime && mount -t tmpfs -o size=4m,mode=755 tmpfs /opt/wasmedge-runtime")?;
    bed.apply(&runtime(&json!({})))?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped");
    let left = bed.cluster.in_node(bed.first(), &["find", "/opt/wasmedge-runtime", "-size", "+100k"]).text();
    shell("umount /opt/wasmedge-runtime && rmdir /opt/wasmedge-runtime")?;
    let message = message?;
    ensure!(message.contains("HostFiles"), "{message}");
    ensure!(left?.is_empty(), "what did not fit was left half done");
    is_unharmed(bed, bed.first())?;
    // With room again, a person asks for another try.
    bed.cluster.kubectl().args(["annotate", "wasmruntime", NAME, "runtime.wasmedge.dev/retry=1"]).done()?;
    bed.up_to_date(NAME, 1)
}

fn a_handler_of_somebody_else_is_not_taken_over(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    // The node image's containerd knows this one by its own configuration.
    let mut object = runtime(&json!({}));
    object["spec"]["runtimeClass"] = json!({ "name": "not-ours", "handler": "runc" });
    bed.apply(&object)?;
    let message = bed.condition(NAME, "Degraded", "RolloutStopped")?;
    ensure!(message.contains("HandlerTaken"), "{message}");
    is_unharmed(bed, bed.first())
}

fn a_class_of_somebody_else_blocks_until_it_may_be_adopted_and_comes_back(bed: &Bed) -> Result<()> {
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": NAME,
        "metadata": { "name": NAME, "labels": { "theirs": "yes" } },
    });
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&class)?;
    bed.apply(&runtime(&json!({})))?;
    bed.condition(NAME, "Degraded", "RuntimeClassNotOurs")?;
    ensure!(nodes::state(bed, bed.first())?.configuration() == bed.before(bed.first()).configuration(), "the node was begun");
    bed.patch(NAME, &json!({ "runtimeClass": { "adoptExisting": true } }))?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("adopted", NAME, &["args"], None))?;
    bed.succeeded("adopted")?;
    bed.cluster.kubectl().args(["delete", "pod", "adopted", "--wait"]).done()?;
    bed.cluster.kubectl().args(["delete", "wasmruntime", NAME, "--wait", "--timeout=180s"]).done()?;
    let left = bed.get("runtimeclass/wasmedge")?;
    bed.cluster.kubectl().args(["delete", "runtimeclass", NAME]).done()?;
    ensure!(left["metadata"]["labels"] == json!({ "theirs": "yes" }), "its labels are {}", left["metadata"]["labels"]);
    ensure!(left["scheduling"].is_null() && left["overhead"].is_null(), "it is still changed: {left}");
    Ok(())
}
