//! The processes of containers, their resources, and the lifetime of the host.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use test_guests::{HELLO, SPIN};
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};

tests![
    sixteen_first_containers_at_once_make_one_host,
    a_guest_is_one_process_with_one_thread,
    native_container_is_only_its_own_process,
    a_guest_has_namespaces_of_its_own,
    a_guest_holds_no_descriptor_that_is_not_its_own,
    guest_has_at_most_capabilities_for_files_and_low_ports,
    only_root_can_read_a_containers_configuration,
    idle_host_exits_and_leaves_nothing,
    a_host_stays_while_it_has_a_container,
];

/// A host without containers exits after ten seconds; this timeout is longer.
const IDLE_EXIT_TIMEOUT: Duration = Duration::from_secs(20);

fn sixteen_first_containers_at_once_make_one_host(node: &Node) -> Result<Verdict> {
    node.alone("first", |alone| {
        let containers = (0..16)
            .map(|_| alone.guest(&SPIN))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            alone.machine().hosts()?.is_empty(),
            "there is a host already"
        );
        let threads: Vec<_> = containers
            .into_iter()
            .map(|container| std::thread::spawn(|| container.start()))
            .collect();
        let started = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        let tasks = started.collect::<Result<Vec<_>>>()?;
        let host = alone.machine().host()?;
        for task in &tasks {
            let parent = alone.machine().parent_of(task.pid()?)?;
            ensure!(
                parent == host,
                "{} is a child of {parent}, not of the host {host}",
                task.id()
            );
        }
        tasks
            .into_iter()
            .try_for_each(|task| alone.kill_and_delete(task))?;
        Ok(())
    })
}

