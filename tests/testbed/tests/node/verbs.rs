//! Requests for a task beside start and kill: pause, update, metrics, processes, deletion; and
//! refusals of invalid ones.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use test_guests::{EXIT_42, HELLO, SPIN};
use testbed::containerd::Task;
use testbed::wait;
use tonic::Code;

use crate::events::{EventLog, topics};
use crate::grpc::Refusal;
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, expect, tests};
use crate::tasks::Phase;

tests![
    a_paused_guest_does_nothing_until_it_is_resumed,
    pause_and_resume_publish_events,
    updated_limits_apply_to_the_running_guest,
    limit_that_cannot_be_applied_is_refused,
    metrics_are_those_of_the_guest,
    the_processes_of_a_guest_are_listed,
    all_processes_of_a_native_container_are_listed_and_killed,
    kill_of_an_ended_process_is_not_found,
    delete_returns_the_exit_time_and_code,
    a_running_task_is_not_deleted,
    a_task_is_not_started_twice,
    a_task_is_not_created_twice,
    requests_for_a_missing_task_are_not_found,
    a_checkpoint_is_unimplemented,
    requests_in_the_wrong_state_are_refused,
];

/// Returns the code of a reply.
fn code<T: std::fmt::Debug>(answer: &Result<T, Refusal>) -> Code {
    answer
        .as_ref()
        .map_or_else(|refusal| refusal.code, |_| Code::Ok)
}

fn refuses<T: std::fmt::Debug>(
    what: &str,
    answer: &Result<T, Refusal>,
    expected: Code,
) -> Result<()> {
    ensure!(
        code(answer) == expected,
        "{what} gave {answer:?}, not {expected:?}"
    );
    Ok(())
}

/// Kills and deletes the task; the test has passed.
fn finish(node: &Node, task: Task) -> Result<Verdict> {
    node.kill_and_delete(task)?;
    Ok(Verdict::Holds)
}

/// Returns the CPU time in nanoseconds that a task has used.
fn used(node: &Node, id: &str) -> Result<u64> {
    Ok(node.tasks().metrics(id)?.cpu())
}

fn a_paused_guest_does_nothing_until_it_is_resumed(node: &Node) -> Result<Verdict> {
    for task in [
        node.guest(&SPIN)?.start()?,
        node.native(&["tick"])?.start()?,
    ] {
        let id = task.id().to_owned();
        node.tasks().pause(&id)?;
        ensure!(
            node.tasks().state(&id, "")?.status == Phase::Paused,
            "it is {:?}",
            node.tasks().state(&id, "")?
        );
        let before = used(node, &id)?;
        // While other guests run it must not: that takes some time to show.
        expect(&node.probe(&["sleep", "0.3"])?.run()?, 0, "sleeping\n")?;
        ensure!(
            used(node, &id)? == before,
            "it used the processor while it was paused"
        );
        node.tasks().resume(&id)?;
        ensure!(
            node.tasks().state(&id, "")?.status == Phase::Running,
            "it is {:?}",
            node.tasks().state(&id, "")?
        );
        let runs = || Ok((used(node, &id)? > before).then_some(()));
        wait::until("it to run again", SETTLE_TIMEOUT, runs, || {
            node.containerd.evidence()
        })?;
        finish(node, task)?;
    }
    Ok(Verdict::Holds)
}

fn pause_and_resume_publish_events(node: &Node) -> Result<Verdict> {
    let events = EventLog::follow(node)?;
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.pause()?;
    task.resume()?;
    finish(node, task)?;
    let lines = events.until(&id, "delete")?;
    ensure!(
        topics(&lines) == ["create", "start", "paused", "resumed", "exit", "delete"],
        "{lines:#?}"
    );
    Ok(Verdict::Holds)
}

