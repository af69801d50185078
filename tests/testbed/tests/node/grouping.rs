//! Hosts for a part of a node's containers: one for each Kubernetes namespace, or for each pod.

use anyhow::{Result, anyhow, ensure};
use cri_client::message::ContainerState;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::{Pod, Pods};

tests![
    each_namespace_has_a_host_of_its_own,
    each_pod_has_a_host_of_its_own
];

/// Arguments of a guest that keeps running.
const SLEEP_COMMAND: &[&str] = &["/app.wasm", "sleep", "600"];

fn with_grouping(
    node: &Node,
    grouping: &str,
    body: impl FnOnce(&Pods) -> Result<()>,
) -> Result<Verdict> {
    let install = node.containerd.install();
    if install.version.starts_with("1.6") {
        return Ok(Verdict::Skipped(format!(
            "containerd {} passes a handler's options only to runc",
            install.version
        )));
    }
    let pods = Pods::start_with(install, &node.prepared, &format!("grouping = {grouping:?}"))?;
    body(&pods).map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}

/// Returns the host of a pod's guest and sidecar.
fn host_of(pods: &Pods, pod: &Pod<'_>, containers: &[&String]) -> Result<i32> {
    let hosts = containers
        .iter()
        .map(|id| pods.machine().parent_of(pod.pid(id)?))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        hosts.windows(2).all(|pair| pair[0] == pair[1]),
        "a pod's containers have several hosts: {hosts:?}"
    );
    let host = hosts[0];
    ensure!(
        pods.machine()
            .of(host, &format!("task/{}", pod.pid(&pod.id)?))
            .exists(),
        "{host} does not hold the pod's namespaces"
    );
    Ok(host)
}

/// Kills `host`, and checks that the containers in `gone` end with it and those in `stay` do not.
fn kill(pods: &Pods, host: i32, gone: &[&String], stay: &[&String]) -> Result<()> {
    pods.machine().kill(host)?;
    let state = |id: &String| Ok::<_, anyhow::Error>(pods.cri().container(id)?.state());
    for id in gone {
        let ended = || Ok((state(id)? == ContainerState::Exited).then_some(()));
        wait::until(
            format_args!("{id} to end with its host"),
            SETTLE_TIMEOUT,
            ended,
            || pods.containerd.evidence(),
        )?;
        pods.machine().nothing_left(id)?;
    }
    for id in stay {
        ensure!(
            state(id)? == ContainerState::Running,
            "{id} of another host is {:?}",
            state(id)?
        );
    }
    Ok(())
}

fn each_namespace_has_a_host_of_its_own(node: &Node) -> Result<Verdict> {
    with_grouping(node, "namespace", |pods| {
        let pod = |namespace: &str| pods.pod(pods.default_config().in_namespace(namespace));
        let (one, same, other) = (pod("shop")?, pod("shop")?, pod("office")?);
        let [first, second, third] =
            [&one, &same, &other].map(|pod| pod.run("guest", SLEEP_COMMAND));
        let (first, second, third) = (first?, second?, third?);
        let host = host_of(pods, &one, &[&first])?;
        ensure!(
            host_of(pods, &same, &[&second])? == host,
            "two pods of a namespace have two hosts"
        );
        let foreign = host_of(pods, &other, &[&third])?;
        ensure!(foreign != host, "two namespaces have one host");
        kill(pods, host, &[&first, &second], &[&third])?;
        // The namespace gets a new host.
        one.remove()?;
        same.remove()?;
        let next = pod("shop")?;
        let guest = next.run("guest", SLEEP_COMMAND)?;
        let replaced = host_of(pods, &next, &[&guest])?;
        ensure!(
            replaced != host && replaced != foreign,
            "{replaced} serves the namespace of {host} beside {foreign}"
        );
        next.remove()?;
        other.remove()
    })
}

fn each_pod_has_a_host_of_its_own(node: &Node) -> Result<Verdict> {
    with_grouping(node, "pod", |pods| {
        let (one, other) = (
            pods.pod(pods.default_config())?,
            pods.pod(pods.default_config())?,
        );
        let (guest, sidecar) = (
            one.run("guest", SLEEP_COMMAND)?,
            one.run("sidecar", &["/native", "tick"])?,
        );
        let foreign = other.run("guest", SLEEP_COMMAND)?;
        let host = host_of(pods, &one, &[&guest, &sidecar])?;
        ensure!(
            host_of(pods, &other, &[&foreign])? != host,
            "two pods have one host"
        );
        kill(pods, host, &[&guest, &sidecar], &[&foreign])?;
        one.remove()?;
        other.remove()
    })
}
