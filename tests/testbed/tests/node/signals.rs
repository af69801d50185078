//! Exits by external signals in every state of a guest, by the memory limit, and by the guest's own
//! traps.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use test_guests::SPIN;
use testbed::containerd::{Container, Task};
use testbed::wait;

use crate::events::{EventLog, topics};
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};

tests![
    a_busy_guest_ends_by_each_signal_within_a_second,
    a_sleeping_guest_ends_by_each_signal_within_a_second,
    a_guest_that_reads_ends_by_each_signal_within_a_second,
    a_guest_that_accepts_ends_by_each_signal_within_a_second,
    a_guest_that_was_never_started_ends_by_each_signal_within_a_second,
    a_paused_guest_ends_by_sigkill_within_a_second,
    a_guest_stopped_by_sigstop_ends_by_sigkill_within_a_second,
    a_native_program_gets_the_signal_itself,
    a_real_time_signal_ends_a_guest,
    a_signal_to_all_processes_reaches_each_once,
    invalid_signal_number_is_refused,
    memory_beyond_the_limit_exits_137_and_is_reported_as_oom,
    kill_is_not_reported_as_oom,
    trap_exits_134_and_is_not_reported_as_oom,
];

/// The signals that Kubernetes and users send, and the exit codes that shells assign to them.
const SIGNALS: &[(&str, u32)] = &[("SIGTERM", 143), ("SIGKILL", 137), ("SIGINT", 130)];
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends a signal to a task through containerd's own service: on a busy machine a `ctr` may take
/// most of [`EXIT_TIMEOUT`].
fn send(node: &Node, id: &str, signal: &str) -> Result<()> {
    let number = match signal {
        "SIGTERM" => 15,
        "SIGINT" => 2,
        _ => 9,
    };
    node.tasks()
        .kill(id, "", number)
        .with_context(|| format!("{signal} to {id}"))
}

/// Kills a task, and measures with containerd's own service of tasks, which waits without polling.
fn expect_exit(node: &Node, id: &str, signal: &str, code: u32) -> Result<()> {
    let started = Instant::now();
    send(node, id, signal)?;
    let end = node
        .tasks()
        .wait(id, "")
        .with_context(|| format!("wait for {id}"))?;
    let took = started.elapsed();
    ensure!(took < EXIT_TIMEOUT, "{signal} took {took:?} to end {id}");
    ensure!(
        end.code == code,
        "{signal} gave {} and not {code}:\n{}",
        end.code,
        node.containerd.log_of(id)?
    );
    Ok(())
}

fn each_signal(node: &Node, start: impl Fn() -> Result<Task>) -> Result<Verdict> {
    for &(signal, code) in SIGNALS {
        let task = start()?;
        let id = task.id().to_owned();
        expect_exit(node, &id, signal, code)?;
        let deleted = task.delete()?;
        ensure!(
            u32::try_from(deleted).ok() == Some(code),
            "deleting {id} gave {deleted}, not {code}"
        );
        node.machine().nothing_left(&id)?;
    }
    Ok(Verdict::Holds)
}

fn a_busy_guest_ends_by_each_signal_within_a_second(node: &Node) -> Result<Verdict> {
    each_signal(node, || node.guest(&SPIN)?.start())
}

fn a_sleeping_guest_ends_by_each_signal_within_a_second(node: &Node) -> Result<Verdict> {
    each_signal(node, || node.probe(&["sleep", "600"])?.start())
}

fn a_guest_that_was_never_started_ends_by_each_signal_within_a_second(
    node: &Node,
) -> Result<Verdict> {
    each_signal(node, || node.guest(&SPIN)?.create())
}

