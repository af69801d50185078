//! Exec: a further process in a running container, a guest or a Linux program of the container's
//! files.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use container_io::Io;
use guest_sandbox::lookup::Files;
use guest_sandbox::plan::{self, ProcessPlan};
use guest_sandbox::{Guest, NewExec, NewNativeExec, Pending, SandboxError, WireFd};
use oci_spec::runtime::Process as ProcessSpec;
use rustix::fs::{Mode, OFlags};

use crate::artifact::plan::Purpose;
use crate::artifact::{self, Execution, Runnable, Wanted};
use crate::blocking::{blocking, in_own_thread};
use crate::error::{CreateError, TaskError};
use crate::host::Host;
use crate::lookup::{self, LookupOwner};
use crate::process;
use crate::program::GuestProgram;
use crate::streams::{self, for_guest, for_native};
use crate::task::{Body, GuestBody, Task, TaskExec};
use crate::wait::{EXEC_SETUP_TIMEOUT, setup_permit, until_ready};
use crate::wasi::WasiContext;
use crate::workload::{self, CommandLine, Entrypoint, Workload};

/// A process that was started.
pub(crate) struct Started {
    /// Its pid on the node.
    pub(crate) pid: u32,
    /// Its pidfd.
    pub(crate) pidfd: Arc<OwnedFd>,
    /// The host's end of its streams.
    pub(crate) io: Io,
}

/// Starts `exec` in the container of `task`, unless `cancelled` resolves before.
///
/// # Errors
/// If it cannot be run; nothing of it is left then.
pub(crate) async fn start(
    host: &Arc<Host>,
    task: &Arc<Task>,
    exec: &Arc<TaskExec>,
    cancelled: impl Future<Output = ()>,
) -> Result<Started, TaskError> {
    tokio::pin!(cancelled);
    let _permit = setup_permit(&task.setups, &task.id, cancelled.as_mut()).await?;
    let (in_host, in_task, this) = (Arc::clone(host), Arc::clone(task), Arc::clone(exec));
    match &task.body {
        Body::Guest(body) => {
            let workload = look_up(host, task, body, exec).await?;
            let workload = with_code(host, body, workload).await?;
            let (pending, io, execution) =
                blocking(move || Ok(set_up(&in_host, &in_task, &this, workload)?)).await?;
            let ready = until_ready(pending, EXEC_SETUP_TIMEOUT, cancelled).await;
            let ready = ready.map_err(|error| name_oom(task, exec, error));
            let this = Arc::clone(exec);
            blocking(move || Ok(complete(&this, ready, io, execution)?)).await
        }
        Body::Native(_) => in_own_thread(move || in_native(&in_task, &this)).await,
        Body::Pod(_) => Err(TaskError::NoProcess {
            id: task.id.clone(),
        }),
    }
}

fn in_native(task: &Task, exec: &TaskExec) -> Result<Started, TaskError> {
    let Body::Native(container) = &task.body else {
        return Err(TaskError::NoProcess {
            id: task.id.clone(),
        });
    };
    let (stdio, io) =
        streams::open(&exec.process.streams, Some(&exec.spec)).map_err(CreateError::from)?;
    let process = container
        .exec(exec.spec.clone(), for_native(stdio))
        .start()
        .map_err(CreateError::from)?;
    Ok(Started {
        pid: process.pid(),
        pidfd: process::share_pidfd(process.pidfd())?,
        io,
    })
}