fn a_guest_is_one_process_with_one_thread(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let pid = task.pid()?;
    let machine = node.machine();
    ensure!(
        machine.parent_of(pid)? == machine.host()?,
        "it is not the host's own child"
    );
    ensure!(
        machine.children(pid)?.is_empty(),
        "it has children: {:?}",
        machine.children(pid)?
    );
    ensure!(
        machine.status(pid, "Threads")? == 1,
        "it has {} threads",
        machine.status(pid, "Threads")?
    );
    let pids = machine.cgroup("pids", task.id(), "cgroup.procs")?;
    ensure!(pids.lines().count() == 1, "its cgroup holds {pids:?}");
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn native_container_is_only_its_own_process(node: &Node) -> Result<Verdict> {
    let task = node.native(&["sleep"])?.start()?;
    let pid = task.pid()?;
    let machine = node.machine();
    // A started task may not have executed its program yet.
    wait::until(
        "the container's process to execute its program",
        SETTLE_TIMEOUT,
        || Ok((machine.read(pid, "cmdline")? == "/native\0sleep\0").then_some(())),
        || format!("its command line is {:?}", machine.read(pid, "cmdline")),
    )?;
    ensure!(
        machine.parent_of(pid)? == machine.host()?,
        "it is not the host's own child"
    );
    let pids = machine.cgroup("pids", task.id(), "cgroup.procs")?;
    ensure!(pids.lines().count() == 1, "its cgroup holds {pids:?}");
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn a_guest_has_namespaces_of_its_own(node: &Node) -> Result<Verdict> {
    let (one, other) = (node.guest(&SPIN)?.start()?, node.guest(&SPIN)?.start()?);
    let machine = node.machine();
    let host = machine.host()?;
    for kind in ["pid", "mnt", "ipc", "uts", "net"] {
        let of = |pid| machine.namespace_of(pid, kind);
        let all = [of(one.pid()?)?, of(other.pid()?)?, of(host)?];
        ensure!(
            all[0] != all[1] && all[0] != all[2] && all[1] != all[2],
            "shared namespaces of kind {kind}: {all:?}"
        );
    }
    // The first number is the pid in the outer namespace, the last one that in its own.
    let text = machine.read(one.pid()?, "status")?;
    let numbers = text
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .unwrap_or_default();
    ensure!(
        numbers.split_whitespace().next_back() == Some("1"),
        "it is not the first process of its namespace: {numbers}"
    );
    let mounts = machine.read(one.pid()?, "mountinfo")?;
    ensure!(
        !mounts.contains(" /run/wasmedge-runtime") && !mounts.contains("containerd.sock"),
        "it sees mounts of the node:\n{mounts}"
    );
    node.kill_and_delete(one)?;
    node.kill_and_delete(other)?;
    Ok(Verdict::Holds)
}

fn a_guest_holds_no_descriptor_that_is_not_its_own(node: &Node) -> Result<Verdict> {
    // The second one is forked while the first one's descriptors are open.
    let tasks = [
        node.guest(&SPIN)?.start()?,
        node.guest(&SPIN)?.start()?,
        node.native(&["sleep"])?.start()?,
    ];
    for task in &tasks {
        node.machine().has_no_foreign_descriptors(task.pid()?)?;
    }
    tasks
        .into_iter()
        .try_for_each(|task| node.kill_and_delete(task))?;
    Ok(Verdict::Holds)
}

fn guest_has_at_most_capabilities_for_files_and_low_ports(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let text = node.machine().read(task.pid()?, "status")?;
    // DAC_OVERRIDE, FOWNER and NET_BIND_SERVICE of the fourteen that its spec grants.
    let lines = [
        "CapInh:\t0000000000000000",
        "CapPrm:\t000000000000040a",
        "CapEff:\t000000000000040a",
        "CapBnd:\t000000000000040a",
    ];
    for line in
        lines
            .into_iter()
            .chain(["CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"])
    {
        ensure!(
            text.lines().any(|found| found == line),
            "no line {line:?} in its status:\n{text}"
        );
    }
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn only_root_can_read_a_containers_configuration(node: &Node) -> Result<Verdict> {
    let task = node
        .native(&["sleep"])?
        .env("PASSWORD", "hunter2")
        .start()?;
    let record = node
        .machine()
        .record(task.id())
        .context("it has no record")?;
    let config = std::fs::read_to_string(record.join("native/config.json"))
        .context("read libcontainer's file")?;
    ensure!(
        config.contains("hunter2"),
        "its environment is stored elsewhere: update this test"
    );
    // From its own folder up to the one of all containerds.
    for folder in record.ancestors().take(4) {
        let mode = std::fs::metadata(folder)
            .with_context(|| format!("look at {}", folder.display()))?
            .permissions()
            .mode()
            & 0o777;
        ensure!(mode == 0o700, "{} has mode {mode:o}", folder.display());
    }
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

fn idle_host_exits_and_leaves_nothing(node: &Node) -> Result<Verdict> {
    node.alone("idle", |alone| {
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        let machine = alone.machine();
        let host = machine.host()?;
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        ensure!(
            machine.host()? == host,
            "the second container has another host"
        );
        let forked = machine.children(host)?;
        let gone = || Ok((!machine.is_alive(host)).then_some(()));
        wait::until("the host to end", IDLE_EXIT_TIMEOUT, gone, || {
            alone.containerd.evidence()
        })?;
        for child in forked {
            machine.wait_until_dead(child.pid)?;
        }
        let files = alone
            .isolated
            .run("find")
            .args([
                "/run/containerd",
                "-path",
                "*/s/*",
                "-o",
                "-name",
                "record.json",
            ])
            .text()?;
        ensure!(files.is_empty(), "it left files:\n{files}");
        // The next container starts another host.
        expect(&alone.guest(&HELLO)?.run()?, 0, "hello from wasm\n")?;
        Ok(())
    })
}

fn a_host_stays_while_it_has_a_container(node: &Node) -> Result<Verdict> {
    node.alone("stays", |alone| {
        let task = alone.guest(&SPIN)?.start()?;
        let host = alone.machine().host()?;
        // Only time shows that something does not happen: longer than a host without containers
        // waits.
        let since = Instant::now();
        let stays = || {
            ensure!(
                alone.machine().host()? == host && task.status()? == "RUNNING",
                "after {:?} it is gone",
                since.elapsed()
            );
            Ok((since.elapsed() > Duration::from_secs(12)).then_some(()))
        };
        wait::until(
            "a host without containers to have ended",
            IDLE_EXIT_TIMEOUT,
            stays,
            || alone.containerd.evidence(),
        )?;
        alone.kill_and_delete(task)?;
        Ok(())
    })
}