fn updated_limits_apply_to_the_running_guest(node: &Node) -> Result<Verdict> {
    let task = node
        .guest(&SPIN)?
        .flag("--memory-limit")
        .flag("67108864")
        .start()?;
    let (id, machine) = (task.id().to_owned(), node.machine());
    let bytes = machine.cgroup("memory", &id, "memory.limit_in_bytes")?;
    ensure!(bytes == "67108864", "the limit of memory is {bytes}");
    node.tasks().update(
        &id,
        &json!({ "memory": { "limit": 134_217_728 }, "cpu": { "shares": 512 },
        "pids": { "limit": 77 } }),
    )?;
    for (controller, file, expected) in [
        ("memory", "memory.limit_in_bytes", "134217728"),
        ("cpu", "cpu.shares", "512"),
        ("pids", "pids.max", "77"),
    ] {
        let found = machine.cgroup(controller, &id, file)?;
        ensure!(found == expected, "{file} is {found}, not {expected}");
    }
    ensure!(
        node.tasks().metrics(&id)?.memory().1 == 134_217_728,
        "the metrics have another limit"
    );
    finish(node, task)
}

fn limit_that_cannot_be_applied_is_refused(node: &Node) -> Result<Verdict> {
    let task = node.probe(&["sleep", "600"])?.start()?;
    let id = task.id().to_owned();
    let answer = node
        .tasks()
        .update(&id, &json!({ "memory": { "limit": 4096 } }));
    ensure!(
        answer.is_err(),
        "a limit below what the guest uses was taken"
    );
    let answer = node.tasks().update(&id, &json!("not an object"));
    refuses("an invalid update", &answer, Code::InvalidArgument)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    finish(node, task)
}

fn metrics_are_those_of_the_guest(node: &Node) -> Result<Verdict> {
    let task = node
        .guest(&SPIN)?
        .flag("--memory-limit")
        .flag("67108864")
        .start()?;
    let id = task.id().to_owned();
    let first = used(node, &id)?;
    let grows = || Ok((used(node, &id)? > first).then_some(()));
    wait::until(
        "a busy guest to use the processor",
        SETTLE_TIMEOUT,
        grows,
        || node.containerd.evidence(),
    )?;
    let metrics = node.tasks().metrics(&id)?;
    let (bytes, limit) = metrics.memory();
    ensure!(
        limit == 67_108_864 && bytes > 0 && bytes < limit,
        "{metrics:?}"
    );
    ensure!(
        metrics.pids() == 1,
        "one process with one thread, it should be: {metrics:?}"
    );
    finish(node, task)
}

fn the_processes_of_a_guest_are_listed(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let pids = node.tasks().pids(task.id())?;
    ensure!(
        pids == [u32::try_from(task.pid()?)?],
        "{pids:?}, and its process is {}",
        task.pid()?
    );
    finish(node, task)
}

fn all_processes_of_a_native_container_are_listed_and_killed(node: &Node) -> Result<Verdict> {
    let task = node.native(&["family"])?.start()?;
    let id = task.id().to_owned();
    let two = || Ok(Some(node.tasks().pids(&id)?).filter(|pids| pids.len() == 2));
    let pids = wait::until("two processes", SETTLE_TIMEOUT, two, || {
        node.containerd.evidence()
    })?;
    // The child survives SIGTERM. The parent does not, and its exit kills the child: it is the
    // first process of their namespace.
    task.kill_all("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    for pid in &pids {
        node.machine().wait_until_dead(i32::try_from(*pid)?)?;
    }
    // If no process were left, a containerd that is started again would take the ended task for one
    // that never existed.
    let left = node.tasks().pids(&id)?;
    ensure!(
        left.len() == 1 && pids.contains(&left[0]),
        "of {pids:?} it has {left:?} still"
    );
    let code = task.delete()?;
    ensure!(code == 137, "exit code {code}");
    Ok(Verdict::Holds)
}

fn kill_of_an_ended_process_is_not_found(node: &Node) -> Result<Verdict> {
    for container in [node.guest(&HELLO)?, node.native(&["exit", "0"])?] {
        let task = container.start()?;
        task.wait(SETTLE_TIMEOUT)?;
        for signal in [15, 9] {
            refuses(
                "killing an ended process",
                &node.tasks().kill(task.id(), "", signal),
                Code::NotFound,
            )?;
        }
        task.delete()?;
    }
    Ok(Verdict::Holds)
}

