//! Limits of a guest, its resource use, and the loss of its host.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::{progress, wait};

use crate::fixture::{Namespace, PROBE, tests};
use crate::manifest::{deployment_of, pod_of};

tests![
    memory_beyond_the_limit_is_reported_as_oomkilled,
    limits_change_while_a_guest_runs,
    kubelet_reports_resource_and_network_use_of_a_guest;
    alone
    pods_restart_on_a_new_host_after_theirs_is_killed,
];

fn memory_beyond_the_limit_is_reported_as_oomkilled(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod_of("eats", PROBE, &["oom"]);
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "64Mi" } });
    namespace.apply(&pod)?;
    namespace.cluster.end_of(&namespace.name, "eats")?;
    let pod = namespace.get("pod/eats")?.context("the pod is gone")?;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(
        ended["reason"] == json!("OOMKilled") && ended["exitCode"] == json!(137),
        "the status has {ended}"
    );
    Ok(())
}

fn limits_change_while_a_guest_runs(namespace: &Namespace<'_>) -> Result<()> {
    let mut pod = pod_of("sleeps", PROBE, &["sleep", "3600"]);
    let limits = |memory: &str| {
        json!({ "limits": { "memory": memory, "cpu": "500m" },
        "requests": { "memory": "32Mi", "cpu": "10m" } })
    };
    pod["spec"]["containers"][0]["resources"] = limits("64Mi");
    namespace.apply(&pod)?;
    namespace.log_with("sleeps", "sleeps", "sleeping")?;
    let patch =
        json!({ "spec": { "containers": [{ "name": "sleeps", "resources": limits("128Mi") }] } })
            .to_string();
    namespace
        .kubectl()
        .args([
            "patch",
            "pod",
            "sleeps",
            "--subresource=resize",
            "--patch",
            &patch,
        ])
        .done()?;
    // The status has the limit that the runtime applied, not the requested one.
    namespace.cluster.wait_for(
        &namespace.name,
        "pod/sleeps",
        "to have its new limit",
        |pod| {
            let status = &pod["status"]["containerStatuses"][0];
            ensure!(status["restartCount"] == json!(0), "it was restarted");
            Ok((status["resources"]["limits"]["memory"] == json!("128Mi")).then_some(()))
        },
    )
}

fn kubelet_reports_resource_and_network_use_of_a_guest(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod_of("spins", PROBE, &["spin"]))?;
    // `kubectl top` reads these values through metrics-server, which scrapes this endpoint.
    let node = format!("/api/v1/nodes/{}/proxy", namespace.cluster.worker());
    let raw = |path: &str| {
        namespace
            .kubectl()
            .args(["get", "--raw", &format!("{node}/{path}")])
            .text()
    };
    let own = format!("namespace=\"{}\",pod=\"spins\"", namespace.name);
    let value = |metrics: &str, name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name) && line.contains(&own))?;
        line.rsplit_once('}')?
            .1
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
    };
    wait::until(
        "kubelet to report a guest's processor time and memory",
        stats_timeout(),
        || {
            let metrics = raw("metrics/resource")?;
            let used = |name| value(&metrics, name).is_some_and(|value| value > 0.0);
            Ok((used("container_cpu_usage_seconds_total")
                && used("container_memory_working_set_bytes"))
            .then_some(()))
        },
        || namespace.cluster.evidence(Some(&namespace.name)),
    )?;
    wait::until(
        "kubelet to report the pod's network",
        stats_timeout(),
        || {
            let summary: Value =
                serde_json::from_str(&raw("stats/summary")?).context("read kubelet's summary")?;
            let pods = summary["pods"].as_array().context("a summary of pods")?;
            let own = pods
                .iter()
                .find(|pod| pod["podRef"]["namespace"] == json!(namespace.name));
            Ok(own
                .and_then(|pod| pod["network"]["rxBytes"].as_u64())
                .map(drop))
        },
        || namespace.cluster.evidence(Some(&namespace.name)),
    )
}

/// Returns a timeout for statistics: kubelet collects them every ten to fifteen seconds, and may
/// miss one round.
fn stats_timeout() -> std::time::Duration {
    std::time::Duration::from_mins(2)
}

fn pods_restart_on_a_new_host_after_theirs_is_killed(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&deployment_of("ticks", 3, PROBE, &["tick"]))?;
    let cluster = namespace.cluster;
    let running = |what: &str, restarts: u64| {
        cluster.wait_for(&namespace.name, "pods", what, |pods| {
            let pods = pods["items"].as_array().context("a list of pods")?;
            let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
            let is_back = |pod: &Value| {
                status(pod)["state"]["running"].is_object()
                    && status(pod)["restartCount"].as_u64() == Some(restarts)
            };
            Ok((pods.len() == 3 && pods.iter().all(is_back)).then_some(()))
        })
    };
    running("three running guests", 0)?;
    // A node shows only its own processes. The host's children, zygotes and guests have the same
    // command line: the host is the oldest.
    let host = cluster
        .in_node(
            cluster.worker(),
            &["pgrep", "--oldest", "--full", "wasmedge-host"],
        )
        .text()?;
    let killed = Instant::now();
    cluster
        .in_node(cluster.worker(), &["kill", "-KILL", host.trim()])
        .done()?;
    running("the three guests to run again", 1)?;
    progress::print_line(format_args!(
        "three pods were back {} after their host was killed",
        progress::seconds(killed.elapsed())
    ));
    Ok(())
}
