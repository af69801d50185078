//! Pods after the loss or an outage of a part: containerd, a forking process, the host.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use cri_client::config::NamespaceMode;
use cri_client::message::{ContainerState, SandboxState};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};
use crate::pods::{is, succeeds};
use crate::pods_fixture::Pods;

tests![
    pods_outlive_a_restart_of_containerd,
    containers_of_a_pod_are_replaced_after_a_forking_process_is_lost,
    pods_of_a_killed_host_end_and_new_ones_run,
];

fn pods_outlive_a_restart_of_containerd(node: &Node) -> Result<Verdict> {
    // A separate containerd: the other tests' pods need theirs.
    let pods = Pods::start(node.containerd.install(), &node.prepared)?;
    live_through_a_restart(&pods)
        .map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}

/// Checks that pods are unchanged after a restart of containerd, and that new ones can be created.
pub(crate) fn live_through_a_restart(pods: &Pods) -> Result<()> {
    let (machine, cri) = (pods.machine(), pods.cri());
    let pod = pods.pod(pods.default_config())?;
    let on_node = pods.pod(pods.config(NamespaceMode::Node, NamespaceMode::Container))?;
    let guest = pod.run("guest", &["/app.wasm", "spin"])?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    let third = on_node.run("guest", &["/app.wasm", "sleep", "600"])?;
    let (host, thread, pid) = (machine.host()?, pod.pid(&pod.id)?, pod.pid(&guest)?);
    let created = cri.sandbox(&pod.id)?.created_at;
    pods.containerd.restart()?;
    let serves = || Ok(cri.sandbox(&pod.id).is_ok().then_some(()));
    wait::until("CRI to answer again", SETTLE_TIMEOUT, serves, || {
        pods.containerd.evidence()
    })?;
    for id in [&pod.id, &on_node.id] {
        let status = cri.sandbox(id)?;
        ensure!(
            status.state() == SandboxState::Ready,
            "sandbox {id} is {status:?}"
        );
    }
    ensure!(
        cri.sandbox(&pod.id)?.created_at == created,
        "the pod's age changed: {:?}",
        cri.sandbox(&pod.id)?
    );
    for id in [&guest, &sidecar, &third] {
        is(pods, id, ContainerState::Running)?;
    }
    ensure!(
        machine.host()? == host && pod.pid(&pod.id)? == thread && pod.pid(&guest)? == pid,
        "other processes serve the pod now"
    );
    // The pod stays usable: a probe, an exit, another container, another pod.
    succeeds(
        "a probe",
        &cri.exec_sync(&guest, &["/hello.wasm"], 5)?,
        "hello from wasm\n",
    )?;
    cri.stop_container(&guest, Duration::from_secs(10))?;
    ensure!(
        cri.container(&guest)?.exit_code == 143,
        "{:?}",
        cri.container(&guest)?
    );
    cri.remove_container(&guest)?;
    pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    // Before the other pods are removed: a host without pods exits after a while.
    let next = pods.pod(pods.default_config())?;
    next.run("guest", &["/app.wasm", "sleep", "600"])?;
    ensure!(machine.host()? == host, "a new pod has another host");
    let (id, id_on_node) = (pod.id.clone(), on_node.id.clone());
    for pod in [pod, on_node, next] {
        pod.remove()?;
    }
    for id in [&id, &id_on_node, &guest, &sidecar, &third] {
        machine.nothing_left(id)?;
    }
    Ok(())
}

fn containers_of_a_pod_are_replaced_after_a_forking_process_is_lost(
    node: &Node,
) -> Result<Verdict> {
    // A separate containerd: the killed process forks for all pods of a containerd.
    let pods = Pods::start(node.containerd.install(), &node.prepared)?;
    let replaced = || -> Result<()> {
        let (machine, cri) = (pods.machine(), pods.cri());
        let pod = pods.pod(pods.default_config())?;
        let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
        let sidecar = pod.run("sidecar", &["/native", "tick"])?;
        let host = machine.host()?;
        for name in ["wasmedge-zygote", "wasmedge-forker"] {
            let lost = machine.child_called(name)?;
            machine.kill(lost)?;
            machine.wait_until_dead(lost)?;
        }
        // No probe fails for this reason.
        for id in [&guest, &sidecar] {
            succeeds(
                "a probe",
                &cri.exec_sync(id, &["/native", "args"], 5)?,
                "/native\nargs\n",
            )?;
        }
        for id in [&guest, &sidecar] {
            cri.stop_container(id, Duration::from_secs(1))?;
            cri.remove_container(id)?;
        }
        for (name, args) in [
            ("guest", &["/app.wasm", "sleep", "600"][..]),
            ("sidecar", &["/native", "tick"]),
        ] {
            let id = pod.run(name, args)?;
            is(&pods, &id, ContainerState::Running)?;
            ensure!(
                machine.parent_of(pod.pid(&id)?)? == host,
                "{name} is another host's"
            );
        }
        ensure!(machine.host()? == host, "another host serves");
        pod.remove()
    };
    replaced().map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}

fn pods_of_a_killed_host_end_and_new_ones_run(node: &Node) -> Result<Verdict> {
    let pods = Pods::start(node.containerd.install(), &node.prepared)?;
    let replaced = || -> Result<()> {
        let (machine, cri) = (pods.machine(), pods.cri());
        let config = pods.default_config();
        let pod = pods.pod(config)?;
        let guest = pod.run("guest", &["/app.wasm", "spin"])?;
        let sidecar = pod.run("sidecar", &["/native", "tick"])?;
        let running = [pod.pid(&guest)?, pod.pid(&sidecar)?];
        let host = machine.host()?;
        machine.kill(host)?;
        let started = Instant::now();
        for pid in running {
            machine.wait_until_dead(pid)?;
        }
        for id in [&guest, &sidecar] {
            is(&pods, id, ContainerState::Exited)?;
        }
        let not_ready =
            || Ok((cri.sandbox(&pod.id)?.state() == SandboxState::NotReady).then_some(()));
        wait::until("the pod to be not ready", SETTLE_TIMEOUT, not_ready, || {
            format!("{:?}", cri.sandbox(&pod.id))
        })?;
        // Then as kubelet does.
        let id = pod.id.clone();
        pod.remove()?;
        let next = pods.pod(pods.default_config())?;
        next.run("guest", &["/app.wasm", "sleep", "600"])?;
        ensure!(
            started.elapsed() < Duration::from_secs(10),
            "another pod runs after {:?}",
            started.elapsed()
        );
        ensure!(
            machine.host().context("the new pod's host")? != host,
            "the dead host serves it"
        );
        next.remove()?;
        for id in [&id, &guest, &sidecar] {
            machine.nothing_left(id)?;
        }
        Ok(())
    };
    replaced().map_err(|error| anyhow!("{error:#}\nalone, {}", pods.containerd.evidence()))?;
    pods.finish()
}
