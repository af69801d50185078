//! Processes that end and nodes that go, in the middle of a rollout.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::wait;

use crate::bed::{Bed, LIMIT, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime};

tests![
    an_installer_that_is_killed_is_sent_again,
    the_other_operator_goes_on_when_the_leader_is_killed,
    a_node_that_is_removed_in_the_middle_is_forgotten_and_gets_it_when_it_comes_back,
    a_node_that_is_restarted_in_the_middle_gets_it_all_the_same,
];

/// The Job of the installer at work on a node, as soon as there is one.
fn installer_on(bed: &Bed, node: &str) -> Result<String> {
    bed.wait_for(&format!("wasmruntimenode/{NAME}.{node}"), "to have an installer", |object| {
        Ok(object["status"]["job"].as_str().map(str::to_owned))
    })
}

fn an_installer_that_is_killed_is_sent_again(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    let job = installer_on(bed, bed.first())?;
    // As soon as it is there: whatever it was doing, nobody lets it finish.
    let selector = format!("--selector=batch.kubernetes.io/job-name={job}");
    let pods = ["--namespace", testbed::helm::NAMESPACE, "get", "pods", &selector, "--output=jsonpath={.items[*].metadata.name}"];
    let name = wait::until(
        "the installer's pod",
        LIMIT,
        || {
            let name = bed.cluster.kubectl().args(pods).text()?;
            let running = bed.cluster.in_node(bed.first(), &["pgrep", "--exact", "node-installer"]).output()?.status.success();
            Ok((running && !name.is_empty()).then_some(name))
        },
        || bed.cluster.operator_evidence(),
    )?;
    bed.cluster.in_node(bed.first(), &["pkill", "-KILL", "--exact", "node-installer"]).done()?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("after", NAME, &["args"], None))?;
    bed.succeeded("after")?;
    let gone = bed.cluster.kubectl().args(["--namespace", testbed::helm::NAMESPACE, "get", "pod", &name, "--ignore-not-found"]).text()?;
    ensure!(gone.is_empty(), "the killed installer's pod is still there: {gone}");
    Ok(())
}

/// The name of the pod that leads.
fn leader(bed: &Bed) -> Result<String> {
    let lease = bed.cluster.get(testbed::helm::NAMESPACE, "lease/wasmedge-operator")?.context("there is no Lease")?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

fn the_other_operator_goes_on_when_the_leader_is_killed(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    installer_on(bed, bed.first())?;
    let former = leader(bed)?;
    // No grace: it cannot let go of the Lease.
    let delete = ["--namespace", testbed::helm::NAMESPACE, "delete", "pod", &former, "--grace-period=0", "--force"];
    bed.cluster.kubectl().args(delete).done()?;
    bed.up_to_date(NAME, 2)?;
    let now = leader(bed)?;
    ensure!(now != former, "{former} still leads");
    Ok(())
}

fn a_node_that_is_removed_in_the_middle_is_forgotten_and_gets_it_when_it_comes_back(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(&json!({ "rollout": { "maxUnavailable": 2, "canary": 0 } })))?;
    bed.up_to_date(NAME, 2)?;
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    installer_on(bed, bed.second())?;
    let shell = |script: &str| bed.cluster.in_node(bed.second(), &["sh", "-c", script]).done();
    shell("systemctl stop kubelet")?;
    bed.cluster.kubectl().args(["delete", "node", bed.second()]).done()?;
    bed.up_to_date(NAME, 1)?;
    bed.wait_until_gone(&format!("wasmruntimenode/{NAME}.{}", bed.second()))?;
    // Its pods went with it, and come back with it.
    shell("touch /var/tmp/was-restarted && systemctl start kubelet")?;
    bed.wait_for(&format!("node/{}", bed.second()), "to be Ready again", |node| Ok(nodes::is_ready(node).then_some(())))?;
    bed.revive(bed.second())?;
    bed.pool(bed.second(), "wasm")?;
    bed.up_to_date(NAME, 2)
}

fn a_node_that_is_restarted_in_the_middle_gets_it_all_the_same(bed: &Bed) -> Result<()> {
    bed.pool(bed.second(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    installer_on(bed, bed.second())?;
    bed.cluster.in_node(bed.second(), &["touch", "/var/tmp/was-restarted"]).done()?;
    bed.cluster.restart_node(bed.second())?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("after", NAME, &["args"], None))?;
    bed.succeeded("after").map(drop)
}
