//! Containers that inspect others: in another's pid namespace, as `kubectl debug --target` creates
//! them; and accesses that a Linux program of a pod must not have.

use anyhow::{Context as _, Result, ensure};
use cri_client::message::Executed;

use crate::node::{Node, Verdict, tests};
use crate::pods::succeeds;
use crate::pods_fixture::{IMAGE, Pod, Pods};

tests![
    debugging_container_joins_the_pid_namespace_of_any_container_with_its_cgroup_mounted,
    debugging_container_reads_its_targets_root_only_with_the_capability,
    native_container_cannot_raise_its_own_limits,
    native_programs_have_keyrings_of_their_own,
];

/// Runs `/native` with `args` in a container.
fn native(pods: &Pods, id: &str, args: &[&str]) -> Result<Executed> {
    let args: Vec<&str> = std::iter::once("/native")
        .chain(args.iter().copied())
        .collect();
    pods.cri().exec_sync(id, &args, 10)
}

/// Makes the next pid of a container's pid namespace one that no process of the node has: a search
/// for the new process in the node's `/proc` by that pid then finds nothing.
fn use_free_number(pods: &Pods, pid: i32) -> Result<()> {
    let machine = pods.machine();
    let is_free = |number: &i32| (0..40).all(|more| !machine.of(number + more, "").exists());
    let free = (20_000..30_000)
        .step_by(40)
        .find(is_free)
        .context("all pids are in use")?;
    let command = format!("echo {} >/proc/sys/kernel/ns_last_pid", free - 1);
    pods.isolated
        .run("nsenter")
        .args(["--target", &pid.to_string(), "--pid", "sh", "-c", &command])
        .done()
}

fn debugging_container_joins_the_pid_namespace_of_any_container_with_its_cgroup_mounted(
    node: &Node,
) -> Result<Verdict> {
    let pods = node.pods()?;
    let machine = pods.machine();
    let pod = pods.pod(pods.default_config())?;
    for args in [&["/native", "tick"][..], &["/app.wasm", "sleep", "600"]] {
        let target = pod.run(&format!("target{}", args.len()), args)?;
        let inside = pod.pid(&target)?;
        use_free_number(&pods, inside)?;
        let config = pod
            .config
            .container(
                &format!("debugger{}", args.len()),
                IMAGE,
                &["/native", "tick"],
            )
            .among_processes_of(&target);
        let debugger = pod.run_container(config)?;
        ensure!(
            machine.namespace_of(pod.pid(&debugger)?, "pid")?
                == machine.namespace_of(inside, "pid")?,
            "{args:?}: the debugger has other processes"
        );
        let seen = native(&pods, &debugger, &["processes"])?.text();
        ensure!(
            seen.lines().any(|line| line == "1"),
            "{args:?}: the target's first process is not seen: {seen:?}"
        );
        let own = machine.cgroup("memory", &debugger, "memory.limit_in_bytes")?;
        succeeds(
            "its own cgroup",
            &native(
                &pods,
                &debugger,
                &["read", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
            )?,
            &format!("{own}\n"),
        )?;
    }
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn debugging_container_reads_its_targets_root_only_with_the_capability(
    node: &Node,
) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    let debugger = |name: &str, pod: &Pod<'_>| {
        pod.config
            .container(name, IMAGE, &["/native", "tick"])
            .among_processes_of(&guest)
    };
    let plain = pod.run_container(debugger("plain", &pod))?;
    let able = pod.run_container(debugger("able", &pod).with_capability("SYS_PTRACE"))?;
    let bare = pod.run_container(debugger("bare", &pod).without_capabilities())?;
    for id in [&plain, &bare] {
        let refused = native(&pods, id, &["list", "/proc/1/root/"])?;
        ensure!(
            refused.exit_code == 1,
            "the guest's root is listed without the capability: {:?}",
            refused.text()
        );
    }
    let listed = native(&pods, &able, &["list", "/proc/1/root/"])?;
    ensure!(
        listed.exit_code == 0 && listed.text().lines().any(|name| name == "app.wasm"),
        "with it: {listed:?}"
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn native_container_cannot_raise_its_own_limits(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    for (path, text) in [
        ("memory/memory.limit_in_bytes", "-1"),
        ("pids/pids.max", "max"),
        ("memory/cgroup.procs", "1"),
    ] {
        let written = native(
            &pods,
            &sidecar,
            &["write", &format!("/sys/fs/cgroup/{path}"), text],
        )?;
        let printed = String::from_utf8_lossy(&written.stderr).into_owned();
        ensure!(
            written.exit_code == 1 && printed.contains("Read-only file system"),
            "{path}: {} {printed:?}",
            written.exit_code
        );
    }
    // It sees nothing of a hierarchy in which it has no cgroup, in particular not the node's
    // cgroups.
    let names = native(&pods, &sidecar, &["list", "/sys/fs/cgroup"])?.text();
    ensure!(
        !names.lines().any(|name| name == "systemd"),
        "it sees {names:?}"
    );
    pod.remove()?;
    Ok(Verdict::Holds)
}

fn native_programs_have_keyrings_of_their_own(node: &Node) -> Result<Verdict> {
    let pods = node.pods()?;
    let pod = pods.pod(pods.default_config())?;
    let guest = pod.run("guest", &["/app.wasm", "sleep", "600"])?;
    let sidecar = pod.run("sidecar", &["/native", "tick"])?;
    let own = pods
        .isolated
        .run(node.prepared.guests.native.display().to_string())
        .arg("keyring")
        .text()?;
    let mut seen = vec![own];
    for id in [&guest, &guest, &sidecar, &sidecar] {
        let keyring = native(&pods, id, &["keyring"])?;
        ensure!(keyring.exit_code == 0, "{keyring:?}");
        ensure!(
            !seen.contains(&keyring.text()),
            "two processes have the keyring {:?} of {seen:?}",
            keyring.text()
        );
        seen.push(keyring.text());
    }
    pod.remove()?;
    Ok(Verdict::Holds)
}
