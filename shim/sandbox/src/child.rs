//! Inside a container's process: from its first instruction to the guest's end.
//!
//! | file | what |
//! |---|---|
//! | `child/orders.rs` | what the host tells the process, and what it answers |
//! | `child/place.rs` | namespaces, names, kernel parameters |
//! | `child/root.rs` | the root file system: entered, mounted upon, closed |
//! | `child/devices.rs` | `/dev` |
//! | `child/target.rs` | where a mount goes, made where it is missing |
//! | `child/cover.rs` | masked and read-only paths |
//! | `child/powers.rs` | limits, labels, identity, capabilities, filters |
//! | `child/users.rs` | the users of a user namespace |
//! | `child/holder.rs` | a process that does nothing but hold a pod's namespaces |
//! | `child/proc.rs` | `/proc`, for a Linux program alone |
//! | `child/native.rs` | a Linux program in place of a guest |

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::de::DeserializeOwned;

use crate::error::{Failure, Step as _};
use crate::kernel;
use crate::plan::Namespace;
use crate::wire::{LONGEST_ORDERS, Message, WireFd, read_exact, write_all};
use crate::workload::Workload;
use cover::{Null, Top};
use orders::{Answer, ContainerOrders, ExecOrders, NativeProgram, WireStdio};

mod cover;
mod devices;
mod holder;
mod native;
pub(crate) mod orders;
mod place;
mod powers;
mod proc;
mod root;
mod target;
mod users;

/// The exit code of a process that nobody waits for: it was never started, or its set-up failed.
const NEVER_RAN: u8 = 125;

/// The life of a container's first process.
pub(crate) fn container<W: Workload>(control: OwnedFd) -> u8 {
    live(control, enter_container::<W>, prepare_guest, W::tell, W::run)
}

/// The life of another guest in a container.
pub(crate) fn exec<W: Workload>(control: OwnedFd) -> u8 {
    live(control, enter_exec::<W>, prepare_guest, W::tell, W::run)
}

/// The life of a Linux program in a container.
pub(crate) fn exec_native(control: OwnedFd) -> u8 {
    live(control, enter_native, native::find, |_| None, native::execute)
}

/// The life of a process that holds a pod's namespaces.
pub(crate) fn holder(control: OwnedFd) -> u8 {
    live(control, holder::enter, Ok, |()| None, holder::park)
}

fn live<O: DeserializeOwned, P, R>(
    control: OwnedFd,
    enter: fn(O) -> Result<P, Failure>,
    prepare: fn(P) -> Result<R, String>,
    tell: fn(&R) -> Option<String>,
    run: fn(R) -> u8,
) -> u8 {
    let ready = await_orders(&control).and_then(enter).map_err(Answer::Failed);
    match ready.and_then(|program| prepare(program).map_err(Answer::Refused)) {
        Ok(ready) => {
            if !(say(&control, Answer::Ready(tell(&ready))) && is_started(&control)) {
                return NEVER_RAN;
            }
            drop(control);
            run(ready)
        }
        Err(answer) => {
            say(&control, answer);
            NEVER_RAN
        }
    }
}

/// Cuts the process off from the zygote, joins its cgroup, and receives its orders.
fn await_orders<O: DeserializeOwned>(control: &OwnedFd) -> Result<O, Failure> {
    die_with_host()?;
    kernel::close_all_but(control.as_fd()).step(|| "close the zygote's descriptors")?;
    // Before the orders take memory, which counts where the process is then.
    let tasks = Message::receive(control, LONGEST_ORDERS).step(|| "receive the cgroup's files")?.into_descriptors();
    for file in &tasks {
        rustix::io::write(file, b"0").step(|| "join the cgroup")?;
    }
    drop(tasks);
    Message::receive(control, LONGEST_ORDERS).and_then(Message::value).step(|| "receive the plan")
}

/// Set anew whenever the process's identity changed, which takes it back. A host that ended before this is noticed by
/// its end of the socket.
fn die_with_host() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")
}

fn say(control: &OwnedFd, answer: Answer) -> bool {
    let bytes = rmp_serde::to_vec(&answer.fitting()).expect("an answer is made of strings");
    write_all(control, &(bytes.len() as u64).to_ne_bytes()).and_then(|()| write_all(control, &bytes)).is_ok()
}

