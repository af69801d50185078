//! Processes that end and nodes that go, in the middle of a rollout.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::wait;

use crate::bed::{Bed, LIMIT, tests, witness};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime};
use crate::watch::Watch;

tests![
    an_installer_that_is_killed_at_any_stage_is_sent_again,
    an_operator_that_is_killed_goes_on_where_it_was,
    the_other_operator_goes_on_when_the_leader_freezes_and_is_lost,
    a_node_that_is_removed_in_the_middle_is_forgotten_and_gets_it_when_it_comes_back,
    a_node_that_is_restarted_in_the_middle_gets_it_all_the_same,
];

/// The Job of the installer at work on a node, as soon as there is one.
fn installer_on(bed: &Bed, node: &str) -> Result<String> {
    bed.wait_for(
        &format!("wasmruntimenode/{NAME}.{node}"),
        "to have an installer",
        |object| Ok(object["status"]["job"].as_str().map(str::to_owned)),
    )
}

/// What is on a node as soon as an installer is at a stage, and not before. `record.json` is what
/// the installer writes down.
const STAGES: &[(&str, &str)] = &[
    ("check", "true"),
    (
        "artifact",
        "test -e /opt/wasmedge-runtime/.state/wasmedge/record.json",
    ),
    ("configure", "ls -d /opt/wasmedge-runtime/wasmedge/*/bin"),
    (
        "restart",
        r#"grep -q '"pending"' /opt/wasmedge-runtime/.state/wasmedge/record.json"#,
    ),
    (
        "verify",
        "test -d /opt/wasmedge-runtime/.state/wasmedge/smoke",
    ),
];

fn an_installer_that_is_killed_at_any_stage_is_sent_again(bed: &Bed) -> Result<()> {
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    for (number, (stage, sign)) in STAGES.iter().enumerate() {
        kill_an_installer(bed, stage, sign)?;
        bed.wait_for(
            &format!("wasmruntimenode/{NAME}.{}", bed.first()),
            &format!("to tell that it was killed at {stage}"),
            |object| {
                let status = &object["status"];
                Ok(
                    (status["reason"] == "Interrupted" && status["attempts"] == number + 1)
                        .then_some(()),
                )
            },
        )?;
        // The operator waits longer after each; a person need not.
        let annotation = format!("runtime.wasmedge.dev/retry=after-{stage}");
        bed.cluster
            .kubectl()
            .args(["annotate", "--overwrite", "wasmruntime", NAME, &annotation])
            .done()?;
    }
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("after", NAME, &["args"], None))?;
    bed.succeeded("after")?;
    let pods = [
        "--namespace",
        testbed::helm::NAMESPACE,
        "get",
        "pods",
        "--selector=app.kubernetes.io/component=installer",
    ];
    let left = || bed.cluster.kubectl().args(pods).arg("--output=name").text();
    wait::until(
        "the installers' pods to be gone",
        LIMIT,
        || Ok(left()?.is_empty().then_some(())),
        || bed.cluster.operator_evidence(),
    )
}

/// Kills an installer on the first node as soon as there is one and `sign` is to be seen. It is
/// looked for on the node itself: from here a stage would be over before it is seen.
fn kill_an_installer(bed: &Bed, stage: &str, sign: &str) -> Result<()> {
    let script = format!(
        "until pgrep --exact node-installer >/dev/null && {sign} >/dev/null 2>&1 && pkill -KILL \
         --exact node-installer; do sleep 0.01; done"
    );
    let limit = LIMIT.as_secs().to_string();
    let killed = bed
        .cluster
        .in_node(bed.first(), &["timeout", &limit, "sh", "-c", &script])
        .done();
    killed.with_context(|| {
        format!(
            "kill an installer at its stage {stage}\n{}",
            bed.cluster.operator_evidence()
        )
    })
}

