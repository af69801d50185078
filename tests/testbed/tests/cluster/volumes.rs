//! Volumes: a guest sees its pod's mounts with the rights in the pod's spec.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::End;

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::{container, pod};

tests![
    a_config_map_is_a_folder_of_files,
    an_empty_folder_is_shared_by_the_containers_of_a_pod,
    a_read_only_mount_cannot_be_written
];

/// Mounts `volume` in `container` at `path`.
fn mounted(mut container: Value, volume: &str, path: &str) -> Value {
    container["volumeMounts"] = json!([{ "name": volume, "mountPath": path }]);
    container
}

fn a_config_map_is_a_folder_of_files(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "settings" },
        "data": { "greeting.txt": "good morning" },
    }))?;
    let mut pod = pod(
        "reads",
        &[mounted(
            container("reads", PROBE, &["read", "/settings/greeting.txt"]),
            "settings",
            "/settings",
        )],
    );
    pod["spec"]["volumes"] = json!([{ "name": "settings", "configMap": { "name": "settings" } }]);
    namespace.apply(&pod)?;
    let end = namespace.cluster.end_of(&namespace.name, "reads")?;
    let log = namespace.cluster.log(&namespace.name, "reads", "reads")?;
    ensure!(
        end == End::Succeeded && log == "good morning",
        "{end:?}, and the log is {log:?}"
    );
    Ok(())
}

fn an_empty_folder_is_shared_by_the_containers_of_a_pod(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod(
        "shares",
        &[mounted(
            container("reads", PROBE, &["read", "/scratch/note"]),
            "scratch",
            "/scratch",
        )],
    );
    let writes = container(
        "writes",
        PROBE,
        &["write", "/scratch/note", "from the first to the second"],
    );
    pod["spec"]["initContainers"] = json!([mounted(writes, "scratch", "/scratch")]);
    pod["spec"]["volumes"] = json!([{ "name": "scratch", "emptyDir": {} }]);
    namespace.apply(&pod)?;
    let end = namespace.cluster.end_of(&namespace.name, "shares")?;
    let log = namespace.cluster.log(&namespace.name, "shares", "reads")?;
    ensure!(
        end == End::Succeeded && log == "from the first to the second",
        "{end:?}, and the log is {log:?}"
    );
    Ok(())
}

fn a_read_only_mount_cannot_be_written(namespace: &Namespace<'_>) -> Result<()> {
    let mut writes = mounted(
        container("writes", PROBE, &["write", "/scratch/note", "no"]),
        "scratch",
        "/scratch",
    );
    writes["volumeMounts"][0]["readOnly"] = json!(true);
    let mut pod = pod("writes", &[writes]);
    pod["spec"]["volumes"] = json!([{ "name": "scratch", "emptyDir": {} }]);
    namespace.apply(&pod)?;
    let end = namespace.cluster.end_of(&namespace.name, "writes")?;
    let log = namespace.cluster.log(&namespace.name, "writes", "writes")?;
    ensure!(
        end == End::Failed && log.contains("/scratch/note"),
        "{end:?}, and the log is {log:?}"
    );
    Ok(())
}
