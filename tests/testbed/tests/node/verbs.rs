//! What can be asked of a task beside starting and ending it: pause, update, metrics, processes,
//! deletion; and how what cannot be done is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use test_guests::{EXIT_42, HELLO, SPIN};
use testbed::wait;
use tonic::Code;

use crate::events::{Followed, topics};
use crate::grpc::Refusal;
use crate::machine::LIMIT;
use crate::node::{Node, Verdict, expect, tests};
use crate::tasks::Phase;

tests![
    a_paused_guest_does_nothing_until_it_is_resumed,
    pausing_and_resuming_are_told_of,
    a_limit_that_is_changed_holds_for_the_running_guest,
    a_limit_that_cannot_be_changed_is_refused,
    the_metrics_are_those_of_the_guest,
    the_processes_of_a_guest_are_listed,
    the_processes_of_a_native_family_are_listed_and_all_are_killed,
    killing_what_has_ended_is_not_found,
    deletion_tells_when_and_how_it_ended,
    a_running_task_is_not_deleted,
    a_task_is_not_started_twice,
    a_task_is_not_created_twice,
    what_is_not_there_is_not_found,
    a_checkpoint_is_unimplemented,
    what_is_asked_too_early_or_too_late_is_refused,
];

/// The code of an answer.
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

fn end(node: &Node, task: testbed::containerd::Task) -> Result<Verdict> {
    let id = task.id().to_owned();
    task.kill("SIGKILL")?;
    task.wait(LIMIT)?;
    task.delete()?;
    node.machine().nothing_left(&id)?;
    Ok(Verdict::Holds)
}

/// Nanoseconds of a processor that a task has used.
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
        // While others run, it must not: that takes some time to show.
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
        wait::until("it to run again", LIMIT, runs, || {
            node.containerd.evidence()
        })?;
        end(node, task)?;
    }
    Ok(Verdict::Holds)
}

fn pausing_and_resuming_are_told_of(node: &Node) -> Result<Verdict> {
    let events = Followed::of(node)?;
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.pause()?;
    task.resume()?;
    end(node, task)?;
    let lines = events.until(&id, "delete")?;
    ensure!(
        topics(&lines) == ["create", "start", "paused", "resumed", "exit", "delete"],
        "{lines:#?}"
    );
    Ok(Verdict::Holds)
}

fn a_limit_that_is_changed_holds_for_the_running_guest(node: &Node) -> Result<Verdict> {
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
        "the metrics tell another limit"
    );
    end(node, task)
}

fn a_limit_that_cannot_be_changed_is_refused(node: &Node) -> Result<Verdict> {
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
    refuses("an update that is none", &answer, Code::InvalidArgument)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    end(node, task)
}

fn the_metrics_are_those_of_the_guest(node: &Node) -> Result<Verdict> {
    let task = node
        .guest(&SPIN)?
        .flag("--memory-limit")
        .flag("67108864")
        .start()?;
    let id = task.id().to_owned();
    let first = used(node, &id)?;
    let grows = || Ok((used(node, &id)? > first).then_some(()));
    wait::until("a busy guest to use the processor", LIMIT, grows, || {
        node.containerd.evidence()
    })?;
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
    end(node, task)
}

fn the_processes_of_a_guest_are_listed(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let pids = node.tasks().pids(task.id())?;
    ensure!(
        pids == [u32::try_from(task.pid()?)?],
        "{pids:?}, and its process is {}",
        task.pid()?
    );
    end(node, task)
}

fn the_processes_of_a_native_family_are_listed_and_all_are_killed(node: &Node) -> Result<Verdict> {
    let task = node.native(&["family"])?.start()?;
    let id = task.id().to_owned();
    let two = || Ok(Some(node.tasks().pids(&id)?).filter(|pids| pids.len() == 2));
    let pids = wait::until("two processes", LIMIT, two, || node.containerd.evidence())?;
    // The child survives SIGTERM; its parent does not, and takes it along: it is the first of their
    // namespace.
    task.kill_all("SIGKILL")?;
    task.wait(LIMIT)?;
    for pid in &pids {
        node.machine().wait_until_dead(i32::try_from(*pid)?)?;
    }
    // Without any, a containerd that is started again would take the ended task for one that never
    // was.
    let left = node.tasks().pids(&id)?;
    ensure!(
        left.len() == 1 && pids.contains(&left[0]),
        "of {pids:?} it has {left:?} still"
    );
    let code = task.delete()?;
    ensure!(code == 137, "exit code {code}");
    Ok(Verdict::Holds)
}

fn killing_what_has_ended_is_not_found(node: &Node) -> Result<Verdict> {
    for container in [node.guest(&HELLO)?, node.native(&["exit", "0"])?] {
        let task = container.start()?;
        task.wait(LIMIT)?;
        for signal in [15, 9] {
            refuses(
                "killing what has ended",
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

fn deletion_tells_when_and_how_it_ended(node: &Node) -> Result<Verdict> {
    let before = now()?;
    let task = node.guest(&EXIT_42)?.start()?;
    let id = task.id().to_owned();
    let waited = node.tasks().wait(&id, "")?;
    let after = now()?;
    // The time is that of the end, not of the question: it is over when it was asked for again.
    let later = || Ok((now()? > after + 0.05).then_some(()));
    wait::until("the clock to go on", LIMIT, later, String::new)?;
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
        "deleting what runs",
        &node.tasks().delete(task.id()),
        Code::FailedPrecondition,
    )?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    end(node, task)
}

fn a_task_is_not_started_twice(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let answer = node.tasks().start(task.id(), "");
    refuses("starting what runs", &answer, Code::FailedPrecondition)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    end(node, task)
}

fn a_task_is_not_created_twice(node: &Node) -> Result<Verdict> {
    let task = node.guest(&SPIN)?.start()?;
    let tasks = node.tasks();
    let answer = tasks.create(task.id(), &tasks.rootfs(task.id())?);
    refuses("creating what is there", &answer, Code::AlreadyExists)?;
    ensure!(task.status()? == "RUNNING", "it is {}", task.status()?);
    end(node, task)
}

fn what_is_not_there_is_not_found(node: &Node) -> Result<Verdict> {
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
    end(node, task)?;
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
    end(node, task)
}

fn what_is_asked_too_early_or_too_late_is_refused(node: &Node) -> Result<Verdict> {
    let tasks = node.tasks();
    let process = json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/app.wasm"], "cwd": "/" });
    let task = node.guest(&HELLO)?.create()?;
    let id = task.id().to_owned();
    refuses(
        "pausing what was not started",
        &tasks.pause(&id),
        Code::FailedPrecondition,
    )?;
    refuses(
        "exec in what was not started",
        &tasks.exec(&id, "early", &process),
        Code::FailedPrecondition,
    )?;
    tasks.start(&id, "")?;
    tasks.wait(&id, "")?;
    refuses(
        "pausing what has ended",
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
