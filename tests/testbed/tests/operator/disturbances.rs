//! Processes that die and nodes that disappear during a rollout.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::wait;

use crate::fixture::{CHANGE_TIMEOUT, Fixture, tests, witness};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime};
use crate::watch::Watch;

tests![
    installer_killed_at_any_stage_is_started_again,
    killed_operator_resumes_the_rollout,
    other_replica_takes_over_when_the_leader_freezes_and_is_lost,
    node_removed_during_a_rollout_gets_the_runtime_when_it_returns,
    node_restarted_during_a_rollout_gets_the_runtime,
];

/// Waits for the Job of an installer on a node, and returns it.
fn installer_on(fixture: &Fixture, node: &str) -> Result<String> {
    fixture.wait_for(
        &format!("wasmruntimenode/{NAME}.{node}"),
        "to have an installer",
        |object| Ok(object["status"]["job"].as_str().map(str::to_owned)),
    )
}

/// For each stage of the installer a command that succeeds on a node as soon as the installer is in
/// that stage. `record.json` is the installer's record.
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

fn installer_killed_at_any_stage_is_started_again(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    for (number, (stage, sign)) in STAGES.iter().enumerate() {
        kill_an_installer(fixture, stage, sign)?;
        fixture.wait_for(
            &format!("wasmruntimenode/{NAME}.{}", fixture.first()),
            &format!("to report that it was killed at {stage}"),
            |object| {
                let status = &object["status"];
                Ok(
                    (status["reason"] == "Interrupted" && status["attempts"] == number + 1)
                        .then_some(()),
                )
            },
        )?;
        // The operator's backoff grows after each; a changed retry token skips it.
        let annotation = format!("runtime.wasmedge.dev/retry=after-{stage}");
        fixture
            .cluster
            .kubectl()
            .args(["annotate", "--overwrite", "wasmruntime", NAME, &annotation])
            .done()?;
    }
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&pod("after", NAME, &["args"], None))?;
    fixture.succeeded("after")?;
    let pods = [
        "--namespace",
        testbed::helm::NAMESPACE,
        "get",
        "pods",
        "--selector=app.kubernetes.io/component=installer",
    ];
    let left = || {
        fixture
            .cluster
            .kubectl()
            .args(pods)
            .arg("--output=name")
            .text()
    };
    wait::until(
        "the installers' pods to be gone",
        CHANGE_TIMEOUT,
        || Ok(left()?.is_empty().then_some(())),
        || fixture.cluster.operator_evidence(),
    )
}

/// Kills an installer on the first node as soon as there is one and `sign` succeeds. The check runs
/// on the node itself: from here a stage would be over before it is seen.
fn kill_an_installer(fixture: &Fixture, stage: &str, sign: &str) -> Result<()> {
    let script = format!(
        "until pgrep --exact node-installer >/dev/null && {sign} >/dev/null 2>&1 && pkill -KILL \
         --exact node-installer; do sleep 0.01; done"
    );
    let limit = CHANGE_TIMEOUT.as_secs().to_string();
    let killed = fixture
        .cluster
        .in_node(fixture.first(), &["timeout", &limit, "sh", "-c", &script])
        .done();
    killed.with_context(|| {
        format!(
            "kill an installer in its stage {stage}\n{}",
            fixture.cluster.operator_evidence()
        )
    })
}

