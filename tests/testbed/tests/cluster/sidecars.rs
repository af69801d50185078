//! Native containers in the pod of a guest.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testbed::cluster::End;

use crate::fixture::{NATIVE, Namespace, PROBE, tests};
use crate::manifest::{container, pod};

tests![
    a_native_sidecar_runs_beside_the_guest_and_ends_after_it,
    each_container_of_a_pod_has_its_own_environment
];

fn a_native_sidecar_runs_beside_the_guest_and_ends_after_it(
    namespace: &Namespace<'_>,
) -> Result<()> {
    let mut sidecar = container("sidecar", NATIVE, &["tick"]);
    // The restart policy makes the init container a sidecar: it starts first and runs until the
    // others have ended.
    sidecar["restartPolicy"] = json!("Always");
    let mut pod = pod("pair", &[container("guest", PROBE, &["args"])]);
    pod["spec"]["initContainers"] = json!([sidecar]);
    namespace.apply(&pod)?;
    ensure!(
        namespace.cluster.end_of(&namespace.name, "pair")? == End::Succeeded,
        "the pod failed"
    );
    let log = namespace.cluster.log(&namespace.name, "pair", "sidecar")?;
    ensure!(log.starts_with("tick 1\n"), "the sidecar's log is {log:?}");
    let log = namespace.cluster.log(&namespace.name, "pair", "guest")?;
    ensure!(log == "/app.wasm\nargs\n", "the guest's log is {log:?}");
    let pod = namespace.get("pod/pair")?.context("the pod is gone")?;
    let code = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"];
    ensure!(
        code == &json!(0),
        "after SIGTERM the sidecar's exit code is {code}"
    );
    Ok(())
}

fn each_container_of_a_pod_has_its_own_environment(namespace: &Namespace<'_>) -> Result<()> {
    let with = |name: &str, image: &str, variable: &str| {
        let mut container = container(name, image, &["env"]);
        container["env"] = json!([{ "name": variable, "value": "1" }]);
        container
    };
    namespace.apply(&pod(
        "pair",
        &[
            with("guest", PROBE, "GUEST_S"),
            with("native", NATIVE, "NATIVE_S"),
        ],
    ))?;
    ensure!(
        namespace.cluster.end_of(&namespace.name, "pair")? == End::Succeeded,
        "the pod failed"
    );
    for (container, own, others) in [
        ("guest", "GUEST_S=1", "NATIVE_S"),
        ("native", "NATIVE_S=1", "GUEST_S"),
    ] {
        let log = namespace.cluster.log(&namespace.name, "pair", container)?;
        ensure!(
            log.lines().any(|line| line == own),
            "{container} lacks {own}: {log}"
        );
        ensure!(!log.contains(others), "{container} has {others}: {log}");
    }
    Ok(())
}
