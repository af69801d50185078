//! A guest in its pod's network.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::cluster::End;
use testbed::wait;

use crate::bed::{Namespace, PROBE, tests};
use crate::manifest::pod_of;

tests![a_service_leads_to_a_guest, a_tcp_probe_reaches_a_guest];

/// Where the guest listens.
const PORT: u16 = 8080;

fn a_service_leads_to_a_guest(namespace: &Namespace<'_>) -> Result<()> {
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
    let service = namespace.get("service/listens")?.context("the Service is gone")?;
    let address = service["spec"]["clusterIP"].as_str().context("a Service's address")?.to_owned();
    let other = namespace.cluster.nodes().iter().find(|node| node.as_str() != namespace.cluster.worker()).context("one node alone")?;
    // From another node, through the Service's own address. kube-proxy refuses until it has heard of the pod; before it has
    // heard of the Service, nobody answers, and one attempt would go on for two minutes.
    let connect = format!("exec 3<>/dev/tcp/{address}/{PORT}");
    wait::until(
        "the Service to lead to the guest",
        std::time::Duration::from_mins(1),
        || Ok(namespace.cluster.in_node(other, &["timeout", "2", "bash", "-c", &connect]).output()?.status.success().then_some(())),
        || namespace.cluster.evidence(Some(&namespace.name)),
    )?;
    ensure!(namespace.cluster.end_of(&namespace.name, "listens")? == End::Succeeded, "the guest failed");
    let log = namespace.cluster.log(&namespace.name, "listens", "listens")?;
    ensure!(log == "listening\naccepted\n", "the guest's log is {log:?}");
    Ok(())
}

fn a_tcp_probe_reaches_a_guest(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod_of("listens", PROBE, &["accept", &PORT.to_string()]);
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "tcpSocket": { "port": PORT }, "periodSeconds": 1 });
    namespace.apply(&pod)?;
    // The guest ends with its first connection, and nobody but kubelet makes one.
    ensure!(namespace.cluster.end_of(&namespace.name, "listens")? == End::Succeeded, "the guest failed");
    let log = namespace.cluster.log(&namespace.name, "listens", "listens")?;
    ensure!(log == "listening\naccepted\n", "the guest's log is {log:?}");
    Ok(())
}