/// Returns the name of the leader's pod.
fn leader(fixture: &Fixture) -> Result<String> {
    let lease = fixture
        .cluster
        .get(testbed::helm::NAMESPACE, "lease/wasmedge-operator")?
        .context("there is no Lease")?;
    Ok(lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Sends a signal to the leader's process, which bypasses an orderly shutdown. Returns its pod.
fn signal_leader(fixture: &Fixture, signal: &str) -> Result<String> {
    let name = leader(fixture)?;
    let pod = fixture
        .cluster
        .get(testbed::helm::NAMESPACE, &format!("pod/{name}"))?
        .with_context(|| format!("there is no leader's pod {name}"))?;
    let node = pod["spec"]["nodeName"]
        .as_str()
        .context("the leader's pod has no node")?;
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("containerd://");
    let tasks = fixture
        .cluster
        .in_node(node, &["ctr", "--namespace", "k8s.io", "tasks", "list"])
        .text()?;
    let process = tasks
        .lines()
        .find_map(|line| line.strip_prefix(id)?.split_whitespace().next());
    let process =
        process.with_context(|| format!("{name} has no process {id} on {node}:\n{tasks}"))?;
    fixture
        .cluster
        .in_node(node, &["kill", signal, process])
        .done()?;
    Ok(name)
}

fn killed_operator_resumes_the_rollout(fixture: &Fixture) -> Result<()> {
    let watch = Watch::start(fixture)?;
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    installer_on(fixture, fixture.first())?;
    signal_leader(fixture, "-KILL")?;
    fixture.up_to_date(NAME, 1)?;
    watch.one_by_one(fixture, 1)?;
    let begun = watch
        .seen()
        .into_iter()
        .filter(|seen| seen.phase == "Installing")
        .map(|seen| seen.since)
        .collect::<BTreeSet<_>>();
    ensure!(
        begun.len() == 1,
        "the installation on the node was started {} times",
        begun.len()
    );
    fixture
        .cluster
        .kubectl()
        .args(["delete", "wasmruntime", NAME, "--wait=false"])
        .done()?;
    watch.wait_for(fixture, "a removal", |seen| {
        seen.iter()
            .any(|seen| seen.phase == "Removing")
            .then_some(())
    })?;
    signal_leader(fixture, "-KILL")?;
    fixture.wait_until_gone(&format!("wasmruntime/{NAME}"))
    // The check after each test detects leftovers.
}

fn other_replica_takes_over_when_the_leader_freezes_and_is_lost(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    installer_on(fixture, fixture.first())?;
    // A stopped process can neither renew nor release the Lease, whatever Kubernetes then requests.
    let former = signal_leader(fixture, "-STOP")?;
    let delete = [
        "--namespace",
        testbed::helm::NAMESPACE,
        "delete",
        "pod",
        &former,
        "--grace-period=0",
        "--force",
    ];
    fixture.cluster.kubectl().args(delete).done()?;
    ensure!(
        leader(fixture)? == former,
        "{former} has released the Lease, so no takeover was necessary"
    );
    fixture.up_to_date(NAME, 2)?;
    let now = leader(fixture)?;
    ensure!(now != former, "{former} still leads");
    Ok(())
}

fn node_removed_during_a_rollout_gets_the_runtime_when_it_returns(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(
        &json!({ "rollout": { "maxUnavailable": 2, "canary": 0 } }),
    ))?;
    fixture.up_to_date(NAME, 2)?;
    fixture.patch(NAME, &from_url(&fixture.archives.next))?;
    installer_on(fixture, fixture.second())?;
    let kubelet = |verb: &str| {
        fixture
            .cluster
            .in_node(fixture.second(), &["systemctl", verb, "kubelet"])
            .done()
    };
    kubelet("stop")?;
    fixture
        .cluster
        .kubectl()
        .args(["delete", "node", fixture.second()])
        .done()?;
    // Its pods are removed with it, sooner or later; the witness is removed now, so that the one
    // that returns is a new one.
    fixture
        .cluster
        .kubectl()
        .args([
            "delete",
            "pod",
            &witness(fixture.second()),
            "--grace-period=0",
            "--force",
        ])
        .done()?;
    fixture.up_to_date(NAME, 1)?;
    fixture.wait_until_gone(&format!("wasmruntimenode/{NAME}.{}", fixture.second()))?;
    kubelet("start")?;
    fixture.wait_for(
        &format!("node/{}", fixture.second()),
        "to be Ready again",
        |node| Ok(nodes::is_ready(node).then_some(())),
    )?;
    fixture.restart_witness(fixture.second())?;
    fixture.wait_for_restarted_witness(fixture.second())?;
    fixture.pool(fixture.second(), "wasm")?;
    fixture.up_to_date(NAME, 2)
}

fn node_restarted_during_a_rollout_gets_the_runtime(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.second(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    installer_on(fixture, fixture.second())?;
    fixture.cluster.restart_node(fixture.second())?;
    fixture.wait_for_restarted_witness(fixture.second())?;
    fixture.up_to_date(NAME, 1)?;
    fixture.apply(&pod("after", NAME, &["args"], None))?;
    fixture.succeeded("after").map(drop)
}