/// The name of the pod that leads.
fn leader(bed: &Bed) -> Result<String> {
    let lease = bed
        .cluster
        .get(testbed::helm::NAMESPACE, "lease/wasmedge-operator")?
        .context("there is no Lease")?;
    Ok(lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Sends a signal to the leader's process, past everything that would let it end in good order.
/// Returns its pod.
fn signal_leader(bed: &Bed, signal: &str) -> Result<String> {
    let name = leader(bed)?;
    let pod = bed
        .cluster
        .get(testbed::helm::NAMESPACE, &format!("pod/{name}"))?
        .with_context(|| format!("no pod {name} leads"))?;
    let node = pod["spec"]["nodeName"]
        .as_str()
        .context("a pod that leads has a node")?;
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("containerd://");
    let tasks = bed
        .cluster
        .in_node(node, &["ctr", "--namespace", "k8s.io", "tasks", "list"])
        .text()?;
    let process = tasks
        .lines()
        .find_map(|line| line.strip_prefix(id)?.split_whitespace().next());
    let process =
        process.with_context(|| format!("{name} has no process {id} on {node}:\n{tasks}"))?;
    bed.cluster
        .in_node(node, &["kill", signal, process])
        .done()?;
    Ok(name)
}

fn an_operator_that_is_killed_goes_on_where_it_was(bed: &Bed) -> Result<()> {
    let watch = Watch::start(bed)?;
    bed.pool(bed.first(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    installer_on(bed, bed.first())?;
    signal_leader(bed, "-KILL")?;
    bed.up_to_date(NAME, 1)?;
    watch.one_by_one(bed, 1)?;
    let begun = watch
        .seen()
        .into_iter()
        .filter(|seen| seen.phase == "Installing")
        .map(|seen| seen.since)
        .collect::<BTreeSet<_>>();
    ensure!(begun.len() == 1, "the node was begun {} times", begun.len());
    bed.cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, "--wait=false"])
        .done()?;
    watch.wait_for(bed, "a removal", |seen| {
        seen.iter()
            .any(|seen| seen.phase == "Removing")
            .then_some(())
    })?;
    signal_leader(bed, "-KILL")?;
    bed.wait_until_gone(&format!("wasmruntime/{NAME}"))
    // What is looked at after each test tells whether anything is left.
}

fn the_other_operator_goes_on_when_the_leader_freezes_and_is_lost(bed: &Bed) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    installer_on(bed, bed.first())?;
    // A process that does not run can neither renew the Lease nor let go of it, whatever Kubernetes
    // then asks of it.
    let former = signal_leader(bed, "-STOP")?;
    let delete = [
        "--namespace",
        testbed::helm::NAMESPACE,
        "delete",
        "pod",
        &former,
        "--grace-period=0",
        "--force",
    ];
    bed.cluster.kubectl().args(delete).done()?;
    ensure!(
        leader(bed)? == former,
        "{former} has let go of the Lease, so nobody had to take it over"
    );
    bed.up_to_date(NAME, 2)?;
    let now = leader(bed)?;
    ensure!(now != former, "{former} still leads");
    Ok(())
}

fn a_node_that_is_removed_in_the_middle_is_forgotten_and_gets_it_when_it_comes_back(
    bed: &Bed,
) -> Result<()> {
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    bed.apply(&runtime(
        &json!({ "rollout": { "maxUnavailable": 2, "canary": 0 } }),
    ))?;
    bed.up_to_date(NAME, 2)?;
    bed.patch(NAME, &from_url(&bed.archives.next))?;
    installer_on(bed, bed.second())?;
    let kubelet = |verb: &str| {
        bed.cluster
            .in_node(bed.second(), &["systemctl", verb, "kubelet"])
            .done()
    };
    kubelet("stop")?;
    bed.cluster
        .kubectl()
        .args(["delete", "node", bed.second()])
        .done()?;
    // Its pods go with it, sooner or later; the witness now, so that it is another one that comes
    // back.
    bed.cluster
        .kubectl()
        .args([
            "delete",
            "pod",
            &witness(bed.second()),
            "--grace-period=0",
            "--force",
        ])
        .done()?;
    bed.up_to_date(NAME, 1)?;
    bed.wait_until_gone(&format!("wasmruntimenode/{NAME}.{}", bed.second()))?;
    kubelet("start")?;
    bed.wait_for(
        &format!("node/{}", bed.second()),
        "to be Ready again",
        |node| Ok(nodes::is_ready(node).then_some(())),
    )?;
    bed.revive(bed.second())?;
    bed.was_restarted(bed.second())?;
    bed.pool(bed.second(), "wasm")?;
    bed.up_to_date(NAME, 2)
}

fn a_node_that_is_restarted_in_the_middle_gets_it_all_the_same(bed: &Bed) -> Result<()> {
    bed.pool(bed.second(), "wasm")?;
    bed.apply(&runtime(&json!({})))?;
    installer_on(bed, bed.second())?;
    bed.cluster.restart_node(bed.second())?;
    bed.was_restarted(bed.second())?;
    bed.up_to_date(NAME, 1)?;
    bed.apply(&pod("after", NAME, &["args"], None))?;
    bed.succeeded("after").map(drop)
}
