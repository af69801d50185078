//! Pods as CRI makes them: sandboxes without a process, shared and private namespaces, probes,
//! limits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cri_calls::config::{NamespaceMode, Resources};
use cri_calls::message::{ContainerState, Executed, SandboxState};
use testbed::wait;

use crate::grpc::Refusal;
use crate::machine::LIMIT;
use crate::node::{Node, Verdict, tests};
use crate::pods_fixture::{IMAGE, Pod, Pods};

tests![
    a_pods_sandbox_is_a_thread_and_no_process,
    containers_of_a_pod_share_its_network_and_no_files,
    a_pod_on_the_nodes_network_has_it,
    guests_of_a_pod_that_shares_processes_have_their_own_all_the_same,
    a_pod_with_the_nodes_processes_has_them,
    a_pod_has_its_own_name_and_parameters_of_the_kernel,
    an_exec_probe_succeeds_and_fails_by_exit_code,
    an_exec_probe_that_takes_too_long_is_ended,
    a_container_that_eats_too_much_memory_is_oom_killed,
    limits_of_a_container_are_changed_while_it_runs,
    the_stats_of_a_container_are_there,
    the_stats_of_others_are_there_when_one_pod_is_dead,
    a_sandbox_is_asked_for_its_statistics_as_a_container_is,
    a_sandbox_is_killed_again_without_harm,
    stopping_a_container_takes_a_second_and_not_its_grace_period,
    a_container_that_is_over_is_replaced_in_its_pod,
    removing_a_pod_leaves_nothing,
];

pub(crate) fn is(pods: &Pods, id: &str, state: ContainerState) -> Result<()> {
    let found = || {
        pods.cri()
            .container(id)
            .map_or_else(|error| format!("{error:#}"), |status| format!("{status:?}"))
    };
    let reached = || Ok((pods.cri().container(id)?.state() == state).then_some(()));
    wait::until(format_args!("{id} to be {state:?}"), LIMIT, reached, found)
}

pub(crate) fn succeeds(what: &str, executed: &Executed, text: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&executed.stderr);
    ensure!(
        executed.exit_code == 0 && executed.text() == text,
        "{what}: {} {:?} {said:?}",
        executed.exit_code,
        executed.text()
    );
    Ok(())
}