/// Looks its program up in the running container's files.
async fn look_up(
    host: &Arc<Host>,
    task: &Task,
    body: &GuestBody,
    exec: &TaskExec,
) -> Result<Workload, CreateError> {
    let command = command(&exec.spec);
    let entrypoint = Entrypoint::parse(command.args)?;
    let root = format!("/proc/{}/root", body.process.pid());
    let root = rustix::fs::open(
        root.as_str(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let root = root.map_err(|errno| CreateError::Gone {
        id: task.id.clone(),
        source: errno.into(),
    })?;
    let files = Files::Running {
        root: WireFd::new(root),
    };
    let owner = LookupOwner {
        container: &task.id,
        pod: task.sandbox.as_deref(),
    };
    let last_exec = *failures::lock_ignoring_poison(&body.last_exec);
    let found = lookup::find(
        &host.lookups,
        host.zygotes.main(),
        owner,
        files,
        command,
        &entrypoint.path,
        last_exec.into_iter().chain(body.guest.known()).collect(),
    )
    .await?;
    let workload = workload::for_exec(entrypoint, found, &body.guest)?;
    if let Workload::Guest(guest) = &workload {
        *failures::lock_ignoring_poison(&body.last_exec) = guest.known();
    }
    Ok(workload)
}

/// Adds the code that a guest runs. It does not wait for better code than there is.
async fn with_code(
    host: &Arc<Host>,
    body: &GuestBody,
    workload: Workload,
) -> Result<Runnable<Execution>, CreateError> {
    let Workload::Guest(guest) = workload else {
        return Ok(Runnable::Native);
    };
    let wanted = Wanted {
        guest: &guest,
        policy: &body.policy,
        purpose: Purpose::Exec,
    };
    let execution = artifact::choose(&host.artifacts, wanted).await?;
    Ok(Runnable::Guest(guest, execution))
}

/// Starts a process that is ready; removes its code if that does not load.
fn complete(
    exec: &TaskExec,
    ready: Result<Guest, CreateError>,
    io: Io,
    execution: Option<Execution>,
) -> Result<Started, CreateError> {
    let process = match (ready, execution) {
        (Err(CreateError::Sandbox(error)), Some(execution)) => {
            execution.discard_if_refused(&error);
            return Err(error.into());
        }
        (ready, execution) => {
            if let Some(execution) = execution {
                // Fails only for a second start, which the state machine refuses.
                let _ = exec.execution.set(execution);
            }
            ready?
        }
    };
    run(&process, io)
}

/// Forks the process, and sends its setup request.
fn set_up(
    host: &Host,
    task: &Task,
    exec: &TaskExec,
    workload: Runnable<Execution>,
) -> Result<(Pending, Io, Option<Execution>), CreateError> {
    let Body::Guest(body) = &task.body else {
        return Err(CreateError::Panicked(
            "the container runs no guest".to_owned(),
        ));
    };
    let command = command(&exec.spec);
    let join_method = task.cgroup.join_method()?;
    let (stdio, io) = streams::open(&exec.process.streams, Some(&exec.spec))?;
    let name = exec.process.id.exec.clone();
    // If systemd made the cgroup, a process can only be moved into it.
    let join = |pid| task.cgroup.add(pid).map_err(|error| error.to_string());
    Ok(match workload {
        Runnable::Guest(guest, execution) => {
            let process = plan_of(host, body, exec, plan::WorkloadKind::Guest)?;
            let wasi = WasiContext::of(command, &guest.entrypoint)?;
            let zygote = host.zygotes.of(execution.engine());
            let workload = GuestProgram::new(&guest, execution.code()?, wasi)?;
            let pending = guest_sandbox::exec(
                zygote,
                &body.process,
                NewExec {
                    name,
                    process,
                    workload,
                    stdio: for_guest(stdio),
                    join_method,
                },
                join,
            )?;
            (pending, io, Some(execution))
        }
        Runnable::Native => {
            let process = plan_of(host, body, exec, plan::WorkloadKind::Native)?;
            let (args, env, cwd) = (
                command.args.to_vec(),
                command.env.to_vec(),
                command.cwd.to_owned(),
            );
            let wanted = NewNativeExec {
                name,
                process,
                args,
                env,
                cwd,
                stdio: for_guest(stdio),
                join_method,
            };
            let zygote = host.zygotes.main();
            let pending = guest_sandbox::exec_native(zygote, &body.process, wanted, join)?;
            (pending, io, None)
        }
    })
}

/// Names OOM as the cause if the kernel killed the process for lack of memory before it was ready.
fn name_oom(task: &Task, exec: &TaskExec, error: CreateError) -> CreateError {
    match error {
        // Recorded as reported: a later exit by SIGKILL is not reported as this OOM kill.
        CreateError::Sandbox(SandboxError::Killed(_))
            if task
                .cgroup
                .oom_kills()
                .is_ok_and(|kills| task.oom_kills.record(kills)) =>
        {
            CreateError::OutOfMemory {
                process: exec.process.id.clone(),
            }
        }
        error => error,
    }
}

/// Starts a process that is ready.
fn run(process: &Guest, io: Io) -> Result<Started, CreateError> {
    // Before the start: a process that cannot be waited for must not run.
    let pidfd = process::share_pidfd(process.pidfd())?;
    process
        .start()
        .inspect_err(|_| process::discard(pidfd.as_fd()))?;
    Ok(Started {
        pid: process.pid(),
        pidfd,
        io,
    })
}

fn plan_of(
    host: &Host,
    body: &GuestBody,
    exec: &TaskExec,
    runs: plan::WorkloadKind,
) -> Result<ProcessPlan, CreateError> {
    Ok(ProcessPlan::of(
        &exec.spec,
        body.seccomp.as_ref(),
        runs,
        host.kernel_features,
        &host.filters,
    )?)
}

fn command(process: &ProcessSpec) -> CommandLine<'_> {
    CommandLine {
        args: process.args().as_deref().unwrap_or_default(),
        env: process.env().as_deref().unwrap_or_default(),
        cwd: process.cwd().as_path(),
    }
}