/// Runs the guest with an input that stays open, and kills it once it waits in one of the system
/// calls `calls` (x86-64's numbers).
fn while_it_waits(
    node: &Node,
    container: impl Fn() -> Result<Container>,
    calls: &[&str],
) -> Result<Verdict> {
    for &(signal, code) in SIGNALS {
        let container = container()?;
        let id = container.id().to_owned();
        let mut ctr = container
            .run_command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("start ctr")?;
        let state = || node.tasks().state(&id, "").map_err(anyhow::Error::from);
        let waits = || {
            let Ok(state) = state() else { return Ok(None) };
            let pid = i32::try_from(state.pid).context("the pid is out of range")?;
            let call = node.machine().read(pid, "syscall").unwrap_or_default();
            Ok(call
                .split_whitespace()
                .next()
                .is_some_and(|call| calls.contains(&call))
                .then_some(()))
        };
        let evidence = || {
            let Ok(state) = state() else {
                return format!("no task {id}");
            };
            let pid = i32::try_from(state.pid).unwrap_or_default();
            format!(
                "{state:?} {}",
                node.machine().read(pid, "syscall").unwrap_or_default()
            )
        };
        let waited = wait::until(
            format_args!("{id} to wait"),
            SETTLE_TIMEOUT,
            waits,
            evidence,
        );
        let ended = waited.and_then(|()| {
            let pid = i32::try_from(state()?.pid).context("the pid is out of range")?;
            let started = Instant::now();
            send(node, &id, signal)?;
            // The task's own end cannot be waited for: `ctr` deletes the task.
            node.machine().wait_until_dead(pid)?;
            let took = started.elapsed();
            ensure!(took < EXIT_TIMEOUT, "{signal} took {took:?}");
            let status = ctr.wait().context("wait for ctr")?;
            ensure!(
                status.code().and_then(|code| u32::try_from(code).ok()) == Some(code),
                "{signal} gave {status}, not {code}"
            );
            Ok(())
        });
        if ended.is_err() {
            ctr.kill().context("kill ctr")?;
            ctr.wait().context("wait for ctr")?;
        }
        ended?;
        node.machine().nothing_left(&id)?;
    }
    Ok(Verdict::Holds)
}

fn a_guest_that_reads_ends_by_each_signal_within_a_second(node: &Node) -> Result<Verdict> {
    // read, readv; the engine may call poll or ppoll first.
    while_it_waits(node, || node.probe(&["cat"]), &["0", "19", "7", "271"])
}

fn a_guest_that_accepts_ends_by_each_signal_within_a_second(node: &Node) -> Result<Verdict> {
    // accept, accept4, poll, ppoll, epoll_wait.
    while_it_waits(
        node,
        || node.probe(&["accept", "8080"]),
        &["43", "288", "7", "271", "232"],
    )
}

