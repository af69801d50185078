//! Pods of CRI: sandboxes without a process, shared and private namespaces, probes, limits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cri_client::config::{NamespaceMode, Resources};
use cri_client::message::{ContainerState, Executed, SandboxState};
use testbed::wait;

use crate::grpc::Refusal;
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::{IMAGE, Pod, Pods};

tests![
    sandbox_of_a_pod_is_a_thread_and_not_a_process,
    containers_of_a_pod_share_its_network_and_no_files,
    pod_with_host_network_has_the_nodes_network,
    guests_have_private_pid_namespaces_in_a_pod_that_shares_processes,
    pod_with_host_pid_sees_the_nodes_processes,
    a_pod_has_its_own_name_and_parameters_of_the_kernel,
    an_exec_probe_succeeds_and_fails_by_exit_code,
    exec_probe_is_killed_after_its_timeout,
    container_beyond_its_memory_limit_is_oom_killed,
    limits_of_a_container_are_changed_while_it_runs,
    stats_of_a_container_are_reported,
    stats_of_other_pods_are_reported_when_one_is_dead,
    stats_of_a_sandbox_are_reported_like_a_containers,
    second_kill_of_a_sandbox_is_harmless,
    container_stops_within_a_second_and_not_after_its_grace_period,
    exited_container_is_replaced_in_its_pod,
    removed_pod_leaves_nothing,
];

pub(crate) fn is(pods: &Pods, id: &str, state: ContainerState) -> Result<()> {
    let found = || {
        pods.cri()
            .container(id)
            .map_or_else(|error| format!("{error:#}"), |status| format!("{status:?}"))
    };
    let reached = || Ok((pods.cri().container(id)?.state() == state).then_some(()));
    wait::until(
        format_args!("{id} to be {state:?}"),
        SETTLE_TIMEOUT,
        reached,
        found,
    )
}

pub(crate) fn succeeds(what: &str, executed: &Executed, text: &str) -> Result<()> {
    let printed = String::from_utf8_lossy(&executed.stderr);
    ensure!(
        executed.exit_code == 0 && executed.text() == text,
        "{what}: {} {:?} {printed:?}",
        executed.exit_code,
        executed.text()
    );
    Ok(())
}

fn sandbox_of_a_pod_is_a_thread_and_not_a_process(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let machine = pods.machine();
    let pod = pods.pod(pods.default_config())?;
    let host = machine.host()?;
    let thread = pod.pid(&pod.id)?;
    ensure!(
        machine.of(host, &format!("task/{thread}")).exists(),
        "{thread} is not a thread of the host {host}"
    );
    let processes = machine.processes()?;
    ensure!(
        !processes.iter().any(|seen| seen.pid == thread),
        "{thread} is a process"
    );
    for kind in ["net", "ipc", "uts"] {
        ensure!(
            machine.namespace_of(thread, kind)? != machine.namespace_of(host, kind)?,
            "the pod has the node's {kind}"
        );
    }
    // cAdvisor reads these for the pod's network, and finds the pod by the cgroup.
    ensure!(
        machine.read(thread, "net/dev")?.contains("lo:"),
        "the pod's counters of its network cannot be read"
    );
    ensure!(
        !machine.cgroups(&pod.id)?.is_empty(),
        "the sandbox has no cgroup"
    );
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    ensure!(
        machine.parent_of(pod.pid(&guest)?)? == host,
        "the guest is not the host's child"
    );
    pod.remove()?;
    ensure!(
        !machine.of(host, &format!("task/{thread}")).exists(),
        "the thread is still there"
    );
    Ok(Verdict::Holds)
}

