//! A container's life cycle: signals, deletion, many at once, and complete clean-up.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use test_guests::{HELLO, SPIN};
use testbed::containerd::Task;
use testbed::teardown::Run;
use testbed::wait;

use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};

tests![
    sigterm_ends_a_busy_guest_within_a_second,
    sigterm_ends_a_sleeping_guest_within_a_second,
    sigkill_ends_a_guest,
    a_guest_that_was_never_started_is_deleted,
    twenty_containers_run_at_once,
    container_publishes_exactly_one_exit_event,
    deleted_container_leaves_nothing,
    a_guest_dies_with_its_host,
    a_guest_outlives_a_restart_of_containerd,
];

fn signalled(node: &Node, task: Task, signal: &str, code: i32) -> Result<Verdict> {
    ensure!(
        task.status()? == "RUNNING",
        "the guest does not run: {}",
        task.status()?
    );
    task.kill(signal)?;
    let started = Instant::now();
    // Not with `ctr`: on a busy machine, one may take most of that second.
    node.tasks().wait(task.id(), "")?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(1), "{signal} took {took:?}");
    let id = task.id().to_owned();
    let found = task.delete()?;
    ensure!(
        found == code,
        "{signal} gave exit code {found}, not {code}:\n{}",
        node.containerd.log_of(&id)?
    );
    Ok(Verdict::Holds)
}

fn sigterm_ends_a_busy_guest_within_a_second(node: &Node) -> Result<Verdict> {
    signalled(node, node.guest(&SPIN)?.start()?, "SIGTERM", 143)
}

fn sigterm_ends_a_sleeping_guest_within_a_second(node: &Node) -> Result<Verdict> {
    signalled(
        node,
        node.probe(&["sleep", "600"])?.start()?,
        "SIGTERM",
        143,
    )
}

fn sigkill_ends_a_guest(node: &Node) -> Result<Verdict> {
    signalled(node, node.guest(&SPIN)?.start()?, "SIGKILL", 137)
}

fn a_guest_that_was_never_started_is_deleted(node: &Node) -> Result<Verdict> {
    let task = node.guest(&HELLO)?.create()?;
    ensure!(
        task.status()? == "CREATED",
        "the task is {}",
        task.status()?
    );
    let id = task.id().to_owned();
    task.delete_by_force()?;
    ensure!(
        !node.containerd.containers()?.contains(&id),
        "container {id} is still there"
    );
    nothing_left(node, &id)
}

fn twenty_containers_run_at_once(node: &Node) -> Result<Verdict> {
    let containers = (0..20)
        .map(|_| node.guest(&HELLO))
        .collect::<Result<Vec<_>>>()?;
    let threads: Vec<_> = containers
        .into_iter()
        .map(|container| std::thread::spawn(|| container.run()))
        .collect();
    for thread in threads {
        expect(
            &thread.join().map_err(|_| anyhow!("a thread panicked"))??,
            0,
            "hello from wasm\n",
        )?;
    }
    Ok(Verdict::Holds)
}

fn container_publishes_exactly_one_exit_event(node: &Node) -> Result<Verdict> {
    let events = node.containerd.events()?;
    let seen = || fs::read_to_string(events.log()).context("read the log of events");
    // Only containers after the subscription are seen, and its start is not reported.
    let id = wait::until(
        "an exit to be seen",
        SETTLE_TIMEOUT,
        || {
            let task = node.probe(&["exit", "7"])?.start()?;
            let id = task.id().to_owned();
            task.wait(SETTLE_TIMEOUT)?;
            task.delete()?;
            Ok(seen()?.contains(&id).then_some(id))
        },
        || events.log_tail(),
    )?;
    let of_task = |text: &str, topic: &str| {
        text.lines()
            .filter(|line| line.contains(topic) && line.contains(&id))
            .count()
    };
    let all = wait::until(
        "its deletion to be seen",
        SETTLE_TIMEOUT,
        || Ok(Some(seen()?).filter(|text| of_task(text, "/tasks/delete") > 0)),
        || events.log_tail(),
    )?;
    let exits = of_task(&all, "/tasks/exit");
    ensure!(exits == 1, "{exits} exits of {id}:\n{all}");
    Ok(Verdict::Holds)
}

fn deleted_container_leaves_nothing(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    task.delete()?;
    nothing_left(node, &id)
}

fn a_guest_dies_with_its_host(node: &Node) -> Result<Verdict> {
    // A separate containerd with its own host: the other tests' guests must keep running.
    let run = Run::start("host")?;
    let alone = Node::start(&run, node.containerd.install(), Arc::clone(&node.prepared))?;
    let task = alone.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    let guest = task.pid()?;
    // The host is older than the processes that it forks, which have its command line.
    let killed = alone
        .isolated
        .run("pkill")
        .args(["-KILL", "--oldest", "--full", "--", "wasmedge-host"])
        .output()?;
    ensure!(killed.status.success(), "there is no host");
    wait::until(
        format_args!("guest {guest} of {id} to be dead"),
        SETTLE_TIMEOUT,
        || {
            Ok((!alone
                .isolated
                .run("test")
                .args(["-d", &format!("/proc/{guest}")])
                .output()?
                .status
                .success())
            .then_some(()))
        },
        || alone.containerd.evidence(),
    )?;
    // containerd has the launcher clean up; only containerd's own record of the container remains.
    wait::until(
        format_args!("task {id} to be stopped or gone"),
        SETTLE_TIMEOUT,
        || {
            Ok(task
                .status()
                .map_or(true, |status| status == "STOPPED")
                .then_some(()))
        },
        || alone.containerd.evidence(),
    )?;
    // Whether containerd still has the task to delete depends on its version.
    let _ = task.delete();
    alone
        .containerd
        .ctr()
        .args(["containers", "rm", &id])
        .output()?;
    let verdict = nothing_left(&alone, &id)?;
    run.finish()?;
    Ok(verdict)
}

fn a_guest_outlives_a_restart_of_containerd(node: &Node) -> Result<Verdict> {
    // A separate containerd: the other tests' one must keep running.
    let run = Run::start("restart")?;
    let alone = Node::start(&run, node.containerd.install(), Arc::clone(&node.prepared))?;
    let task = alone.guest(&SPIN)?.start()?;
    let guest = task.pid()?;
    alone.containerd.restart()?;
    ensure!(
        task.status()? == "RUNNING" && task.pid()? == guest,
        "after the restart:\n{}",
        alone.containerd.evidence()
    );
    signalled(&alone, task, "SIGTERM", 143)?;
    run.finish()?;
    Ok(Verdict::Holds)
}

/// Waits until nothing of a container is left.
fn nothing_left(node: &Node, id: &str) -> Result<Verdict> {
    node.machine().nothing_left(id)?;
    Ok(Verdict::Holds)
}
