//! A pod's life cycle: completion, replicas, restart, logs, deletion.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use testbed::cluster::End;
use testbed::wait;

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::{deployment_of, pod_of};

tests![
    a_pod_completes_and_keeps_its_log,
    a_deployment_of_three_becomes_available,
    failed_guest_is_restarted_and_its_exit_code_is_reported,
    a_trap_is_exit_code_134,
    followed_log_grows_while_it_is_read;
    alone
    a_deleted_pod_is_gone_long_before_its_grace_period_ends,
];

/// Timeout of the awaited line.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

fn a_pod_completes_and_keeps_its_log(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("args", PROBE, &["args", "two words"]))?;
    ensure!(
        namespace.cluster.end_of(&namespace.name, "args")? == End::Succeeded,
        "the pod failed"
    );
    let log = namespace.cluster.log(&namespace.name, "args", "args")?;
    ensure!(log == "/app.wasm\nargs\ntwo words\n", "the log is {log:?}");
    Ok(())
}

fn a_deployment_of_three_becomes_available(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&deployment_of("ticks", 3, PROBE, &["tick"]))?;
    namespace.cluster.wait_for(
        &namespace.name,
        "deployment/ticks",
        "three replicas available",
        |deployment| Ok((deployment["status"]["availableReplicas"] == json!(3)).then_some(())),
    )?;
    let pods = namespace
        .get("pods")?
        .context("a deployment without pods")?;
    let pods = pods["items"].as_array().context("a list of pods")?;
    ensure!(
        pods.len() == 3
            && pods
                .iter()
                .all(|pod| pod["status"]["phase"] == json!("Running")),
        "not three running pods: {pods:?}"
    );
    Ok(())
}

fn failed_guest_is_restarted_and_its_exit_code_is_reported(
    namespace: &Namespace<'_>,
) -> Result<()> {
    let mut pod = pod_of("fails", PROBE, &["exit", "42"]);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    namespace.apply(&pod)?;
    let code =
        namespace
            .cluster
            .wait_for(&namespace.name, "pod/fails", "to be restarted", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                let restarted = status["restartCount"].as_u64().unwrap_or_default() > 0;
                Ok(restarted
                    .then(|| status["lastState"]["terminated"]["exitCode"].clone())
                    .filter(|code| !code.is_null()))
            })?;
    ensure!(code == json!(42), "the status has exit code {code}");
    Ok(())
}

fn a_trap_is_exit_code_134(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("traps", PROBE, &["trap"]))?;
    ensure!(
        namespace.cluster.end_of(&namespace.name, "traps")? == End::Failed,
        "a pod with a guest that traps has succeeded"
    );
    let pod = namespace.get("pod/traps")?.context("the pod is gone")?;
    let code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
    ensure!(code == &json!(134), "the status has exit code {code}");
    Ok(())
}

fn followed_log_grows_while_it_is_read(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("ticks", PROBE, &["tick"]))?;
    namespace.log_with("ticks", "ticks", "tick 1\n")?;
    let cluster = namespace.cluster;
    let mut follower = Command::new(cluster.kubectl_program())
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args([
            "--namespace",
            &namespace.name,
            "logs",
            "--follow",
            "--tail=1",
            "ticks",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start kubectl logs --follow")?;
    let output = follower.stdout.take().context("the pipe from kubectl")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    // More lines than there were when it began to read: these were written meanwhile.
    let seen: Vec<String> = std::iter::from_fn(|| lines.recv_timeout(LINE_TIMEOUT).ok())
        .take(5)
        .collect();
    follower.kill().context("end kubectl logs --follow")?;
    follower.wait().context("wait for kubectl logs --follow")?;
    let numbers: Vec<u32> = seen
        .iter()
        .filter_map(|line| line.strip_prefix("tick ")?.parse().ok())
        .collect();
    ensure!(
        numbers.len() == 5 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "the lines that came are {seen:?}"
    );
    Ok(())
}

fn a_deleted_pod_is_gone_long_before_its_grace_period_ends(
    namespace: &Namespace<'_>,
) -> Result<()> {
    // A lost signal would cost the whole grace period of thirty seconds each time. The fastest of
    // three is measured: other load on the machine can only make it slower.
    let mut taken = Vec::new();
    for pod in ["first", "second", "third"] {
        namespace.apply(&pod_of(pod, PROBE, &["sleep", "3600"]))?;
        namespace.log_with(pod, pod, "sleeping")?;
        let started = Instant::now();
        namespace
            .cluster
            .kubectl()
            .args([
                "--namespace",
                &namespace.name,
                "delete",
                "pod",
                pod,
                "--wait=false",
            ])
            .done()?;
        wait::until(
            "the deleted pod to be gone",
            Duration::from_mins(1),
            || {
                Ok(namespace
                    .get(&format!("pod/{pod}"))?
                    .is_none()
                    .then_some(()))
            },
            || namespace.cluster.evidence(Some(&namespace.name)),
        )?;
        taken.push(started.elapsed());
        if taken.iter().any(|taken| *taken < Duration::from_secs(10)) {
            return Ok(());
        }
    }
    bail!("it took {taken:?}")
}
