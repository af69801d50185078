//! A process that exec adds to a container: confined outside of the container's pid namespace, and
//! then forked into it.
//!
//! ```text
//! host                          first process, outside                 second process, inside
//!  │ setup request ────────────► │ namespaces, privileges, filters       │
//!  │ ◄────────────── its number  │ clone(CLONE_PARENT) ────────────────► │ waits
//!  │ waits for its end           └ ends                                  │
//!  │ continue ─────────────────────────────────────────────────────────► │ setsid, prepare
//!  │ ◄──────────────────────────────────────────────────────────── ready │
//!  │ start ────────────────────────────────────────────────────────────► │ run
//! ```
//!
//! A program in the container can signal every process of its pid namespace, and with
//! `CAP_SYS_PTRACE` attach to it. So a process that is forked there has its setup request, and no
//! more privileges than the program that it is to run. The bytes of a guest are read in the second
//! process: outside, code that takes an engine over could signal processes of the node.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::de::DeserializeOwned;

use super::messages::{CONTINUE, ExecSetup, NativeProgram, SetupReply};
use super::{
    NEVER_RAN, Streams, finish, privileges, proc, receive_setup, receives, report, set_name,
    take_streams,
};
use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::{NoNewPrivileges, ProcessPlan};
use crate::seccomp::{Pass, SeccompFilter};
use crate::wire::WireFd;
use crate::workload::Refusal;

/// A process with no more privileges than its program, except for the calls that the pass allows.
pub(super) struct Confined<P> {
    program: P,
    streams: Streams,
    pass: Pass,
    /// The address at which the C library keeps the number of the thread.
    tid_address: Option<u64>,
    /// The filter that the process installs after its last use of the pass; none if it executes a
    /// program, which does not know the pass.
    closing: Option<SeccompFilter>,
}

/// Runs both processes.
pub(super) fn run_process<O: DeserializeOwned, P, R>(
    control: OwnedFd,
    enter: fn(O) -> Result<Confined<P>, Failure>,
    prepare: fn(P) -> Result<R, Refusal>,
    run: fn(R) -> u8,
) -> u8 {
    let confined = match receive_setup(&control).and_then(enter) {
        Ok(confined) => confined,
        Err(failure) => {
            report(&control, SetupReply::Failed(failure), None);
            return NEVER_RAN;
        }
    };
    match kernel::fork_behind_gate(confined.pass, confined.tid_address)
        .step(|| "fork the process into the container (has the container ended?)")
    {
        Ok(Some(number)) => {
            report(&control, SetupReply::Forked(number), None);
            0
        }
        Ok(None) => {
            if !receives(&control, CONTINUE) {
                return NEVER_RAN;
            }
            match settle(&confined) {
                Ok(()) => finish(control, confined.program, prepare, run),
                Err(failure) => {
                    report(&control, SetupReply::Failed(failure), None);
                    NEVER_RAN
                }
            }
        }
        Err(failure) => {
            report(&control, SetupReply::Failed(failure), None);
            NEVER_RAN
        }
    }
}

/// Sets what a fork resets, and what can be set only in the process's own pid namespace.
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
pub(super) fn enter_guest<W>(request: ExecSetup<W>) -> Result<Confined<W>, Failure> {
    enter(request)
}

/// Enters a container as a Linux program.
pub(super) fn enter_native(
    request: ExecSetup<NativeProgram>,
) -> Result<Confined<NativeProgram>, Failure> {
    enter(request)
}

fn enter<P>(request: ExecSetup<P>) -> Result<Confined<P>, Failure> {
    let ExecSetup {
        name,
        container,
        view,
        proc,
        users,
        stdio,
        process,
        program,
    } = request;
    set_name(&name)?;
    // Out of the zygote's group, which is killed as a whole when the zygote is lost.
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
    privileges::apply(&process, proc, users, Some(pass))?;
    Ok(Confined {
        program,
        streams,
        pass,
        tid_address,
        closing: closing(&process, pass),
    })
}

fn closing(process: &ProcessPlan, pass: Pass) -> Option<SeccompFilter> {
    // Without no_new_privs a process cannot install a filter after its privileges were dropped.
    let can = process.no_new_privileges == NoNewPrivileges::Set && !process.filters.is_empty();
    can.then(|| SeccompFilter::closing_gate(pass))
}

/// Joins the container's namespaces; its pid namespace is entered by the next fork.
fn join(container: &WireFd) -> Result<(), Failure> {
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(container.as_fd(), all).step(|| "enter the container's namespaces")
}
