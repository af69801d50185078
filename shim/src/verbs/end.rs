//! The end of a process: seen, told once, and what is left of it removed.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::{TaskDelete, TaskExit, TaskOOM};
use rustix::process::Signal;

use super::kill::{kill_unstarted, release};
use super::{blocking, timestamp};
use crate::delete;
use crate::error::TaskError;
use crate::host::Host;
use crate::lifecycle::{Verb, Verdict};
use crate::process::{self, Exit, Process};
use crate::task::{Body, Task};

/// How long processes that were killed with their container may take to be told of. Who takes
/// longer keeps the cgroup from being removed, which says why.
const DYING: Duration = Duration::from_secs(10);

/// Waits for the end of `process` beside everything else, and tells of it once.
pub(super) fn watch(host: &Arc<Host>, task: &Arc<Task>, process: &Arc<Process>) {
    // A thread holds a pod's namespaces: who lets them go tells of the end.
    let Some(pidfd) = process.pidfd().map(Arc::clone) else {
        return;
    };
    let (host, task, process) = (Arc::clone(host), Arc::clone(task), Arc::clone(process));
    tokio::spawn(async move {
        let exit = process::end_of(pidfd).await.unwrap_or_else(|error| {
            tracing::error!(
                container = task.id,
                "lost process {}: {error}",
                process.pid()
            );
            Exit::by_signal(Signal::KILL)
        });
        ended(&host, &task, &process, exit).await;
    });
}

/// `process` has ended: its output leaves, the event goes, and those who wait are told.
pub(super) async fn ended(host: &Host, task: &Task, process: &Process, exit: Exit) {
    process.is_over();
    let _turn = process.turn.lock().await;
    process.drained().await;
    // The counter is the whole container's: what was killed may be the first process or one that it
    // started.
    if exit.is_kill()
        && task
            .cgroup
            .oom_kills()
            .is_ok_and(|kills| task.oom_kills.are_new(kills))
    {
        host.events.send(&TaskOOM {
            container_id: task.id.clone(),
            ..Default::default()
        });
    }
    let (container_id, id, pid) = (
        task.id.clone(),
        process.id.of_events().to_owned(),
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
    process.tell(exit);
}

pub(crate) async fn delete(
    host: &Arc<Host>,
    request: DeleteRequest,
) -> Result<DeleteResponse, TaskError> {
    let task = host.task_once_made(&request.id).await?;
    let process = task.process(&request.exec_id)?;
    if process.allows(Verb::Delete)? == Verdict::EndFirst {
        end_unstarted(host, &task, &process).await?;
    }
    let exit = process.wait().await;
    drop(task.kills.write().await);
    let _turn = process.turn.lock().await;
    // Somebody who asked for the same may have been faster, and the id be another's by now.
    if !Arc::ptr_eq(
        &host.task(&request.id)?.process(&request.exec_id)?,
        &process,
    ) {
        return Err(TaskError::NotFound { id: request.id });
    }
    if request.exec_id.is_empty() {
        end_execs(&task).await?;
        let (in_host, this) = (Arc::clone(host), Arc::clone(&task));
        blocking(move || delete::delete(&in_host, &this)).await?;
        let id = request.id.clone();
        let (container_id, pid, exit_status, exited_at) =
            (request.id, process.pid(), exit.status, timestamp(exit));
        host.events.send(&TaskDelete {
            container_id,
            pid,
            exit_status,
            exited_at,
            ..Default::default()
        });
        // Last: a host that waits for its last container's end has nothing more to say then.
        host.forget(&id);
    } else {
        task.forget_exec(&request.exec_id);
    }
    Ok(DeleteResponse {
        pid: process.pid(),
        exit_status: exit.status,
        exited_at: timestamp(exit),
        ..Default::default()
    })
}

/// Deletes a container that was made when whoever had asked for it had given up.
pub(crate) async fn take_back(host: &Arc<Host>, id: &str) {
    match delete(
        host,
        DeleteRequest {
            id: id.to_owned(),
            ..Default::default()
        },
    )
    .await
    {
        // containerd deletes it too, and may be faster.
        Ok(_) | Err(TaskError::NotFound { .. }) => {}
        Err(error) => tracing::warn!(
            container = id,
            "cannot take it back: {}",
            crate::error::chain(&error)
        ),
    }
}

/// Ends a process that was never started.
async fn end_unstarted(
    host: &Arc<Host>,
    task: &Arc<Task>,
    process: &Arc<Process>,
) -> Result<(), TaskError> {
    match &task.body {
        Body::Pod(pod) if process.id.exec.is_empty() => {
            release(host, task, &pod.held, Signal::KILL).await.map(drop)
        }
        // An exec comes to be when it is started.
        _ if process.pidfd().is_none() => kill_unstarted(process, Verb::Kill).map(drop),
        _ => process.signal(Signal::KILL),
    }
}

/// Ends what exec added and outlived the container's first process, so that the container's
/// deletion is the last that is told of it.
async fn end_execs(task: &Arc<Task>) -> Result<(), TaskError> {
    let execs = task.all_execs();
    for exec in &execs {
        // Its start may be under way. After this none begins: the first process has ended.
        drop(exec.process.turn.lock().await);
    }
    for exec in execs.iter().filter(|exec| exec.process.pidfd().is_some()) {
        exec.process.signal(Signal::KILL)?;
        if tokio::time::timeout(DYING, exec.process.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                container = task.id,
                exec = exec.process.id.exec,
                "it was killed and has not ended after {DYING:?}"
            );
        }
    }
    Ok(())
}