fn containers_of_a_pod_share_its_network_and_no_files(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (machine, cri) = (pods.machine(), pods.cri());
    let (pod, other) = (
        pods.pod(pods.default_config())?,
        pods.pod(pods.default_config())?,
    );
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    let foreign = other.run("guest", &["/app.wasm", "sleep", "600"])?;
    let of = |pod: &Pod, id: &str, kind: &str| machine.namespace_of(pod.pid(id)?, kind);
    for kind in ["net", "ipc", "uts"] {
        let (one, two, three) = (
            of(&pod, &guest, kind)?,
            of(&pod, &sidecar, kind)?,
            of(&other, &foreign, kind)?,
        );
        ensure!(
            one == two && one != three,
            "{kind}: {one}, {two}; the other pod's is {three}"
        );
        ensure!(
            of(&pod, &pod.id, kind)? == one,
            "{kind}: the container's is not the pod's"
        );
    }
    for kind in ["pid", "mnt"] {
        ensure!(
            of(&pod, &guest, kind)? != of(&pod, &sidecar, kind)?,
            "the containers share {kind}"
        );
    }
    // The other container reaches a server in this one by the loopback address.
    let server = pod.run("server", &["/app.wasm", "accept", "8081"])?;
    let listens = || {
        Ok(cri
            .exec_sync(&sidecar, &["/native", "read", "/proc/net/tcp"], 5)?
            .text()
            .contains("00000000:1F91")
            .then_some(()))
    };
    wait::until(
        "the server to be seen by the other container",
        SETTLE_TIMEOUT,
        listens,
        || format!("{:?}", cri.container(&server)),
    )?;
    let unseen = other.run("sidecar", &["/native", "tick"])?;
    let text = cri
        .exec_sync(&unseen, &["/native", "read", "/proc/net/tcp"], 5)?
        .text();
    ensure!(!text.contains(":1F91"), "the other pod sees it: {text}");
    succeeds(
        "write",
        &cri.exec_sync(&guest, &["/app.wasm", "write", "/data/x", "mine"], 5)?,
        "",
    )?;
    let read = cri.exec_sync(&sidecar, &["/native", "read", "/data/x"], 5)?;
    ensure!(
        read.exit_code != 0,
        "the file of one container is in the other: {:?}",
        read.text()
    );
    pod.remove()?;
    other.remove()?;
    Ok(Verdict::Holds)
}

