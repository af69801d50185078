//! `runtimes remove`: deletes every runtime and waits until the operator has cleaned every node.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep};

use crate::apply::ask;
use crate::crd::{Phase, WasmRuntime, WasmRuntimeNode};
use crate::error::{ApplyError, Category};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How many nodes a message names.
const NAMED: usize = 10;

/// Deletes every runtime, and waits up to `patience` until all are gone.
///
/// # Errors
/// When some are not gone in time: which nodes they wait for, and why. And when the API server
/// refuses what does not pass.
pub async fn remove(client: Client, patience: Duration) -> Result<()> {
    let runtimes = Api::<WasmRuntime>::all(client.clone());
    let nodes = Api::<WasmRuntimeNode>::all(client);
    let deadline = Instant::now() + patience;
    let mut told = String::new();
    loop {
        let left = match look(&runtimes, &nodes).await {
            Ok(None) => {
                tracing::info!("no runtime is left");
                return Ok(());
            }
            Ok(Some(evidence)) => format!("there is still {evidence}"),
            Err(error) if error.category().is_transient() => {
                format!("it is not known what is left: {}", error.chain())
            }
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            bail!(
                "after {} s {left}. The operator goes on while it runs: give it more time with \
                 --timeout, or see \
                 `kubectl get wasmruntimenodes`. With spec.uninstallPolicy: Retain a runtime lets \
                 its nodes go as they are",
                patience.as_secs()
            );
        }
        if left != told {
            tracing::info!("waiting: {left}");
            told = left;
        }
        sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Deletes what is there, and says what waits for what; nothing where nothing is left.
async fn look(
    runtimes: &Api<WasmRuntime>,
    nodes: &Api<WasmRuntimeNode>,
) -> Result<Option<String>, ApplyError> {
    // Deleted again each time: one may have been made in the meantime.
    let left = delete_all(runtimes).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let nodes = ask(
        || "list WasmRuntimeNodes".to_owned(),
        nodes.list(&ListParams::default()),
    )
    .await?;
    Ok(Some(evidence(&left, &nodes.items)))
}

/// Deletes every runtime that is not on its way out, and names all that are there.
async fn delete_all(api: &Api<WasmRuntime>) -> Result<Vec<String>, ApplyError> {
    let found = match ask(
        || "list WasmRuntimes".to_owned(),
        api.list(&ListParams::default()),
    )
    .await
    {
        Ok(found) => found.items,
        // The API is not there, so its objects are not either.
        Err(error) if error.category() == Category::Gone => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for runtime in found
        .iter()
        .filter(|runtime| runtime.metadata.deletion_timestamp.is_none())
    {
        let name = runtime.name_any();
        match ask(
            || format!("delete WasmRuntime {name}"),
            api.delete(&name, &DeleteParams::background()),
        )
        .await
        {
            Ok(_) => tracing::info!(name, "deleted; its nodes are being cleaned"),
            Err(error) if error.category() == Category::Gone => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.iter().map(kube::ResourceExt::name_any).collect())
}

/// What is still there, and which nodes it waits for and why.
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
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    let _ = write!(text, " on {} nodes: {named}", waiting.len());
    if waiting.len() > NAMED {
        let _ = write!(text, "; and {} more", waiting.len() - NAMED);
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
        (phase, _, _) => format!("{name} ({}, waits for its turn)", phase.as_str()),
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
    fn whoever_waits_is_told_for_which_nodes_and_why() {
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
             (Ready, waits for its turn)"
        );
    }

    #[test]
    fn a_runtime_that_waits_for_no_node_waits_for_the_operator() {
        let others = [node("a", WasmRuntimeNodeStatus::default())];
        assert!(evidence(&["other".to_owned()], &others).ends_with("is the operator running?"));
    }

    #[test]
    fn of_many_nodes_some_are_named() {
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