fn a_paused_guest_ends_by_sigkill_within_a_second(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.pause()?;
    ensure!(task.status()? == "PAUSED", "it is {}", task.status()?);
    expect_exit(node, &id, "SIGKILL", 137)?;
    task.delete()?;
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

fn a_guest_stopped_by_sigstop_ends_by_sigkill_within_a_second(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    node.isolated
        .run("sh")
        .args(["-c", &format!("kill -STOP {}", task.pid()?)])
        .done()?;
    expect_exit(node, &id, "SIGKILL", 137)?;
    task.delete()?;
    Ok(Verdict::Holds)
}

fn a_native_program_gets_the_signal_itself(node: &Node) -> Result<Verdict> {
    // It handles SIGTERM, and exits by itself.
    let task = node.native(&["tick"])?.start()?;
    let id = task.id().to_owned();
    let running =
        || Ok((node.tasks().state(&id, "")?.status == crate::tasks::Phase::Running).then_some(()));
    wait::until("it to run", SETTLE_TIMEOUT, running, || {
        node.containerd.evidence()
    })?;
    // Before it has installed its handler, the signal has no effect: a container's first process
    // ignores signals without a handler.
    let caught = || {
        Ok(node
            .machine()
            .read(task.pid()?, "status")?
            .lines()
            .any(|line| line == "SigCgt:\t0000000000004000")
            .then_some(()))
    };
    wait::until("it to handle SIGTERM", SETTLE_TIMEOUT, caught, || {
        node.machine()
            .read(task.pid().unwrap_or(1), "status")
            .unwrap_or_default()
    })?;
    expect_exit(node, &id, "SIGTERM", 0)?;
    task.delete()?;
    Ok(Verdict::Holds)
}

/// The stop signal in images of systemd: SIGRTMIN+3.
const SIGRTMIN_3: u32 = 37;

fn a_real_time_signal_ends_a_guest(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    node.tasks().kill(task.id(), "", SIGRTMIN_3)?;
    let end = node.tasks().wait(task.id(), "")?;
    ensure!(end.code == 128 + SIGRTMIN_3, "{end:?}");
    task.delete()?;
    Ok(Verdict::Holds)
}

fn a_signal_to_all_processes_reaches_each_once(node: &Node) -> Result<Verdict> {
    const SIGNALS_SENT: u32 = 3;
    let task = node.native(&["count"])?.start()?;
    let id = task.id().to_owned();
    let status = || node.machine().read(task.pid()?, "status");
    let caught = || {
        Ok(status()?
            .lines()
            .any(|line| line == "SigCgt:\t0000001000004000")
            .then_some(()))
    };
    wait::until("it to handle its signals", SETTLE_TIMEOUT, caught, || {
        status().unwrap_or_default()
    })?;
    for _ in 0..SIGNALS_SENT {
        task.kill_all(&SIGRTMIN_3.to_string())?;
    }
    // A signal is handled before a later one of a lower number only if it has arrived.
    let none_waits = || {
        Ok(status()?
            .lines()
            .any(|line| line == "ShdPnd:\t0000000000000000")
            .then_some(()))
    };
    wait::until(
        "it to have received them",
        SETTLE_TIMEOUT,
        none_waits,
        || status().unwrap_or_default(),
    )?;
    node.tasks().kill(&id, "", 15)?;
    let end = node.tasks().wait(&id, "")?;
    ensure!(
        end.code == SIGNALS_SENT,
        "of {SIGNALS_SENT} signals it got {}",
        end.code
    );
    task.delete()?;
    Ok(Verdict::Holds)
}

fn invalid_signal_number_is_refused(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    for number in [0, 65, u32::MAX] {
        let answer = node.tasks().kill(task.id(), "", number);
        ensure!(
            answer
                .as_ref()
                .is_err_and(|refusal| refusal.code == tonic::Code::InvalidArgument),
            "signal {number} gave {answer:?}"
        );
    }
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    expect_exit(node, task.id(), "SIGKILL", 137)?;
    task.delete()?;
    Ok(Verdict::Holds)
}

/// Returns the exit code of a container, and all its events.
fn events_of(node: &Node, container: Container) -> Result<(i32, Vec<String>)> {
    let events = EventLog::follow(node)?;
    let task = container.start()?;
    let id = task.id().to_owned();
    task.wait(SETTLE_TIMEOUT)?;
    let code = task.delete()?;
    Ok((code, events.until(&id, "delete")?))
}

fn memory_beyond_the_limit_exits_137_and_is_reported_as_oom(node: &Node) -> Result<Verdict> {
    let (code, lines) = events_of(
        node,
        node.probe(&["oom"])?
            .flag("--memory-limit")
            .flag("33554432"),
    )?;
    ensure!(code == 137, "exit code {code}; {lines:#?}");
    ensure!(
        topics(&lines) == ["create", "start", "oom", "exit", "delete"],
        "{lines:#?}"
    );
    Ok(Verdict::Holds)
}

fn kill_is_not_reported_as_oom(node: &Node) -> Result<Verdict> {
    let events = EventLog::follow(node)?;
    let task = node
        .guest(&SPIN)?
        .flag("--memory-limit")
        .flag("67108864")
        .start()?;
    let id = task.id().to_owned();
    expect_exit(node, &id, "SIGKILL", 137)?;
    task.delete()?;
    let lines = events.until(&id, "delete")?;
    ensure!(
        topics(&lines) == ["create", "start", "exit", "delete"],
        "{lines:#?}"
    );
    Ok(Verdict::Holds)
}

fn trap_exits_134_and_is_not_reported_as_oom(node: &Node) -> Result<Verdict> {
    let (code, lines) = events_of(node, node.probe(&["trap"])?)?;
    ensure!(
        code == 134 && topics(&lines) == ["create", "start", "exit", "delete"],
        "exit code {code}; {lines:#?}"
    );
    Ok(Verdict::Holds)
}
