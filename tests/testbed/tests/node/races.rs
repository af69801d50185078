//! Concurrent requests for one task.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::wait;
use tonic::Code;

use crate::events::{EventLog, topics};
use crate::grpc::Refusal;
use crate::machine::SETTLE_TIMEOUT;
use crate::node::{Node, Verdict, tests};

tests![
    task_is_deleted_once_by_concurrent_deletes,
    exec_process_ends_before_its_task_is_deleted,
    task_killed_during_a_pause_ends,
];

fn task_is_deleted_once_by_concurrent_deletes(node: &Node) -> Result<Verdict> {
    const ROUNDS: usize = 10;
    let events = EventLog::follow(node)?;
    let mut ids = Vec::new();
    for _ in 0..ROUNDS {
        let task = node.guest(&HELLO)?.start()?;
        let id = task.id().to_owned();
        task.wait(SETTLE_TIMEOUT)?;
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| node.tasks().delete(&id)))
                .collect();
            asking
                .into_iter()
                .map(|asked| asked.join().expect("the request does not panic"))
                .collect()
        });
        // The replies depend on containerd, which keeps the first one and leaves the host
        // meanwhile.
        node.machine()
            .nothing_left(&id)
            .with_context(|| format!("{answers:?}"))?;
        let removed = || {
            Ok(node
                .containerd
                .ctr()
                .args(["containers", "rm", &id])
                .done()
                .ok())
        };
        wait::until(
            "the container to be removed",
            SETTLE_TIMEOUT,
            removed,
            || node.containerd.evidence(),
        )?;
        ids.push(id);
    }
    // Events are published in order: a duplicate would come before another container's exit.
    let last = node.guest(&HELLO)?.start()?;
    let id = last.id().to_owned();
    last.wait(SETTLE_TIMEOUT)?;
    last.delete()?;
    events.until(&id, "delete")?;
    for id in &ids {
        let lines = events.mentioning(id)?;
        // The exit events that containerd itself publishes for a host that it left have no pid.
        let exits = lines
            .iter()
            .filter(|line| line.contains("/tasks/delete") && line.contains("\"pid\":"));
        ensure!(exits.count() == 1, "{lines:#?}");
    }
    Ok(Verdict::Holds)
}

fn exec_process_ends_before_its_task_is_deleted(node: &Node) -> Result<Verdict> {
    let events = EventLog::follow(node)?;
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.exec("beside", &["/app.wasm"]).start()?;
    task.kill("SIGKILL")?;
    task.wait(SETTLE_TIMEOUT)?;
    task.delete()?;
    let lines = events.until(&id, "delete")?;
    let expected = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "exit",
        "delete",
    ];
    ensure!(topics(&lines) == expected, "{lines:#?}");
    Ok(Verdict::Holds)
}

fn task_killed_during_a_pause_ends(node: &Node) -> Result<Verdict> {
    for moment in (0..12).map(|quarter| Duration::from_micros(250 * quarter)) {
        let task = node.guest(&SPIN)?.start()?;
        let id = task.id().to_owned();
        std::thread::scope(|scope| {
            let pausing = scope.spawn(|| node.tasks().pause(&id));
            let since = Instant::now();
            while since.elapsed() < moment {
                std::thread::yield_now();
            }
            node.tasks().kill(&id, "", 9)?;
            // It is paused before or after the kill, or the pause fails as the task has ended.
            let paused = pausing.join().expect("the request does not panic");
            let is_expected = |refusal: &Refusal| {
                matches!(refusal.code, Code::NotFound | Code::FailedPrecondition)
            };
            ensure!(paused.as_ref().err().is_none_or(is_expected), "{paused:?}");
            Ok(())
        })?;
        task.wait(SETTLE_TIMEOUT)?;
        task.delete()?;
        node.machine().nothing_left(&id)?;
    }
    Ok(Verdict::Holds)
}
