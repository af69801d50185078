//! From the runtime of before the node host to this one and back, under running pods.
//!
//! The former runtime has one host process for each pod, and comes from a commit of this repository. Where nobody built it,
//! these tests are skipped.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::bed::{Archive, Bed, tests};
use crate::nodes;
use crate::runtimes::{NAME, from_url, pod, runtime, sleeper};

tests![pods_of_the_former_runtime_stand_the_upgrade_to_the_node_host_and_the_way_back];

/// A pod that runs, and what must stay as it is.
struct Running {
    pod: String,
    node: String,
    container: String,
    /// The version in whose folder its launcher lies.
    served_by: String,
}

/// A pod on each worker, served by `version`.
fn pods(bed: &Bed, prefix: &str, version: &str) -> Result<Vec<Running>> {
    let started = bed.workers().into_iter().map(|node| {
        let pod = format!("{prefix}-{node}");
        bed.apply(&sleeper(&pod, NAME, Some(node)))?;
        let container = bed.running(&pod)?;
        let served_by = nodes::runtime_of(bed, node, &container)?;
        let is_former = |name: &str| name.contains("-former");
        let is_right = served_by.contains(&format!("/{version}-")) && is_former(&served_by) == is_former(version);
        ensure!(is_right, "{pod} is served by {served_by}, not by {version}");
        Ok(Running { pod, node: node.to_owned(), container, served_by })
    });
    started.collect()
}

fn are_untouched(bed: &Bed, pods: &[Running], after: &str) -> Result<()> {
    for Running { pod, node, container, served_by } in pods {
        ensure!(bed.running(pod)? == *container, "{pod} has another container after {after}");
        let restarts = bed.get(&format!("pod/{pod}"))?["status"]["containerStatuses"][0]["restartCount"].clone();
        ensure!(restarts == 0, "{pod} was restarted {restarts} times after {after}");
        ensure!(nodes::runtime_of(bed, node, container)? == *served_by, "{pod} is served by another runtime after {after}");
        // containerd asks whoever serves it.
        let id = container.trim_start_matches("containerd://");
        let tasks = bed.cluster.in_node(node, &["ctr", "--namespace", "k8s.io", "tasks", "list"]).text()?;
        ensure!(tasks.lines().any(|line| line.contains(id) && line.contains("RUNNING")), "{pod} after {after}:\n{tasks}");
    }
    Ok(())
}

/// Brings both nodes to a version; pods that run there stay as they are, and new ones run on it.
fn bring(bed: &Bed, archive: &Archive, running: &mut Vec<Running>, prefix: &str) -> Result<()> {
    bed.patch(NAME, &from_url(archive))?;
    bed.up_to_date(NAME, 2)?;
    are_untouched(bed, running, &format!("the change to {}", archive.version))?;
    running.extend(pods(bed, prefix, &archive.version)?);
    let ends = format!("{prefix}-ends");
    bed.apply(&pod(&ends, NAME, &["args"], None))?;
    bed.succeeded(&ends)?;
    are_untouched(bed, running, "a new pod beside it")
}

fn pods_of_the_former_runtime_stand_the_upgrade_to_the_node_host_and_the_way_back(bed: &Bed) -> Result<()> {
    let former = bed.archives.former.as_ref().context("a test of the former runtime is skipped without it")?;
    for node in bed.workers() {
        bed.pool(node, "wasm")?;
    }
    let mut spec = from_url(former);
    spec["rollout"] = json!({ "canary": 0, "maxUnavailable": 2 });
    bed.apply(&runtime(&spec))?;
    bed.up_to_date(NAME, 2)?;
    let mut running = pods(bed, "former", &former.version)?;

    bring(bed, &bed.archives.current, &mut running, "present")?;
    bring(bed, former, &mut running, "back")?;

    // Each still ends as it should, and the versions that nobody uses any more go.
    for Running { pod, .. } in &running {
        bed.cluster.kubectl().args(["--namespace", crate::bed::NAMESPACE, "delete", "pod", pod, "--timeout=60s"]).done()?;
    }
    bed.patch(NAME, &from_url(&bed.archives.current))?;
    bed.up_to_date(NAME, 2)?;
    for node in bed.workers() {
        let kept = bed.cluster.in_node(node, &["find", "/opt/wasmedge-runtime", "-maxdepth", "3"]).text()?;
        ensure!(!kept.contains("-former"), "on {node} there is still: {kept}");
    }
    Ok(())
}
