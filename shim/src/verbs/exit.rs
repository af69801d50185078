//! The exit of a process: detected, and published once.

use std::sync::Arc;

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use rustix::process::Signal;

use super::timestamp;
use crate::host::Host;
use crate::process::{self, Exit, Process};
use crate::task::Task;

/// Waits for the exit of `process` in a task of its own, and publishes it once.
pub(super) fn watch(host: &Arc<Host>, task: &Arc<Task>, process: &Arc<Process>) {
    // A pod's namespaces may be held by a thread: its release publishes the exit.
    let Some(pidfd) = process.pidfd().map(Arc::clone) else {
        return;
    };
    let (host, task, process) = (Arc::clone(host), Arc::clone(task), Arc::clone(process));
    tokio::spawn(async move {
        let exit = process::wait_for_exit(pidfd).await.unwrap_or_else(|error| {
            tracing::error!(
                container = task.id,
                "lost process {}: {error}",
                process.pid()
            );
            Exit::by_signal(Signal::KILL)
        });
        process.wait_for_release().await;
        handle(&host, &task, &process, exit).await;
    });
}

/// Handles the exit of `process`: drains its output, publishes the events and notifies waiters.
pub(super) async fn handle(host: &Host, task: &Task, process: &Process, exit: Exit) {
    process.mark_exited();
    let _turn = process.turn.lock().await;
    process.drain().await;
    // The counter covers the whole container: the killed process may be the first one or one that
    // it started.
    if exit.is_kill()
        && task
            .cgroup
            .oom_kills()
            .is_ok_and(|kills| task.oom_kills.record(kills))
    {
        host.events.send(&TaskOOM {
            container_id: task.id.clone(),
            ..Default::default()
        });
    }
    let (container_id, id, pid) = (
        task.id.clone(),
        process.id.event_id().to_owned(),
        process.pid(),
    );
    tracing::info!(
        container = task.id,
        exec = process.id.exec,
        status = exit.status,
        "ended"
    );
    let (exit_status, exited_at) = (exit.status, timestamp(exit));
    host.events.send(&TaskExit {
        container_id,
        id,
        pid,
        exit_status,
        exited_at,
        ..Default::default()
    });
    process.publish_exit(exit);
}
