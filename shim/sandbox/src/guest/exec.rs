//! Further processes in a running container: another guest, or a Linux program of the container's
//! root.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use container_cgroup::JoinMethod;
use process_forker::Zygote;

use super::{Guest, NewProcess, Pending, Stdio, address_space, sources};
use crate::child;
use crate::child::messages::{ExecSetup, NativeProgram};
use crate::error::{SandboxError, Step as _};
use crate::plan::ProcessPlan;
use crate::wire::WireFd;
use crate::workload::Workload;

/// Another guest in a container.
#[derive(Debug)]
pub struct NewExec<W> {
    /// For messages, and what the process is called.
    pub name: String,
    /// What it is allowed.
    pub process: ProcessPlan,
    /// What runs in it.
    pub workload: W,
    /// Its standard streams.
    pub stdio: Stdio,
    /// How it comes into the container's cgroup.
    pub join_method: JoinMethod,
}

/// A Linux program in a guest's container.
#[derive(Debug)]
pub struct NewNativeExec {
    /// For messages.
    pub name: String,
    /// What it is allowed.
    pub process: ProcessPlan,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of
    /// `env`.
    pub args: Vec<String>,
    /// Its environment: `NAME=value` each.
    pub env: Vec<String>,
    /// Its working folder, in the container.
    pub cwd: PathBuf,
    /// Its standard streams.
    pub stdio: Stdio,
    /// How it comes into the container's cgroup.
    pub join_method: JoinMethod,
}

/// Forks another guest's process for the container of `inside`; it can be started when the result
/// is ready. `join` is as in [`fork`](super::fork).
///
/// # Errors
/// When it cannot be forked: then nothing of the process is left.
pub fn exec<W: Workload>(
    zygote: &Zygote,
    inside: &Guest,
    new: NewExec<W>,
    join: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Pending, SandboxError> {
    let NewExec {
        name,
        process,
        workload,
        stdio,
        join_method,
    } = new;
    let new_process = new_process(&name, child::exec::<W>, join_method, &process);
    let forked = new_process.fork(zygote, join)?;
    address_space::check(forked.child.pid(), &process)?;
    let request = request(name, inside, process, stdio, workload)?;
    Ok(forked.set_up(&request)?.outside())
}

/// Forks a process for the container of `inside` that will execute a Linux program when it is
/// started; it is ready when the result is. `join` is as in [`fork`](super::fork).
///
/// # Errors
/// As [`exec`]; also when the container's `/proc` cannot be made.
pub fn exec_native(
    zygote: &Zygote,
    inside: &Guest,
    new: NewNativeExec,
    join: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Pending, SandboxError> {
    let NewNativeExec {
        name,
        process,
        args,
        env,
        cwd,
        stdio,
        join_method,
    } = new;
    let view = inside
        .view
        .as_ref()
        .map(|view| view.namespace(zygote, &inside.name))
        .transpose()?;
    let new_process = new_process(&name, child::exec_native, join_method, &process);
    let request = ExecSetup {
        view,
        ..request(
            name,
            inside,
            process,
            stdio,
            NativeProgram { args, env, cwd },
        )?
    };
    Ok(new_process.fork(zygote, join)?.set_up(&request)?.outside())
}

fn new_process(
    name: &str,
    entry: fn(OwnedFd) -> u8,
    join_method: JoinMethod,
    process: &ProcessPlan,
) -> NewProcess {
    NewProcess {
        name: name.to_owned(),
        entry,
        namespaces: 0,
        join_method,
        oom_score_adj: process.oom_score_adj,
    }
}

fn request<P>(
    name: String,
    inside: &Guest,
    process: ProcessPlan,
    stdio: Stdio,
    program: P,
) -> Result<ExecSetup<P>, SandboxError> {
    let container = inside
        .pidfd
        .try_clone()
        .step(|| format!("refer to the container of {name}"))
        .map_err(SandboxError::Host)?;
    let proc = sources::proc_if(sources::is_labelled(&process)).map_err(SandboxError::Host)?;
    let users = sources::shared(inside.users.as_ref()).map_err(SandboxError::Host)?;
    Ok(ExecSetup {
        name,
        container: WireFd::new(container),
        view: None,
        proc,
        users,
        stdio: stdio.into(),
        process,
        program,
    })
}
