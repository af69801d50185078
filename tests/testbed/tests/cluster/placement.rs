//! Scheduling of pods: on nodes with the runtime only.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::pod_of;

tests![
    pods_land_on_the_node_that_has_the_runtime,
    pod_for_a_node_without_the_runtime_is_not_scheduled
];

fn pods_land_on_the_node_that_has_the_runtime(namespace: &Namespace<'_>) -> Result<()> {
    for name in ["one", "two", "three"] {
        namespace.apply(&pod_of(name, PROBE, &["args"]))?;
    }
    for name in ["one", "two", "three"] {
        namespace.cluster.end_of(&namespace.name, name)?;
        let pod = namespace
            .get(&format!("pod/{name}"))?
            .context("the pod is gone")?;
        let node = &pod["spec"]["nodeName"];
        ensure!(
            node == namespace.cluster.worker(),
            "{name} was scheduled on {node}, the runtime is on {}",
            namespace.cluster.worker()
        );
    }
    Ok(())
}

fn pod_for_a_node_without_the_runtime_is_not_scheduled(namespace: &Namespace<'_>) -> Result<()> {
    let cluster = namespace.cluster;
    let is_other =
        |node: &&String| node.as_str() != cluster.worker() && !node.contains("control-plane");
    let other = cluster
        .nodes()
        .iter()
        .find(is_other)
        .context("the cluster has only one worker")?;
    let mut pod = pod_of("elsewhere", PROBE, &["args"]);
    pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": other });
    namespace.apply(&pod)?;
    cluster.wait_for(
        &namespace.name,
        "pod/elsewhere",
        "to be found unschedulable",
        |pod| {
            ensure!(
                pod["spec"]["nodeName"].is_null(),
                "it was scheduled on {}",
                pod["spec"]["nodeName"]
            );
            let conditions = pod["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            Ok(conditions
                .iter()
                .any(|condition| condition["reason"] == json!("Unschedulable"))
                .then_some(()))
        },
    )
}
