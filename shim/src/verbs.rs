//! The verbs of the Task service: each checks its request against the state machine, acts, and
//! publishes the event.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use container_io::Streams;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, Empty, ExecProcessRequest, PidsRequest, PidsResponse, ResizePtyRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskExecAdded, TaskExecStarted, TaskIO, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::types::task::ProcessInfo;
use guest_sandbox::rootfs::Mount;
use host_reports::logs::ContainerInfo;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};

use crate::blocking::blocking;
use crate::bundle::Bundle;
use crate::create::{self, NewTask};
use crate::error::{CreateError, TaskError};
use crate::exec;
use crate::host::Host;
use crate::lifecycle::{State, Verb};
use crate::options;
use crate::process::{Exit, Process};
use crate::task::{Body, Task, TaskExec};
use exit::watch;

mod exit;
mod kill;
mod delete;

pub(crate) use delete::{delete, undo_create};
pub(crate) use kill::{kill, pause, resume};

pub(crate) async fn create(
    host: &Arc<Host>,
    request: CreateTaskRequest,
) -> Result<CreateTaskResponse, TaskError> {
    if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
        return Err(TaskError::Unsupported {
            what: "starting from a checkpoint",
        });
    }
    let bundle = Bundle::load(Path::new(&request.bundle))?;
    let options = options::for_container(host, &request, &bundle)?;
    let reservation = host.reserve(&request.id, options.handler.max_containers.map(Into::into))?;
    host.logs.attach(&request.id, Path::new(&request.bundle));
    let new = NewTask {
        id: request.id.clone(),
        rootfs: request.rootfs.iter().map(mount).collect(),
        streams: streams(
            &request.stdin,
            &request.stdout,
            &request.stderr,
            request.terminal,
        ),
        options,
    };
    // On the heap: every waiting request would hold space for it, tens of kilobytes for
    // containerd's client alone.
    let task = match Box::pin(create::create(host, bundle, new)).await {
        Ok(task) => Arc::new(task),
        Err(error) => {
            tracing::error!(
                container = request.id,
                "cannot create: {}",
                crate::text::chain(&error)
            );
            host.logs.detach(&request.id);
            if error.needs_new_host() {
                host.drain().await;
            }
            return Err(error.into());
        }
    };
    let pid = task.init.pid();
    host.logs.describe(
        &task.id,
        ContainerInfo {
            pod: task.pod.clone(),
            guest: task.guest().map(|guest| guest.digest.to_image_digest()),
        },
    );
    if let Body::Guest(body) = &task.body {
        let (engine, tier) = (body.execution.engine(), body.execution.tier());
        tracing::info!(container = task.id, pid, %engine, tier, "created");
        if let Some(why) = body.execution.needs_attention() {
            tracing::warn!(container = task.id, "the guest is interpreted: {why}");
        }
    } else {
        tracing::info!(container = task.id, pid, "created");
    }
    let CreateTaskRequest {
        id: container_id,
        bundle,
        rootfs,
        stdin,
        stdout,
        stderr,
        terminal,
        ..
    } = request;
    let io = MessageField::some(TaskIO {
        stdin,
        stdout,
        stderr,
        terminal,
        ..Default::default()
    });
    host.events.send(&TaskCreate {
        container_id,
        bundle,
        rootfs,
        io,
        pid,
        ..Default::default()
    });
    watch(host, &task, &task.init);
    reservation.fill(task);
    Ok(CreateTaskResponse {
        pid,
        ..Default::default()
    })
}

