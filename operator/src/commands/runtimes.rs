//! `runtimes remove`: deletes every runtime and waits until the operator has cleaned every node.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep};

use crate::apply::call;
use crate::crd::{Phase, WasmRuntime, WasmRuntimeNode};
use crate::error::{ApplyError, Category};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of nodes that a message names.
const MAX_NAMED_NODES: usize = 10;

/// Deletes every runtime, and waits up to `timeout` until all are gone.
///
/// # Errors
/// If some are not gone in time: the error names the nodes that they wait for, and why. Also on an
/// API error that is not transient.
pub async fn remove(client: Client, timeout: Duration) -> Result<()> {
    let runtimes = Api::<WasmRuntime>::all(client.clone());
    let nodes = Api::<WasmRuntimeNode>::all(client);
    let deadline = Instant::now() + timeout;
    let mut logged = String::new();
    loop {
        let left = match delete_and_report(&runtimes, &nodes).await {
            Ok(None) => {
                tracing::info!("all runtimes are removed");
                return Ok(());
            }
            Ok(Some(evidence)) => format!("not removed yet: {evidence}"),
            Err(error) if error.category().is_transient() => {
                format!("cannot check what is left: {}", error.chain())
            }
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            bail!(
                "timeout after {} s: {left}. The operator continues while it runs: allow more time \
                 with --timeout, or see `kubectl get wasmruntimenodes`. With \
                 spec.uninstallPolicy: Retain, nodes keep what is installed",
                timeout.as_secs()
            );
        }
        if left != logged {
            tracing::info!(left, "waiting for runtimes to be removed");
            logged = left;
        }
        sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Deletes all runtimes. Returns what is left and what it waits for; none if nothing is left.
async fn delete_and_report(
    runtimes: &Api<WasmRuntime>,
    nodes: &Api<WasmRuntimeNode>,
) -> Result<Option<String>, ApplyError> {
    // Repeated each time: a runtime may have been created in the meantime.
    let left = delete_all(runtimes).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let nodes = call(
        || "list WasmRuntimeNodes".to_owned(),
        nodes.list(&ListParams::default()),
    )
    .await?;
    Ok(Some(evidence(&left, &nodes.items)))
}

/// Deletes every runtime that is not being deleted yet. Returns the names of all that exist.
async fn delete_all(api: &Api<WasmRuntime>) -> Result<Vec<String>, ApplyError> {
    let found = match call(
        || "list WasmRuntimes".to_owned(),
        api.list(&ListParams::default()),
    )
    .await
    {
        Ok(found) => found.items,
        // Without the definitions there are no objects.
        Err(error) if error.category() == Category::Gone => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for runtime in found
        .iter()
        .filter(|runtime| runtime.metadata.deletion_timestamp.is_none())
    {
        let name = runtime.name_any();
        match call(
            || format!("delete WasmRuntime {name}"),
            api.delete(&name, &DeleteParams::background()),
        )
        .await
        {
            Ok(_) => tracing::info!(name, "deleted the WasmRuntime; its nodes are being cleaned"),
            Err(error) if error.category() == Category::Gone => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.iter().map(kube::ResourceExt::name_any).collect())
}

/// Describes the runtimes that are left, and the nodes that they wait for.
fn evidence(runtimes: &[String], nodes: &[WasmRuntimeNode]) -> String {
    let waiting: Vec<String> = nodes
        .iter()
        .filter(|node| runtimes.contains(&node.spec.runtime))
        .map(obstacle)
        .collect();
    let mut text = format!("WasmRuntime {}", runtimes.join(", "));
    if waiting.is_empty() {
        text.push_str(", with no node to be cleaned: is the operator running?");
        return text;
    }
    let named = waiting
        .iter()
        .take(MAX_NAMED_NODES)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    let _ = write!(text, " on {} nodes: {named}", waiting.len());
    if waiting.len() > MAX_NAMED_NODES {
        let _ = write!(text, "; and {} more", waiting.len() - MAX_NAMED_NODES);
    }
    text
}

fn obstacle(node: &WasmRuntimeNode) -> String {
    let status = node.status.clone().unwrap_or_default();
    let name = &node.spec.node;
    match (status.phase, status.reason, status.message) {
        (Phase::Removing, Some(reason), Some(message)) => format!("{name} ({reason}: {message})"),
        (phase @ Phase::Installing, Some(reason), Some(message)) => {
            format!("{name} ({}, {reason}: {message})", phase.as_str())
        }
        (Phase::Removing, _, _) => format!("{name} (being cleaned)"),
        (phase, _, _) => format!("{name} ({}, not started yet)", phase.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::WasmRuntimeNodeStatus;
    use crate::objects::runtime_node::runtime_node;

    fn node(name: &str, status: WasmRuntimeNodeStatus) -> WasmRuntimeNode {
        WasmRuntimeNode {
            status: Some(status),
            ..runtime_node("wasmedge", name, "uid")
        }
    }

    #[test]
    fn remaining_nodes_are_named_with_reason() {
        let removing = WasmRuntimeNodeStatus {
            phase: Phase::Removing,
            ..WasmRuntimeNodeStatus::default()
        };
        let in_use = WasmRuntimeNodeStatus {
            reason: Some("InUse".to_owned()),
            message: Some("2 containers use it".to_owned()),
            ..removing.clone()
        };
        let ready = WasmRuntimeNodeStatus {
            phase: Phase::Ready,
            ..WasmRuntimeNodeStatus::default()
        };
        let nodes = [node("a", removing), node("b", in_use), node("c", ready)];
        assert_eq!(
            evidence(&["wasmedge".to_owned()], &nodes),
            "WasmRuntime wasmedge on 3 nodes: a (being cleaned); b (InUse: 2 containers use it); c \
             (Ready, not started yet)"
        );
    }

    #[test]
    fn runtime_without_nodes_hints_at_the_operator() {
        let others = [node("a", WasmRuntimeNodeStatus::default())];
        assert!(evidence(&["other".to_owned()], &others).ends_with("is the operator running?"));
    }

    #[test]
    fn message_names_some_of_many_nodes() {
        let nodes: Vec<_> = (0..25)
            .map(|number| node(&format!("n{number}"), WasmRuntimeNodeStatus::default()))
            .collect();
        let text = evidence(&["wasmedge".to_owned()], &nodes);
        assert!(
            text.contains("on 25 nodes") && text.ends_with("; and 15 more"),
            "{text}"
        );
    }
}
