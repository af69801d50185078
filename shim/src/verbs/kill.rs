//! Kill, Pause and Resume: signals, and the freezer, which delays them.

use std::sync::{Arc, Mutex};

use containerd_shim_protos::api::{Empty, KillRequest, PauseRequest, ResumeRequest};
use containerd_shim_protos::events::task::{TaskPaused, TaskResumed};
use pod_sandbox::Pod;
use rustix::process::Signal;

use super::exit;
use crate::blocking::blocking;
use crate::error::{CreateError, TaskError};
use crate::host::Host;
use crate::lifecycle::{Verb, Verdict};
use crate::process::{self, Exit, Process};
use crate::task::{Body, Task};

pub(crate) async fn kill(host: &Arc<Host>, request: KillRequest) -> Result<Empty, TaskError> {
    let task = host.task(&request.id)?;
    let process = task.process(&request.exec_id)?;
    let signal = process::signal(request.signal)?;
    let verb = if signal == Signal::KILL {
        Verb::Kill
    } else {
        Verb::Signal
    };
    process.check(verb)?;
    tracing::info!(
        container = task.id,
        exec = request.exec_id,
        signal = request.signal,
        "signal"
    );
    if let Body::Pod(pod) = &task.body {
        return release(host, &task, &pod.held, signal).await;
    }
    if process.pidfd().is_none() {
        // Its start may be under way: once that is done there is a process to signal.
        let _turn = process.turn.lock().await;
        if process.pidfd().is_none() {
            return kill_unstarted(&process, verb);
        }
    }
    if verb == Verb::Kill {
        process.mark_kill_pending();
    }
    if request.all && request.exec_id.is_empty() {
        // This includes the first process.
        let this = Arc::clone(&task);
        blocking(move || {
            Ok(this
                .cgroup
                .kill(request.signal)
                .map_err(CreateError::from)?)
        })
        .await?;
        process.release_exit();
    } else {
        process.signal(signal)?;
    }
    // Checked only now: a pause that was under way is done, or sees that a kill is pending.
    if process.state().verdict(verb) == Verdict::DoAndThaw {
        thaw_killed(&task, &process).await?;
    }
    Ok(Empty::new())
}

/// Thaws a killed process: it dies only after that. It may be gone already.
async fn thaw_killed(task: &Arc<Task>, process: &Process) -> Result<(), TaskError> {
    let this = Arc::clone(task);
    blocking(move || match this.cgroup.thaw() {
        Err(error) if error.is_gone() => Ok(()),
        thawed => Ok(thawed.map_err(CreateError::from)?),
    })
    .await?;
    process.advance(Verb::Kill);
    Ok(())
}

/// Kills an exec process that was not started: there is no process to signal, but its start is
/// refused from now on.
pub(super) fn kill_unstarted(process: &Process, verb: Verb) -> Result<Empty, TaskError> {
    match process.check(verb)? {
        Verdict::Do if verb == Verb::Kill => {
            process.mark_exited();
            process.publish_exit(Exit::by_signal(Signal::KILL));
            Ok(Empty::new())
        }
        _ => Err(TaskError::NotStarted {
            process: process.id.clone(),
        }),
    }
}

/// Ends a pod's sandbox. A pause program ends by each signal that Kubernetes sends, and so does the
/// thread that replaces it.
pub(super) async fn release(
    host: &Arc<Host>,
    task: &Arc<Task>,
    pod: &Mutex<Option<Pod>>,
    signal: Signal,
) -> Result<Empty, TaskError> {
    let held = failures::lock_ignoring_poison(pod).take();
    if let Some(pod) = held {
        let released = blocking(move || {
            pod.release();
            Ok(())
        });
        let released = released.await;
        // The watcher of a process reports its exit. The end of a thread is reported here even if
        // the release failed: the request cannot be repeated.
        if task.init.pidfd().is_none() {
            exit::handle(host, task, &task.init, Exit::by_signal(signal)).await;
        }
        released?;
    }
    Ok(Empty::new())
}

pub(crate) async fn pause(host: &Arc<Host>, request: PauseRequest) -> Result<Empty, TaskError> {
    let task = freeze_or_thaw(host, &request.id, Verb::Pause).await?;
    host.events.send(&TaskPaused {
        container_id: task.id.clone(),
        ..Default::default()
    });
    Ok(Empty::new())
}

pub(crate) async fn resume(host: &Arc<Host>, request: ResumeRequest) -> Result<Empty, TaskError> {
    let task = freeze_or_thaw(host, &request.id, Verb::Resume).await?;
    host.events.send(&TaskResumed {
        container_id: task.id.clone(),
        ..Default::default()
    });
    Ok(Empty::new())
}

async fn freeze_or_thaw(host: &Arc<Host>, id: &str, verb: Verb) -> Result<Arc<Task>, TaskError> {
    let task = host.task(id)?;
    if matches!(task.body, Body::Pod(_)) {
        return Err(TaskError::NoProcess { id: id.to_owned() });
    }
    let this = Arc::clone(&task);
    let turn = task.init.turn.lock().await;
    task.init.check(verb)?;
    let done = blocking(move || {
        let done = if verb == Verb::Pause {
            this.cgroup.freeze()
        } else {
            this.cgroup.thaw()
        };
        Ok(done.map_err(CreateError::from)?)
    });
    done.await?;
    task.init.advance(verb);
    if verb == Verb::Pause && task.init.is_kill_pending() {
        thaw_killed(&task, &task.init).await?;
        return Err(TaskError::Gone {
            process: task.init.id.clone(),
        });
    }
    drop(turn);
    Ok(task)
}