fn mount(mount: &containerd_shim_protos::types::mount::Mount) -> Mount {
    Mount {
        fs_type: mount.type_.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

fn streams(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> Streams {
    Streams {
        stdin: stdin.to_owned(),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        terminal,
    }
}

fn timestamp(exit: Exit) -> MessageField<Timestamp> {
    MessageField::some(Timestamp::from(exit.at))
}

/// Starts a process. `cancelled` resolves when containerd cancels the request: the set-up of an
/// exec process is stopped then.
pub(crate) async fn start(
    host: &Arc<Host>,
    request: StartRequest,
    cancelled: impl Future<Output = ()> + Send,
) -> Result<StartResponse, TaskError> {
    let task = host.task(&request.id)?;
    if !request.exec_id.is_empty() {
        return start_exec(host, &task, &request.exec_id, cancelled).await;
    }
    // Held until both are sent, so that the exit event of a short guest follows its start event.
    let _turn = task.init.turn.lock().await;
    task.init.check(Verb::Start)?;
    let running = Arc::clone(&task);
    blocking(move || match &running.body {
        Body::Guest(body) => Ok(body.process.start().map_err(CreateError::from)?),
        Body::Native(container) => Ok(container.start().map_err(CreateError::from)?),
        Body::Pod(_) => Ok(()),
    })
    .await?;
    task.init.advance(Verb::Start);
    let pid = task.init.pid();
    host.events.send(&TaskStart {
        container_id: request.id,
        pid,
        ..Default::default()
    });
    Ok(StartResponse {
        pid,
        ..Default::default()
    })
}

async fn start_exec(
    host: &Arc<Host>,
    task: &Arc<Task>,
    name: &str,
    cancelled: impl Future<Output = ()> + Send,
) -> Result<StartResponse, TaskError> {
    let added = task.exec(name)?;
    let _turn = added.process.turn.lock().await;
    added.process.check(Verb::Start)?;
    task.init.check(Verb::Exec)?;
    let started = Box::pin(exec::start(host, task, &added, cancelled))
        .await
        .inspect_err(|_| {
            // It will never exit by itself, and Delete waits for its exit.
            added.process.mark_exited();
            added.process.publish_exit(Exit::not_runnable());
        })?;
    added
        .process
        .attach(started.pid, Some(started.pidfd), Some(started.io));
    added.process.advance(Verb::Start);
    let (container_id, exec_id, pid) = (task.id.clone(), name.to_owned(), started.pid);
    host.events.send(&TaskExecStarted {
        container_id,
        exec_id,
        pid,
        ..Default::default()
    });
    watch(host, task, &added.process);
    Ok(StartResponse {
        pid,
        ..Default::default()
    })
}

pub(crate) async fn state(
    host: &Arc<Host>,
    request: StateRequest,
) -> Result<StateResponse, TaskError> {
    let task = host.task(&request.id)?;
    let process = task.process(&request.exec_id)?;
    let status = match process.state() {
        State::Created => Status::CREATED,
        State::Running => Status::RUNNING,
        State::Paused => Status::PAUSED,
        State::Exited => Status::STOPPED,
    };
    let exit = process.exit();
    Ok(StateResponse {
        id: request.id,
        exec_id: request.exec_id,
        bundle: task.bundle.display().to_string(),
        pid: process.pid(),
        status: status.into(),
        stdin: process.streams.stdin.clone(),
        stdout: process.streams.stdout.clone(),
        stderr: process.streams.stderr.clone(),
        terminal: process.streams.terminal,
        exit_status: exit.map(|exit| exit.status).unwrap_or_default(),
        exited_at: exit.map(timestamp).unwrap_or_default(),
        ..Default::default()
    })
}

pub(crate) async fn pids(
    host: &Arc<Host>,
    request: PidsRequest,
) -> Result<PidsResponse, TaskError> {
    let task = host.task(&request.id)?;
    let listed = match (&task.body, task.init.state()) {
        // The list is never empty: containerd, which requests it when it restarts, would take an
        // empty one for a task that never existed.
        (_, State::Exited) | (Body::Pod(_), _) => vec![task.init.pid()],
        // An error would make containerd, which requests it when it restarts, drop a running task.
        _ => task.cgroup.processes().unwrap_or_else(|error| {
            tracing::warn!(container = task.id, "cannot list processes: {error}");
            Vec::new()
        }),
    };
    // A process that was killed while it was created is in no cgroup until its exit is reported.
    let listed = if listed.is_empty() {
        vec![task.init.pid()]
    } else {
        listed
    };
    let processes = listed
        .into_iter()
        .map(|pid| ProcessInfo {
            pid,
            ..Default::default()
        })
        .collect();
    Ok(PidsResponse {
        processes,
        ..Default::default()
    })
}

pub(crate) async fn wait(
    host: &Arc<Host>,
    request: WaitRequest,
) -> Result<WaitResponse, TaskError> {
    let exit = host
        .task(&request.id)?
        .process(&request.exec_id)?
        .wait()
        .await;
    Ok(WaitResponse {
        exit_status: exit.status,
        exited_at: timestamp(exit),
        ..Default::default()
    })
}

pub(crate) async fn exec(
    host: &Arc<Host>,
    request: ExecProcessRequest,
) -> Result<Empty, TaskError> {
    let task = host.task(&request.id)?;
    if matches!(task.body, Body::Pod(_)) {
        return Err(TaskError::NoProcess { id: request.id });
    }
    task.init.check(Verb::Exec)?;
    let spec: ProcessSpec =
        serde_json::from_slice(&request.spec.value).map_err(|source| TaskError::ExecSpec {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
            source,
        })?;
    let streams = streams(
        &request.stdin,
        &request.stdout,
        &request.stderr,
        request.terminal,
    );
    let process = Arc::new(Process::new(&request.id, &request.exec_id, streams));
    let execution = OnceLock::new();
    task.add_exec(TaskExec {
        process,
        spec,
        execution,
    })?;
    host.events.send(&TaskExecAdded {
        container_id: request.id,
        exec_id: request.exec_id,
        ..Default::default()
    });
    Ok(Empty::new())
}

pub(crate) async fn update(
    host: &Arc<Host>,
    request: UpdateTaskRequest,
) -> Result<Empty, TaskError> {
    let task = host.task(&request.id)?;
    task.init.check(Verb::Update)?;
    let resources: LinuxResources =
        serde_json::from_slice(&request.resources.value).map_err(|source| {
            TaskError::Resources {
                id: request.id.clone(),
                source,
            }
        })?;
    blocking(move || Ok(task.cgroup.update(&resources).map_err(CreateError::from)?)).await?;
    Ok(Empty::new())
}

pub(crate) async fn stats(
    host: &Arc<Host>,
    request: StatsRequest,
) -> Result<StatsResponse, TaskError> {
    let task = host.task(&request.id)?;
    let metrics = blocking(move || Ok(task.cgroup.metrics().map_err(CreateError::from)?)).await?;
    Ok(StatsResponse {
        stats: MessageField::some(metrics),
        ..Default::default()
    })
}

pub(crate) async fn connect(
    host: &Arc<Host>,
    request: ConnectRequest,
) -> Result<ConnectResponse, TaskError> {
    let task = host.task(&request.id)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(ConnectResponse {
        shim_pid: std::process::id(),
        task_pid: task.init.pid(),
        version,
        ..Default::default()
    })
}

pub(crate) async fn close_io(
    host: &Arc<Host>,
    request: CloseIORequest,
) -> Result<Empty, TaskError> {
    let process = host.task(&request.id)?.process(&request.exec_id)?;
    if request.stdin {
        process.close_input();
    }
    Ok(Empty::new())
}

pub(crate) async fn resize_pty(
    host: &Arc<Host>,
    request: ResizePtyRequest,
) -> Result<Empty, TaskError> {
    let size = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    host.task(&request.id)?
        .process(&request.exec_id)?
        .resize(size(request.width), size(request.height))?;
    Ok(Empty::new())
}

pub(crate) async fn checkpoint(
    host: &Arc<Host>,
    request: CheckpointTaskRequest,
) -> Result<Empty, TaskError> {
    host.task(&request.id)?;
    Err(TaskError::Unsupported {
        what: "a checkpoint",
    })
}

/// Does nothing: containerd requests a shutdown after each deleted task, but this host serves
/// others and ends by itself when it is idle.
pub(crate) async fn shutdown(_: &Arc<Host>, _: ShutdownRequest) -> Result<Empty, TaskError> {
    Ok(Empty::new())
}
