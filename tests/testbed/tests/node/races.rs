//! Requests about one task that come at the same time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use test_guests::{HELLO, SPIN};
use testbed::wait;
use tonic::Code;

use crate::events::{Followed, topics};
use crate::grpc::Refusal;
use crate::machine::LIMIT;
use crate::node::{Node, Verdict, tests};

tests![
    a_task_that_several_delete_at_once_is_deleted_once,
    what_exec_added_ends_before_its_task_is_deleted,
    a_task_that_is_killed_while_it_is_paused_does_not_stay_so,
];

fn a_task_that_several_delete_at_once_is_deleted_once(node: &Node) -> Result<Verdict> {
    const ROUNDS: usize = 10;
    let events = Followed::of(node)?;
    let mut ids = Vec::new();
    for _ in 0..ROUNDS {
        let task = node.guest(&HELLO)?.start()?;
        let id = task.id().to_owned();
        task.wait(LIMIT)?;
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| node.tasks().delete(&id)))
                .collect();
            asking
                .into_iter()
                .map(|asked| asked.join().expect("asking does not panic"))
                .collect()
        });
        // What they are answered is containerd's affair, which keeps what it heard first and leaves
        // the host meanwhile.
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
        wait::until("the container to be removed", LIMIT, removed, || {
            node.containerd.evidence()
        })?;
        ids.push(id);
    }
    // Events are told in order: what is told twice was told before another container's end.
    let last = node.guest(&HELLO)?.start()?;
    let id = last.id().to_owned();
    last.wait(LIMIT)?;
    last.delete()?;
    events.until(&id, "delete")?;
    for id in &ids {
        let lines = events.naming(id)?;
        // What containerd tells itself of a host that it has left names no process.
        let told = lines
            .iter()
            .filter(|line| line.contains("/tasks/delete") && line.contains("\"pid\":"));
        ensure!(told.count() == 1, "{lines:#?}");
    }
    Ok(Verdict::Holds)
}

fn what_exec_added_ends_before_its_task_is_deleted(node: &Node) -> Result<Verdict> {
    let events = Followed::of(node)?;
    let task = node.guest(&SPIN)?.start()?;
    let id = task.id().to_owned();
    task.exec("beside", &["/app.wasm"]).start()?;
    task.kill("SIGKILL")?;
    task.wait(LIMIT)?;
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

fn a_task_that_is_killed_while_it_is_paused_does_not_stay_so(node: &Node) -> Result<Verdict> {
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
            // It is paused before or after; or not any more, as it has ended.
            let paused = pausing.join().expect("asking does not panic");
            let is_expected = |refusal: &Refusal| {
                matches!(refusal.code, Code::NotFound | Code::FailedPrecondition)
            };
            ensure!(paused.as_ref().err().is_none_or(is_expected), "{paused:?}");
            Ok(())
        })?;
        task.wait(LIMIT)?;
        task.delete()?;
        node.machine().nothing_left(&id)?;
    }
    Ok(Verdict::Holds)
}
