//! Delete: kills what still runs, removes the container or the exec, and publishes the deletion.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::TaskDelete;
use rustix::process::Signal;

use super::kill::{kill_unstarted, release};
use super::timestamp;
use crate::blocking::blocking;
use crate::delete;
use crate::error::TaskError;
use crate::host::Host;
use crate::lifecycle::{Verb, Verdict};
use crate::process::Process;
use crate::task::{Body, Task};

/// How long the exit of an exec process that was killed with its container may take. A process that
/// takes longer keeps the cgroup from being removed, and that error names the reason.
const EXEC_EXIT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn delete(
    host: &Arc<Host>,
    request: DeleteRequest,
) -> Result<DeleteResponse, TaskError> {
    let task = host.task_when_created(&request.id).await?;
    let process = task.process(&request.exec_id)?;
    if process.check(Verb::Delete)? == Verdict::EndFirst {
        end_unstarted(host, &task, &process).await?;
    }
    let exit = process.wait().await;
    drop(task.kills.write().await);
    let _turn = process.turn.lock().await;
    // Another Delete may have been faster, and the id be in use by a new container.
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
        // Last: a host that waits for its last container ends after this.
        host.remove_task(&id);
    } else {
        task.remove_exec(&request.exec_id);
    }
    Ok(DeleteResponse {
        pid: process.pid(),
        exit_status: exit.status,
        exited_at: timestamp(exit),
        ..Default::default()
    })
}

/// Deletes a container after containerd had cancelled its Create.
pub(crate) async fn undo_create(host: &Arc<Host>, id: &str) {
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
            "cannot delete the container of a cancelled Create: {}",
            crate::text::chain(&error)
        ),
    }
}

/// Kills a process that was never started.
async fn end_unstarted(
    host: &Arc<Host>,
    task: &Arc<Task>,
    process: &Arc<Process>,
) -> Result<(), TaskError> {
    match &task.body {
        Body::Pod(pod) if process.id.exec.is_empty() => {
            release(host, task, &pod.held, Signal::KILL).await.map(drop)
        }
        // An exec process comes into being when it is started.
        _ if process.pidfd().is_none() => kill_unstarted(process, Verb::Kill).map(drop),
        _ => process.signal(Signal::KILL),
    }
}

/// Kills exec processes that outlived the container's first process, so that the container's
/// deletion is its last event.
async fn end_execs(task: &Arc<Task>) -> Result<(), TaskError> {
    let execs = task.all_execs();
    for exec in &execs {
        // Its start may be under way. None begins after this: the first process has exited.
        drop(exec.process.turn.lock().await);
    }
    for exec in execs.iter().filter(|exec| exec.process.pidfd().is_some()) {
        exec.process.signal(Signal::KILL)?;
        if tokio::time::timeout(EXEC_EXIT_TIMEOUT, exec.process.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                container = task.id,
                exec = exec.process.id.exec,
                "it was killed and has not exited after {EXEC_EXIT_TIMEOUT:?}"
            );
        }
    }
    Ok(())
}
