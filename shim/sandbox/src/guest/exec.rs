//! More processes in a container that runs: another guest, or a Linux program of the container's
//! root.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use container_cgroup::JoinMethod;
use process_forker::Zygote;

use super::{Birth, Guest, Pending, Stdio, sources};
use crate::child;
use crate::child::orders::{ExecOrders, NativeProgram};
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
    pub entrance: JoinMethod,
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
    pub entrance: JoinMethod,
}

/// Forks another guest's process for the container of `inside`; it is ready to start when the
/// result is. `adopt` is as in [`fork`](super::fork).
///
/// # Errors
/// When it cannot be forked: then nothing of the process is left.
pub fn exec<W: Workload>(
    zygote: &Zygote,
    inside: &Guest,
    new: NewExec<W>,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Pending, SandboxError> {
    let NewExec {
        name,
        process,
        workload,
        stdio,
        entrance,
    } = new;
    let birth = birth(&name, child::exec::<W>, entrance, &process);
    let orders = orders(name, inside, process, stdio, workload)?;
    Ok(birth.fork(zygote, adopt)?.obey(&orders)?.outside())
}

/// Forks a process for the container of `inside` that will execute a Linux program when it is
/// started; it is ready when the result is. `adopt` is as in [`fork`](super::fork).
///
/// # Errors
/// As [`exec`]; also when the container's `/proc` cannot be made.
pub fn exec_native(
    zygote: &Zygote,
    inside: &Guest,
    new: NewNativeExec,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Pending, SandboxError> {
    let NewNativeExec {
        name,
        process,
        args,
        env,
        cwd,
        stdio,
        entrance,
    } = new;
    let view = inside
        .view
        .as_ref()
        .map(|view| view.namespace(zygote, &inside.name))
        .transpose()?;
    let birth = birth(&name, child::exec_native, entrance, &process);
    let orders = ExecOrders {
        view,
        ..orders(
            name,
            inside,
            process,
            stdio,
            NativeProgram { args, env, cwd },
        )?
    };
    Ok(birth.fork(zygote, adopt)?.obey(&orders)?.outside())
}

fn birth(
    name: &str,
    entry: fn(OwnedFd) -> u8,
    entrance: JoinMethod,
    process: &ProcessPlan,
) -> Birth {
    Birth {
        name: name.to_owned(),
        entry,
        namespaces: 0,
        entrance,
        oom_score_adj: process.oom_score_adj,
    }
}

fn orders<P>(
    name: String,
    inside: &Guest,
    process: ProcessPlan,
    stdio: Stdio,
    program: P,
) -> Result<ExecOrders<P>, SandboxError> {
    let container = inside
        .pidfd
        .try_clone()
        .step(|| format!("refer to the container of {name}"))
        .map_err(SandboxError::Host)?;
    let proc = sources::proc_if(sources::is_labelled(&process)).map_err(SandboxError::Host)?;
    let users = sources::shared(inside.users.as_ref()).map_err(SandboxError::Host)?;
    Ok(ExecOrders {
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