fn now() -> Result<f64> {
    Ok(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("read the clock")?
        .as_secs_f64())
}

fn delete_returns_the_exit_time_and_code(node: &Node) -> Result<Verdict> {
    let before = now()?;
    let task = node.guest(&EXIT_42)?.start()?;
    let id = task.id().to_owned();
    let waited = node.tasks().wait(&id, "")?;
    let after = now()?;
    // The time is that of the exit, not of the request: it was over when it was requested again.
    let later = || Ok((now()? > after + 0.05).then_some(()));
    wait::until("the clock to go on", SETTLE_TIMEOUT, later, String::new)?;
    let (again, state) = (node.tasks().wait(&id, "")?, node.tasks().state(&id, "")?);
    let deleted = node.tasks().delete(&id)?;
    ensure!(
        deleted.code == 42 && state.code == 42,
        "{deleted:?}, {state:?}"
    );
    ensure!(
        waited == again && again == deleted,
        "{waited:?}, {again:?}, {deleted:?}"
    );
    ensure!(
        before <= deleted.at && deleted.at <= after,
        "it ended at {}, between {before} and {after}",
        deleted.at
    );
    node.containerd
        .ctr()
        .args(["containers", "rm", &id])
        .done()?;
    Ok(Verdict::Holds)
}

fn a_running_task_is_not_deleted(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    refuses(
        "deleting a running task",
        &node.tasks().delete(task.id()),
        Code::FailedPrecondition,
    )?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    finish(node, task)
}

fn a_task_is_not_started_twice(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let answer = node.tasks().start(task.id(), "");
    refuses("starting a running task", &answer, Code::FailedPrecondition)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    finish(node, task)
}

fn a_task_is_not_created_twice(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let tasks = node.tasks();
    let answer = tasks.create(task.id(), &tasks.rootfs(task.id())?);
    refuses("creating an existing task", &answer, Code::AlreadyExists)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    finish(node, task)
}

fn requests_for_a_missing_task_are_not_found(node: &Node) -> Result<Verdict> {
    let tasks = node.tasks();
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    refuses(
        "killing an exec process that is not there",
        &tasks.kill(&id, "nothing", 9),
        Code::NotFound,
    )?;
    refuses("starting it", &tasks.start(&id, "nothing"), Code::NotFound)?;
    refuses(
        "deleting it",
        &tasks.delete_exec(&id, "nothing"),
        Code::NotFound,
    )?;
    finish(node, task)?;
    refuses(
        "killing a task that is gone",
        &tasks.kill(&id, "", 9),
        Code::NotFound,
    )?;
    refuses("deleting it again", &tasks.delete(&id), Code::NotFound)?;
    Ok(Verdict::Holds)
}

fn a_checkpoint_is_unimplemented(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let answer = node.tasks().checkpoint(task.id());
    refuses("a checkpoint", &answer, Code::Unimplemented)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    finish(node, task)
}

fn requests_in_the_wrong_state_are_refused(node: &Node) -> Result<Verdict> {
    let tasks = node.tasks();
    let process = json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/app.wasm"], "cwd": "/" });
    let task = node.guest(&HELLO)?.create()?;
    let id = task.id().to_owned();
    refuses(
        "pausing a task that was not started",
        &tasks.pause(&id),
        Code::FailedPrecondition,
    )?;
    refuses(
        "exec in a task that was not started",
        &tasks.exec(&id, "early", &process),
        Code::FailedPrecondition,
    )?;
    tasks.start(&id, "")?;
    tasks.wait(&id, "")?;
    refuses(
        "pausing an ended task",
        &tasks.pause(&id),
        Code::FailedPrecondition,
    )?;
    refuses("resuming it", &tasks.resume(&id), Code::FailedPrecondition)?;
    refuses(
        "exec in it",
        &tasks.exec(&id, "late", &process),
        Code::FailedPrecondition,
    )?;
    task.delete()?;
    Ok(Verdict::Holds)
}