fn a_pods_sandbox_is_a_thread_and_no_process(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let machine = pods.machine();
    let pod = pods.pod(pods.default_config())?;
    let host = machine.host()?;
    let thread = pod.pid(&pod.id)?;
    ensure!(
        machine.of(host, &format!("task/{thread}")).exists(),
        "{thread} is no thread of the host {host}"
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
    // What cAdvisor reads for the pod's network, and the cgroup by which it finds the pod.
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
    // A server in one container is reached from the other one, by the loopback address.
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
        LIMIT,
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

fn a_pod_on_the_nodes_network_has_it(node: &Node) -> Result<Verdict> {
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

fn guests_of_a_pod_that_shares_processes_have_their_own_all_the_same(
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
    // The program itself, and the one that asks; in a pod that shares, those of other containers
    // may be there too.
    let count = seen.text().lines().count();
    ensure!(
        (2..=6).contains(&count),
        "the sidecar sees {count} processes: {:?}",
        seen.text()
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn a_pod_with_the_nodes_processes_has_them(node: &Node) -> Result<Verdict> {
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
    for (words, code) in [
        (&["/native", "exit", "7"][..], 7),
        (&["/bin/exit.wasm"], 42),
    ] {
        let executed = cri.exec_sync(&guest, words, 5)?;
        ensure!(executed.exit_code == code, "{words:?}: {executed:?}");
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
    // As many as kubelet asks for in ten minutes leave nothing. Pods of other tests come and go
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

fn an_exec_probe_that_takes_too_long_is_ended(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (cri, machine) = (pods.cri(), pods.machine());
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    for words in [&["/native", "sleep"][..], &["/app.wasm", "spin"]] {
        let started = Instant::now();
        let answer = cri.exec_sync(&guest, words, 1);
        ensure!(
            answer.is_err() && started.elapsed() < LIMIT,
            "{words:?} after {:?}: {answer:?}",
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
        wait::until(format_args!("{words:?} to be gone"), LIMIT, alone, || {
            format!("{:?}", machine.cgroup("pids", &guest, "cgroup.procs"))
        })?;
    }
    is(&pods, &guest, ContainerState::Running)?;
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn a_container_that_eats_too_much_memory_is_oom_killed(node: &Node) -> Result<Verdict> {
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
    for words in [&["/app.wasm", "sleep", "600"][..], &["/native", "tick"]] {
        let limits = Resources {
            cpu_shares: 256,
            memory_limit_in_bytes: 64 << 20,
        };
        let name = if words[0] == "/native" {
            "sidecar"
        } else {
            "guest"
        };
        let id = pod.run_container(pod.config.container(name, IMAGE, words).limited_to(limits))?;
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

fn the_stats_of_a_container_are_there(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let id = pod.run("busy", &["/app.wasm", "spin"])?;
    let stats = || pods.cri().stats(&id);
    let first = stats()?.cpu();
    let grows = || Ok((stats()?.cpu() > first).then_some(()));
    wait::until("a busy guest to use the processor", LIMIT, grows, || {
        format!("{:?}", stats())
    })?;
    ensure!(stats()?.memory() > 0, "it uses no memory: {:?}", stats()?);
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn the_stats_of_others_are_there_when_one_pod_is_dead(node: &Node) -> Result<Verdict> {
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
    wait::until("the pod to be not ready", LIMIT, not_ready, || {
        format!("{:?}", pods.cri().sandbox(&dead.id))
    })?;
    // Pods of other tests come and go, and one that goes at that moment may be an error of
    // containerd's own.
    let listed = |what: &str, list: &dyn Fn() -> Result<Vec<String>>, id: &str| {
        let there = || {
            Ok(list()
                .is_ok_and(|all| all.iter().any(|one| one == id))
                .then_some(()))
        };
        wait::until(format_args!("{what} to have {id}"), LIMIT, there, || {
            format!("{:?}", list())
        })
    };
    listed(
        "the statistics of containers",
        &|| pods.cri().all_stats(),
        &guest,
    )?;
    // containerd 1.6 itself fails for all when it knows of a pod that is not ready.
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

fn a_sandbox_is_asked_for_its_statistics_as_a_container_is(node: &Node) -> Result<Verdict> {
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

fn a_sandbox_is_killed_again_without_harm(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let (pod, other) = (
        pods.pod(pods.default_config())?,
        pods.pod(pods.default_config())?,
    );
    let guest = other.run("guest", &["/app.wasm", "sleep", "600"])?;
    for signal in [9, 9, 15] {
        let answer = pods.tasks().kill(&pod.id, "", signal);
        // What callers take for success: it is gone already. containerd, which hears of the end and
        // removes the task, may hang up while it asks.
        let is_gone = |refusal: &Refusal| {
            refusal.code == tonic::Code::NotFound || refusal.text.contains("ttrpc: closed")
        };
        ensure!(answer.as_ref().err().is_none_or(is_gone), "{answer:?}");
    }
    let not_ready =
        || Ok((pods.cri().sandbox(&pod.id)?.state() == SandboxState::NotReady).then_some(()));
    wait::until("the pod to be not ready", LIMIT, not_ready, || {
        format!("{:?}", pods.cri().sandbox(&pod.id))
    })?;
    is(&pods, &guest, ContainerState::Running)?;
    let id = pod.id.clone();
    pod.remove()?;
    pods.machine().nothing_left(&id)?;
    other.remove()?;
    Ok(Verdict::Holds)
}

fn stopping_a_container_takes_a_second_and_not_its_grace_period(node: &Node) -> Result<Verdict> {
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

fn a_container_that_is_over_is_replaced_in_its_pod(node: &Node) -> Result<Verdict> {
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

fn removing_a_pod_leaves_nothing(node: &Node) -> Result<Verdict> {
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
