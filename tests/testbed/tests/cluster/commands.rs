//! Commands in the container of a guest: from users, and from probes.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::pod_of;

tests![
    kubectl_exec_runs_another_guest_and_returns_its_exit_code,
    kubectl_exec_passes_typed_input,
    exec_probe_decides_the_readiness_of_a_guest,
    a_guest_that_fails_its_liveness_probe_is_restarted,
];

fn kubectl_exec_runs_another_guest_and_returns_its_exit_code(
    namespace: &Namespace<'_>,
) -> Result<()> {
    namespace.apply(&pod_of("sleeps", PROBE, &["sleep", "3600"]))?;
    namespace.log_with("sleeps", "sleeps", "sleeping")?;
    let exec = |args: &[&str]| {
        namespace
            .kubectl()
            .args(["exec", "sleeps", "--", "/app.wasm"])
            .args(args)
    };
    let printed = exec(&["args", "two words"]).text()?;
    ensure!(
        printed == "/app.wasm\nargs\ntwo words",
        "it printed {printed:?}"
    );
    let failed = exec(&["exit", "7"]).output()?;
    ensure!(
        failed.status.code() == Some(7),
        "kubectl exec ended with {}",
        failed.status
    );
    Ok(())
}

fn kubectl_exec_passes_typed_input(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("sleeps", PROBE, &["sleep", "3600"]))?;
    namespace.log_with("sleeps", "sleeps", "sleeping")?;
    let printed = namespace
        .kubectl()
        .args(["exec", "--stdin", "sleeps", "--", "/app.wasm", "repl"])
        .input("one\nquit\n")
        .text()?;
    ensure!(printed.contains("you said one"), "it printed {printed:?}");
    Ok(())
}

fn exec_probe_decides_the_readiness_of_a_guest(namespace: &Namespace<'_>) -> Result<()> {
    let probed = |name: &str, code: &str| {
        let mut pod = pod_of(name, PROBE, &["sleep", "3600"]);
        pod["spec"]["containers"][0]["readinessProbe"] = json!({ "exec": { "command": ["/app.wasm",
            "exit", code] }, "periodSeconds": 1, "failureThreshold": 1 });
        pod
    };
    namespace.apply(&probed("unready", "1"))?;
    namespace.apply(&probed("ready", "0"))?;
    let is_ready =
        |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["ready"] == json!(true);
    namespace
        .cluster
        .wait_for(&namespace.name, "pod/ready", "to be ready", |pod| {
            Ok(is_ready(pod).then_some(()))
        })?;
    // Its probe has run too; otherwise, not being ready would prove nothing.
    namespace.log_with("unready", "unready", "sleeping")?;
    let unready = namespace.get("pod/unready")?.context("the pod is gone")?;
    ensure!(!is_ready(&unready), "a guest with a failing probe is ready");
    Ok(())
}

fn a_guest_that_fails_its_liveness_probe_is_restarted(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod_of("fails", PROBE, &["sleep", "3600"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["livenessProbe"] = json!({ "exec": { "command": ["/app.wasm",
        "exit", "1"] }, "periodSeconds": 1, "failureThreshold": 1 });
    namespace.apply(&pod)?;
    let code =
        namespace
            .cluster
            .wait_for(&namespace.name, "pod/fails", "to be restarted", |pod| {
                let ended = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
                Ok(ended.is_object().then(|| ended["exitCode"].clone()))
            })?;
    ensure!(code == json!(143), "after SIGTERM its exit code is {code}");
    Ok(())
}