/// Waits for the start. False when the host gave this process up, or ended.
fn is_started(control: &OwnedFd) -> bool {
    let mut byte = [0];
    read_exact(control, &mut byte).is_ok() && byte == [orders::START]
}

fn prepare_guest<W: Workload>(workload: W) -> Result<W::Ready, String> {
    // A signal that comes right after the creation must find the handlers.
    kernel::end_on_signals().step(|| "handle signals").map_err(|failure| failure.to_string())?;
    let ready = workload.prepare();
    // A guest is loaded with several times the memory that it then keeps, of which a container would hold the rest.
    kernel::trim_memory();
    ready
}

fn enter_container<W>(orders: ContainerOrders<W>) -> Result<W, Failure> {
    let ContainerOrders { name, plan, joined, sources, rootfs, proc, users, stdio, workload } = orders;
    rename(&name)?;
    take_stdio(stdio)?;
    place::join(joined)?;
    if plan.namespaces.cgroup == Namespace::New {
        unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "make the cgroup namespace")?;
    }
    place::furnish(&plan, proc.as_ref())?;
    if let Some(users) = &plan.users {
        users::make_for(users.root())?;
    }
    // What the set-up makes has the modes that it is to have.
    rustix::process::umask(rustix::fs::Mode::empty());
    let root = root::enter(rootfs)?;
    let mut null = devices::make(&root, &plan.devices)?;
    root::mount(&root, &plan.mounts, sources)?;
    let top = Top { folder: &root, path: Path::new("/") };
    cover::mask(top, &plan.masked, &mut null)?;
    cover::make_read_only(top, &plan.readonly)?;
    root::finish(&root, &plan.root)?;
    drop((null, root));
    powers::reduce(&plan.process, proc, users)?;
    Ok(workload)
}

fn enter_exec<W>(orders: ExecOrders<W>) -> Result<W, Failure> {
    let ExecOrders { name, container, proc, users, stdio, process, program } = orders;
    enter_running(&name, &container, stdio)?;
    powers::reduce(&process, proc, users)?;
    Ok(program)
}

fn enter_native(orders: ExecOrders<NativeProgram>) -> Result<NativeProgram, Failure> {
    let ExecOrders { name, container, proc, users, stdio, process, program } = orders;
    // Before the container's mounts take the place of the zygote's.
    let null = program.proc.as_ref().map(|_| Null::of_zygote()).transpose()?;
    enter_running(&name, &container, stdio)?;
    if let (Some(proc), Some(null)) = (&program.proc, null) {
        proc::show(proc, null)?;
    }
    powers::reduce(&process, proc, users)?;
    Ok(program)
}

/// Joins a container.
fn enter_running(name: &str, container: &WireFd, stdio: WireStdio) -> Result<(), Failure> {
    rename(name)?;
    take_stdio(stdio)?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(container.as_fd(), all).step(|| "enter the container's namespaces")
}

/// The process is called as its container: the kernel keeps 15 bytes of it.
fn rename(name: &str) -> Result<(), Failure> {
    let name = std::ffi::CString::new(format!("wasm:{name}")).step(|| "name the process")?;
    rustix::thread::set_name(&name).step(|| "name the process")?;
    // A dump or a debugger would show what the zygote's memory holds of other containers' code and of ours.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "forbid dumps of the process")
}

/// Leaves the host's terminal and process group, and takes the container's streams. What the host gives no stream for
/// stays `/dev/null`, the zygote's.
fn take_stdio(stdio: WireStdio) -> Result<(), Failure> {
    rustix::process::setsid().step(|| "begin a group of processes")?;
    let WireStdio { stdin, stdout, stderr, terminal } = stdio;
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal).step(|| "take the terminal")?;
        rustix::stdio::dup2_stdin(&terminal).step(|| "take the terminal as standard input")?;
        rustix::stdio::dup2_stdout(&terminal).step(|| "take the terminal as standard output")?;
        rustix::stdio::dup2_stderr(&terminal).step(|| "take the terminal as standard error")?;
        return Ok(());
    }
    let take = |stream: Option<WireFd>, take: fn(WireFd) -> rustix::io::Result<()>| stream.map_or(Ok(()), take);
    take(stdin, rustix::stdio::dup2_stdin).step(|| "take standard input")?;
    take(stdout, rustix::stdio::dup2_stdout).step(|| "take standard output")?;
    take(stderr, rustix::stdio::dup2_stderr).step(|| "take standard error")
}
