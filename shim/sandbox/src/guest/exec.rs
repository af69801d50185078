//! More processes in a container that runs: another guest, or a Linux program of the container's root.

use std::path::PathBuf;

use container_cgroup::Entrance;

use super::{Birth, Guest, Stdio, sources};
use crate::child;
use crate::child::orders::{ExecOrders, NativeProgram};
use crate::error::{SandboxError, Step as _};
use crate::plan::ProcessPlan;
use crate::wire::WireFd;
use crate::workload::Workload;
use crate::zygote::Zygote;

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
    pub entrance: Entrance,
}

/// A Linux program in a guest's container.
#[derive(Debug)]
pub struct NewNativeExec {
    /// For messages.
    pub name: String,
    /// What it is allowed.
    pub process: ProcessPlan,
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub args: Vec<String>,
    /// Its environment: `NAME=value` each.
    pub env: Vec<String>,
    /// Its working folder, in the container.
    pub cwd: PathBuf,
    /// Its standard streams.
    pub stdio: Stdio,
    /// How it comes into the container's cgroup.
    pub entrance: Entrance,
}

/// Forks another guest's process inside the container of `inside`, and waits until it is ready to start. `adopt` is as in
/// [`fork`](super::fork).
///
/// # Errors
/// When it cannot be forked, a step fails or the workload refuses, or the container has ended: then nothing of the process
/// is left.
pub fn exec<W: Workload>(
    zygote: &Zygote,
    inside: &Guest,
    new: NewExec<W>,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Guest, SandboxError> {
    let NewExec { name, process, workload, stdio, entrance } = new;
    let birth = birth(&name, child::exec::<W>, inside, entrance, &process);
    birth.fork(zygote, adopt)?.obey(&orders(name, inside, process, stdio, workload)?)
}

/// Forks a process inside the container of `inside` that will execute a Linux program when it is started, and waits
/// until it is ready. `adopt` is as in [`fork`](super::fork).
///
/// # Errors
/// As [`exec`]; also when there is no such program, or the process may not execute it.
pub fn exec_native(
    zygote: &Zygote,
    inside: &Guest,
    new: NewNativeExec,
    adopt: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Guest, SandboxError> {
    let NewNativeExec { name, process, args, env, cwd, stdio, entrance } = new;
    let birth = birth(&name, child::exec_native, inside, entrance, &process);
    let program = NativeProgram { args, env, cwd, proc: inside.proc.clone() };
    birth.fork(zygote, adopt)?.obey(&orders(name, inside, process, stdio, program)?)
}

fn birth<'a>(name: &str, entry: fn(std::os::fd::OwnedFd) -> u8, inside: &'a Guest, entrance: Entrance, process: &ProcessPlan) -> Birth<'a> {
    Birth { name: name.to_owned(), entry, namespaces: 0, inside: Some(inside), entrance, oom_score_adj: process.oom_score_adj }
}

fn orders<P>(name: String, inside: &Guest, process: ProcessPlan, stdio: Stdio, program: P) -> Result<ExecOrders<P>, SandboxError> {
    let container = inside.pidfd.try_clone().step(|| format!("refer to the container of {name}")).map_err(SandboxError::Host)?;
    let proc = sources::proc_if(sources::is_labelled(&process)).map_err(SandboxError::Host)?;
    let users = sources::shared(inside.users.as_ref()).map_err(SandboxError::Host)?;
    Ok(ExecOrders { name, container: WireFd::new(container), proc, users, stdio: stdio.into(), process, program })
}
