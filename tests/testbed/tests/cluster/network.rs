//! A guest in its pod's network.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::cluster::End;
use testbed::wait;

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::pod_of;

tests![
    service_reaches_a_guest,
    a_guest_reaches_another_guest_through_a_service,
    a_tcp_probe_reaches_a_guest
];

/// The guest's port.
const PORT: u16 = 8080;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

fn service_reaches_a_guest(namespace: &Namespace<'_>) -> Result<()> {
    let address = listen(namespace)?;
    let other = namespace
        .cluster
        .nodes()
        .iter()
        .find(|node| node.as_str() != namespace.cluster.worker())
        .context("the cluster has only one node")?;
    // From another node, through the Service's address. kube-proxy refuses connections until it has
    // received the endpoint. Before it has received the Service, no host answers, and one attempt
    // would last two minutes.
    let connect = format!("exec 3<>/dev/tcp/{address}/{PORT}");
    wait::until(
        "the Service to lead to the guest",
        Duration::from_mins(1),
        || {
            Ok(namespace
                .cluster
                .in_node(other, &["timeout", "2", "bash", "-c", &connect])
                .output()?
                .status
                .success()
                .then_some(()))
        },
        || namespace.cluster.evidence(Some(&namespace.name)),
    )?;
    expect_accepted(namespace)
}

fn a_guest_reaches_another_guest_through_a_service(namespace: &Namespace<'_>) -> Result<()> {
    let address = listen(namespace)?;
    namespace.apply(&pod_of("connects", PROBE, &["sleep", "3600"]))?;
    namespace.log_with("connects", "connects", "sleeping")?;
    let connect = [
        "exec",
        "connects",
        "--",
        "/app.wasm",
        "connect",
        &address,
        &PORT.to_string(),
    ];
    wait::until(
        "a guest to reach the Service",
        Duration::from_mins(1),
        || {
            // As above, an early attempt may get no answer. It is abandoned here and may still
            // connect later, so the listening guest decides, to which nothing else connects.
            let _ = namespace
                .kubectl()
                .args(connect)
                .deadline(ATTEMPT_TIMEOUT)
                .output();
            let pod = namespace
                .get("pod/listens")?
                .context("the listening pod is gone")?;
            Ok((pod["status"]["phase"] == "Succeeded").then_some(()))
        },
        || namespace.cluster.evidence(Some(&namespace.name)),
    )?;
    expect_accepted(namespace)
}

/// Starts a guest that accepts one connection, with a Service before it. Returns the Service's
/// address.
fn listen(namespace: &Namespace<'_>) -> Result<String> {
    let mut pod = pod_of("listens", PROBE, &["accept", &PORT.to_string()]);
    pod["metadata"]["labels"] = json!({ "app": "listens" });
    namespace.apply(&pod)?;
    namespace.apply(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "listens" },
        "spec": { "selector": { "app": "listens" }, "ports": [{ "port": PORT }] },
    }))?;
    namespace.log_with("listens", "listens", "listening")?;
    let service = namespace
        .get("service/listens")?
        .context("the Service is gone")?;
    Ok(service["spec"]["clusterIP"]
        .as_str()
        .context("a Service's address")?
        .to_owned())
}

/// Checks that the listening guest accepted its connection and ended.
fn expect_accepted(namespace: &Namespace<'_>) -> Result<()> {
    ensure!(
        namespace.cluster.end_of(&namespace.name, "listens")? == End::Succeeded,
        "the guest failed"
    );
    let log = namespace
        .cluster
        .log(&namespace.name, "listens", "listens")?;
    ensure!(log == "listening\naccepted\n", "the guest's log is {log:?}");
    Ok(())
}

fn a_tcp_probe_reaches_a_guest(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod_of("listens", PROBE, &["accept", &PORT.to_string()]);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({ "tcpSocket": { "port": PORT }, "periodSeconds": 1 });
    namespace.apply(&pod)?;
    // The guest exits after its first connection, and only kubelet makes one.
    expect_accepted(namespace)
}
