//! A process that exec adds to a container: confined outside of the container's pid namespace, and
//! then born inside it.
//!
//! ```text
//! host                          first process, outside                 second process, inside
//!  │ orders ───────────────────► │ namespaces, privileges, filters       │
//!  │ ◄────────────── its number  │ clone(CLONE_PARENT) ────────────────► │ waits
//!  │ waits for its end           └ ends                                  │
//!  │ go on ────────────────────────────────────────────────────────────► │ setsid, prepare
//!  │ ◄──────────────────────────────────────────────────────────── ready │
//!  │ start ────────────────────────────────────────────────────────────► │ run
//! ```
//!
//! A program in the container can signal every process of its pid namespace, and with
//! `CAP_SYS_PTRACE` attach to it. So what is born there has its orders, and is allowed no more than
//! the program that it is to run. The bytes of a guest are read in the second process: outside,
//! what takes an engine over could signal processes of the node.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::de::DeserializeOwned;

use super::orders::{Answer, ExecOrders, GO_ON, NativeProgram};
use super::{
    NEVER_RAN, Streams, await_orders, finish, is_told, powers, proc, rename, report, take_streams,
};
use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::{NoNewPrivileges, ProcessPlan};
use crate::seccomp::{Pass, SeccompFilter};
use crate::wire::WireFd;

/// A process that is allowed no more than what it is to run, but for what the pass lets through.
pub(super) struct Confined<P> {
    program: P,
    streams: Streams,
    pass: Pass,
    /// Where the C library keeps the number of the thread.
    tid_address: Option<u64>,
    /// The filter that the process takes when it needs the pass no more; none where it executes a
    /// program, which does not know the pass.
    closing: Option<SeccompFilter>,
}

/// The life of both processes.
pub(super) fn live<O: DeserializeOwned, P, R>(
    control: OwnedFd,
    enter: fn(O) -> Result<Confined<P>, Failure>,
    prepare: fn(P) -> Result<R, String>,
    tell: fn(&R) -> Option<String>,
    run: fn(R) -> u8,
) -> u8 {
    let confined = match await_orders(&control).and_then(enter) {
        Ok(confined) => confined,
        Err(failure) => {
            report(&control, Answer::Failed(failure), None);
            return NEVER_RAN;
        }
    };
    match kernel::fork_behind_gate(confined.pass, confined.tid_address)
        .step(|| "fork the process into the container (has the container ended?)")
    {
        Ok(Some(number)) => {
            report(&control, Answer::Born(number), None);
            0
        }
        Ok(None) => {
            if !is_told(&control, GO_ON) {
                return NEVER_RAN;
            }
            match settle(&confined) {
                Ok(()) => finish(control, confined.program, prepare, tell, run),
                Err(failure) => {
                    report(&control, Answer::Failed(failure), None);
                    NEVER_RAN
                }
            }
        }
        Err(failure) => {
            report(&control, Answer::Failed(failure), None);
            NEVER_RAN
        }
    }
}

/// What a process loses when it is forked, or has in its own pid namespace alone.
fn settle<P>(confined: &Confined<P>) -> Result<(), Failure> {
    let Confined {
        streams,
        pass,
        closing,
        ..
    } = confined;
    kernel::die_with_parent_behind_gate(*pass).step(|| "die with the host")?;
    kernel::setsid_behind_gate(*pass).step(|| "begin a group of processes")?;
    if *streams == Streams::Terminal {
        kernel::take_terminal_behind_gate(*pass).step(|| "take the terminal")?;
    }
    closing
        .as_ref()
        .map_or(Ok(()), |filter| filter.install_with(*pass))
        .step(|| "close the filters of system calls")
}

/// Enters a container as another guest.
pub(super) fn enter_guest<W>(orders: ExecOrders<W>) -> Result<Confined<W>, Failure> {
    enter(orders)
}

/// Enters a container as a Linux program.
pub(super) fn enter_native(
    orders: ExecOrders<NativeProgram>,
) -> Result<Confined<NativeProgram>, Failure> {
    enter(orders)
}

fn enter<P>(orders: ExecOrders<P>) -> Result<Confined<P>, Failure> {
    let ExecOrders {
        name,
        container,
        view,
        proc,
        users,
        stdio,
        process,
        program,
    } = orders;
    rename(&name)?;
    // Out of the zygote's group, which ends as a whole when the zygote is lost.
    rustix::process::setsid().step(|| "begin a group of processes")?;
    let streams = take_streams(stdio)?;
    let seen = view.as_ref().map(proc::clone).transpose()?;
    drop(view);
    join(&container)?;
    drop(container);
    if let Some(seen) = seen {
        proc::show(&seen)?;
    }
    let (pass, tid_address) = (
        Pass::new().step(|| "draw a random number")?,
        process_forker::tid_address(),
    );
    powers::reduce(&process, proc, users, Some(pass))?;
    Ok(Confined {
        program,
        streams,
        pass,
        tid_address,
        closing: closing(&process, pass),
    })
}

fn closing(process: &ProcessPlan, pass: Pass) -> Option<SeccompFilter> {
    // Without it a process may install no filter once its privileges are gone.
    let can = process.no_new_privileges == NoNewPrivileges::Set && !process.filters.is_empty();
    can.then(|| SeccompFilter::closing_gate(pass))
}

/// Joins a container; its pid namespace is for the children alone.
fn join(container: &WireFd) -> Result<(), Failure> {
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(container.as_fd(), all).step(|| "enter the container's namespaces")
}
