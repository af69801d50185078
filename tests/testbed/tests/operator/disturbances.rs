//! Processes that end and nodes that go, in the middle of a rollout.

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

/// The Job of the installer at work on a node, as soon as there is one.
fn installer_on(fixture: &Fixture, node: &str) -> Result<String> {
    fixture.wait_for(
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

fn installer_killed_at_any_stage_is_started_again(fixture: &Fixture) -> Result<()> {
    fixture.pool(fixture.first(), "wasm")?;
    fixture.apply(&runtime(&json!({})))?;
    for (number, (stage, sign)) in STAGES.iter().enumerate() {
        kill_an_installer(fixture, stage, sign)?;
        fixture.wait_for(
            &format!("wasmruntimenode/{NAME}.{}", fixture.first()),
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

/// Kills an installer on the first node as soon as there is one and `sign` is to be seen. It is
/// looked for on the node itself: from here a stage would be over before it is seen.
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
            "kill an installer at its stage {stage}\n{}",
            fixture.cluster.operator_evidence()
        )
    })
}

/// The name of the pod that leads.
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

/// Sends a signal to the leader's process, past everything that would let it end in good order.
/// Returns its pod.
fn signal_leader(fixture: &Fixture, signal: &str) -> Result<String> {
    let name = leader(fixture)?;
    let pod = fixture
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
    ensure!(begun.len() == 1, "the node was begun {} times", begun.len());
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
    // What is looked at after each test tells whether anything is left.
}

fn other_replica_takes_over_when_the_leader_freezes_and_is_lost(fixture: &Fixture) -> Result<()> {
    for node in fixture.workers() {
        fixture.pool(node, "wasm")?;
    }
    fixture.apply(&runtime(&json!({ "rollout": { "canary": 0 } })))?;
    installer_on(fixture, fixture.first())?;
    // A process that does not run can neither renew the Lease nor let go of it, whatever Kubernetes
    // then asks of it.
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
        "{former} has let go of the Lease, so nobody had to take it over"
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
    // Its pods go with it, sooner or later; the witness now, so that it is another one that comes
    // back.
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