fn pod_with_host_network_has_the_nodes_network(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let machine = pods.machine();
    let pod = pods.pod(pods.config(NamespaceMode::Node, NamespaceMode::Container))?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    for id in [&guest, &sidecar] {
        ensure!(
            machine.namespace_of(pod.pid(id)?, "net")? == machine.namespace_of(1, "net")?,
            "{id} has another network"
        );
        ensure!(
            machine.namespace_of(pod.pid(id)?, "pid")? != machine.namespace_of(1, "pid")?,
            "{id} has the node's processes"
        );
    }
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn guests_have_private_pid_namespaces_in_a_pod_that_shares_processes(
    node: &Node,
) -> Result<Verdict> {
    let pods = node.pods()?;
    let (machine, cri) = (pods.machine(), pods.cri());
    let pod = pods.pod(pods.config(NamespaceMode::Pod, NamespaceMode::Pod))?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    let host = machine.host()?;
    for id in [&guest, &sidecar] {
        let pid = pod.pid(id)?;
        ensure!(
            machine.namespace_of(pid, "pid")? != machine.namespace_of(host, "pid")?,
            "{id} has the node's processes"
        );
    }
    let seen = cri.exec_sync(&sidecar, &["/native", "processes"], 5)?;
    // The program itself, and the one that lists; in a pod that shares processes, those of other
    // containers may be listed too.
    let count = seen.text().lines().count();
    ensure!(
        (2..=6).contains(&count),
        "the sidecar sees {count} processes: {:?}",
        seen.text()
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn pod_with_host_pid_sees_the_nodes_processes(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (machine, cri) = (pods.machine(), pods.cri());
    let pod = pods.pod(pods.config(NamespaceMode::Pod, NamespaceMode::Node))?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    ensure!(
        machine.namespace_of(pod.pid(&sidecar)?, "pid")? == machine.namespace_of(1, "pid")?,
        "the sidecar has its own processes"
    );
    let seen = cri.exec_sync(&sidecar, &["/native", "processes"], 5)?;
    let host = machine.host()?.to_string();
    ensure!(
        seen.text().lines().any(|line| line == host),
        "the host {host} is not seen: {:?}",
        seen.text()
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn a_pod_has_its_own_name_and_parameters_of_the_kernel(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let cri = pods.cri();
    let config = pods
        .default_config()
        .sysctl("net.ipv4.ip_unprivileged_port_start", "80")
        .sysctl("kernel.msgmax", "9999");
    let name = config.name().to_owned();
    let pod = pods.pod(config)?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    let reads = |path: &str, text: &str| {
        succeeds(
            path,
            &cri.exec_sync(&sidecar, &["/native", "read", path], 5)?,
            text,
        )
    };
    reads("/proc/sys/kernel/hostname", &format!("{name}\n"))?;
    reads("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n")?;
    reads("/proc/sys/kernel/msgmax", "9999\n")?;
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn an_exec_probe_succeeds_and_fails_by_exit_code(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let cri = pods.cri();
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    succeeds(
        "a Linux program",
        &cri.exec_sync(&guest, &["/native", "args", "a"], 5)?,
        "/native\nargs\na\n",
    )?;
    succeeds(
        "a guest",
        &cri.exec_sync(&guest, &["/hello.wasm"], 5)?,
        "hello from wasm\n",
    )?;
    for (args, code) in [
        (&["/native", "exit", "7"][..], 7),
        (&["/bin/exit.wasm"], 42),
    ] {
        let executed = cri.exec_sync(&guest, args, 5)?;
        ensure!(executed.exit_code == code, "{args:?}: {executed:?}");
    }
    let error = cri
        .exec_sync(&guest, &["/nowhere"], 5)
        .map(|executed| executed.exit_code);
    ensure!(
        error
            .as_ref()
            .is_err_and(|error| format!("{error:#}").contains("/nowhere")),
        "a missing program: {error:?}"
    );
    // As many probes as kubelet sends in ten minutes leave nothing. Pods of other tests come and go
    // meanwhile.
    let before = pods.machine().descriptors(pods.machine().host()?)?.len();
    for _ in 0..60 {
        succeeds(
            "again",
            &cri.exec_sync(&guest, &["/native", "exit", "0"], 5)?,
            "",
        )?;
    }
    let after = pods.machine().descriptors(pods.machine().host()?)?.len();
    ensure!(
        after < before + 40,
        "the host had {before} descriptors, and has {after} after 60 probes"
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn exec_probe_is_killed_after_its_timeout(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (cri, machine) = (pods.cri(), pods.machine());
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    for args in [&["/native", "sleep"][..], &["/app.wasm", "spin"]] {
        let started = Instant::now();
        let answer = cri.exec_sync(&guest, args, 1);
        ensure!(
            answer.is_err() && started.elapsed() < SETTLE_TIMEOUT,
            "{args:?} after {:?}: {answer:?}",
            started.elapsed()
        );
        let alone = || {
            Ok((machine
                .cgroup("pids", &guest, "cgroup.procs")?
                .lines()
                .count()
                == 1)
                .then_some(()))
        };
        wait::until(
            format_args!("{args:?} to be gone"),
            SETTLE_TIMEOUT,
            alone,
            || format!("{:?}", machine.cgroup("pids", &guest, "cgroup.procs")),
        )?;
    }
    is(&pods, &guest, ContainerState::Running)?;
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn container_beyond_its_memory_limit_is_oom_killed(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let limits = Resources {
        cpu_shares: 0,
        memory_limit_in_bytes: 32 << 20,
    };
    let id = pod.run_container(
        pod.config
            .container("hungry", IMAGE, &["/app.wasm", "oom"])
            .limited_to(limits),
    )?;
    is(&pods, &id, ContainerState::Exited)?;
    let status = pods.cri().container(&id)?;
    ensure!(
        status.exit_code == 137 && status.reason == "OOMKilled",
        "{status:?}"
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn limits_of_a_container_are_changed_while_it_runs(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    for args in [&["/app.wasm", "sleep", "600"][..], &["/native", "tick"]] {
        let limits = Resources {
            cpu_shares: 256,
            memory_limit_in_bytes: 64 << 20,
        };
        let name = if args[0] == "/native" {
            "sidecar"
        } else {
            "guest"
        };
        let id = pod.run_container(pod.config.container(name, IMAGE, args).limited_to(limits))?;
        pods.cri().update(
            &id,
            Resources {
                cpu_shares: 512,
                memory_limit_in_bytes: 96 << 20,
            },
        )?;
        let (memory, cpu) = (
            pods.machine()
                .cgroup("memory", &id, "memory.limit_in_bytes")?,
            pods.machine().cgroup("cpu", &id, "cpu.shares")?,
        );
        ensure!(
            memory == (96 << 20).to_string() && cpu == "512",
            "{name}: {memory}, {cpu}"
        );
        is(&pods, &id, ContainerState::Running)?;
    }
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn stats_of_a_container_are_reported(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let id = pod.run("busy", &["/app.wasm", "spin"])?;
    let stats = || pods.cri().stats(&id);
    let first = stats()?.cpu();
    let grows = || Ok((stats()?.cpu() > first).then_some(()));
    wait::until(
        "a busy guest to use the processor",
        SETTLE_TIMEOUT,
        grows,
        || format!("{:?}", stats()),
    )?;
    ensure!(stats()?.memory() > 0, "it uses no memory: {:?}", stats()?);
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn stats_of_other_pods_are_reported_when_one_is_dead(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (dead, lives) = (
        pods.pod(pods.default_config())?,
        pods.pod(pods.default_config())?,
    );
    let guest = lives.run("guest", &["/app.wasm", "sleep", "600"])?;
    let over = dead.run("over", &["/hello.wasm"])?;
    is(&pods, &over, ContainerState::Exited)?;
    pods.tasks().kill(&dead.id, "", 9)?;
    let not_ready =
        || Ok((pods.cri().sandbox(&dead.id)?.state() == SandboxState::NotReady).then_some(()));
    wait::until("the pod to be not ready", SETTLE_TIMEOUT, not_ready, || {
        format!("{:?}", pods.cri().sandbox(&dead.id))
    })?;
    // Pods of other tests come and go, and a pod that is removed at that moment may cause an error
    // in containerd itself.
    let listed = |what: &str, list: &dyn Fn() -> Result<Vec<String>>, id: &str| {
        let there = || {
            Ok(list()
                .is_ok_and(|all| all.iter().any(|one| one == id))
                .then_some(()))
        };
        wait::until(
            format_args!("{what} to have {id}"),
            SETTLE_TIMEOUT,
            there,
            || format!("{:?}", list()),
        )
    };
    listed(
        "the statistics of containers",
        &|| pods.cri().all_stats(),
        &guest,
    )?;
    // containerd 1.6 itself fails for all pods when one is not ready.
    if !node.containerd.install().version.starts_with("1.6") {
        listed(
            "the statistics of pods",
            &|| pods.cri().all_pods_stats(),
            &lives.id,
        )?;
    }
    dead.remove()?;
    lives.remove()?;
    Ok(Verdict::Holds)
}

fn stats_of_a_sandbox_are_reported_like_a_containers(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let metrics = pods.tasks().metrics(&pod.id)?;
    ensure!(metrics.pids() == 0, "no process is in it: {metrics:?}");
    ensure!(
        pods.tasks().pids(&pod.id)? == [u32::try_from(pod.pid(&pod.id)?)?],
        "its process is not the thread"
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn second_kill_of_a_sandbox_is_harmless(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (pod, other) = (
        pods.pod(pods.default_config())?,
        pods.pod(pods.default_config())?,
    );
    let guest = other.run("guest", &["/app.wasm", "sleep", "600"])?;
    for signal in [9, 9, 15] {
        let answer = pods.tasks().kill(&pod.id, "", signal);
        // Callers accept this code as success: the sandbox is already gone. containerd, which
        // receives the exit event and removes the task, may close the connection during the
        // request.
        let is_gone = |refusal: &Refusal| {
            refusal.code == tonic::Code::NotFound || refusal.text.contains("ttrpc: closed")
        };
        ensure!(answer.as_ref().err().is_none_or(is_gone), "{answer:?}");
    }
    let not_ready =
        || Ok((pods.cri().sandbox(&pod.id)?.state() == SandboxState::NotReady).then_some(()));
    wait::until("the pod to be not ready", SETTLE_TIMEOUT, not_ready, || {
        format!("{:?}", pods.cri().sandbox(&pod.id))
    })?;
    is(&pods, &guest, ContainerState::Running)?;
    let id = pod.id.clone();
    pod.remove()?;
    pods.machine().nothing_left(&id)?;
    other.remove()?;
    Ok(Verdict::Holds)
}

fn container_stops_within_a_second_and_not_after_its_grace_period(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let id = pod.run("busy", &["/app.wasm", "spin"])?;
    let started = Instant::now();
    pods.cri().stop_container(&id, Duration::from_secs(30))?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(2), "it took {took:?}");
    let status = pods.cri().container(&id)?;
    ensure!(status.exit_code == 143, "{status:?}");
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn exited_container_is_replaced_in_its_pod(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    for _ in 0..3 {
        let id = pod.run("again", &["/bin/exit.wasm"])?;
        is(&pods, &id, ContainerState::Exited)?;
        let status = pods.cri().container(&id)?;
        ensure!(
            status.exit_code == 42 && status.reason == "Error",
            "{status:?}"
        );
        pods.cri().remove_container(&id)?;
        pods.machine().nothing_left(&id)?;
    }
    ensure!(
        pods.cri().sandbox(&pod.id)?.state() == SandboxState::Ready,
        "{:?}",
        pods.cri().sandbox(&pod.id)?
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn removed_pod_leaves_nothing(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "spin"])?;
    let sidecar = pod.run("sidecar", &["/native", "family"])?;
    let (id, running) = (pod.id.clone(), [pod.pid(&guest)?, pod.pid(&sidecar)?]);
    pod.remove()?;
    for pid in running {
        pods.machine().wait_until_dead(pid)?;
    }
    for id in [&id, &guest, &sidecar] {
        pods.machine().nothing_left(id)?;
    }
    Ok(Verdict::Holds)
}
