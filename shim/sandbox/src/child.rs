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
//! | `child/inside.rs` | a process that exec adds: confined first, and then born in the container's pid namespace |
//! | `child/proc.rs` | `/proc`, for a Linux program alone |
//! | `child/native.rs` | a Linux program in place of a guest |

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use serde::de::DeserializeOwned;

use crate::error::{Failure, Step as _};
use crate::plan::Namespace;
use crate::wire::{MAX_REQUEST, Message, WireFd, read_exact, send_with};
use crate::workload::Workload;
use crate::{detached, kernel};
use cover::Top;
use orders::{Answer, ContainerOrders, WireStdio};

mod cover;
mod devices;
mod holder;
mod inside;
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
    live(
        control,
        enter_container::<W>,
        prepare_guest,
        W::tell,
        W::run,
    )
}

/// The life of another guest in a container.
pub(crate) fn exec<W: Workload>(control: OwnedFd) -> u8 {
    inside::live(
        control,
        inside::enter_guest::<W>,
        prepare_guest,
        W::tell,
        W::run,
    )
}

/// The life of a Linux program in a container.
pub(crate) fn exec_native(control: OwnedFd) -> u8 {
    inside::live(
        control,
        inside::enter_native,
        native::find,
        |_| None,
        native::execute,
    )
}

/// The life of a process that makes the `/proc` of a container.
pub(crate) fn view(control: OwnedFd) -> u8 {
    live(control, proc::make, Ok, |()| None, holder::park)
}

/// The life of a process that holds a pod's namespaces.
pub(crate) fn holder(control: OwnedFd) -> u8 {
    live(control, holder::enter, Ok, |()| None, holder::park)
}

fn live<O: DeserializeOwned, P, R>(
    control: OwnedFd,
    enter: fn(O, &OwnedFd) -> Result<P, Failure>,
    prepare: fn(P) -> Result<R, String>,
    tell: fn(&R) -> Option<String>,
    run: fn(R) -> u8,
) -> u8 {
    match await_orders(&control).and_then(|orders| enter(orders, &control)) {
        Ok(program) => finish(control, program, prepare, tell, run),
        Err(failure) => {
            report(&control, Answer::Failed(failure), None);
            NEVER_RAN
        }
    }
}

/// The rest of the life of a process that is confined.
fn finish<P, R>(
    control: OwnedFd,
    program: P,
    prepare: fn(P) -> Result<R, String>,
    tell: fn(&R) -> Option<String>,
    run: fn(R) -> u8,
) -> u8 {
    match prepare(program) {
        Ok(ready) => {
            if !(report(&control, Answer::Ready(tell(&ready)), None)
                && is_told(&control, orders::START))
            {
                return NEVER_RAN;
            }
            drop(control);
            run(ready)
        }
        Err(refusal) => {
            report(&control, Answer::Refused(refusal), None);
            NEVER_RAN
        }
    }
}

/// Joins the process's cgroup, and receives its orders.
fn await_orders<O: DeserializeOwned>(control: &OwnedFd) -> Result<O, Failure> {
    die_with_host()?;
    // As root of the node: the quota of the user that the container gets is for that user's own
    // keys.
    process_forker::enter_own_keyring()
        .step(|| "make a keyring (see kernel.keys.root_maxkeys of the node)")?;
    // Before the orders take memory, which counts where the process is then.
    let tasks = Message::receive(control, MAX_REQUEST)
        .step(|| "receive the cgroup's files")?
        .into_descriptors();
    for file in &tasks {
        rustix::io::write(file, b"0").step(|| "join the cgroup")?;
    }
    drop(tasks);
    Message::receive(control, MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the plan")
}

/// Set anew whenever the process's identity changed, which takes it back. A host that ended before
/// this is noticed by its end of the socket.
fn die_with_host() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")
}

/// Sends an answer to the host, with a descriptor. False when the host is gone.
fn report(control: &OwnedFd, answer: Answer, descriptor: Option<&OwnedFd>) -> bool {
    let answer = rmp_serde::to_vec(&answer.fitting()).expect("an answer is made of strings");
    let bytes = [&(answer.len() as u64).to_ne_bytes()[..], &answer].concat();
    send_with(control, &bytes, descriptor).is_ok()
}

/// Waits for a byte from the host. False when the host gave this process up, or ended.
fn is_told(control: &OwnedFd, expected: u8) -> bool {
    let mut byte = [0];
    read_exact(control, &mut byte).is_ok() && byte == [expected]
}

fn prepare_guest<W: Workload>(workload: W) -> Result<W::Ready, String> {
    // A signal that comes right after the creation must find the handlers.
    kernel::end_on_signals()
        .step(|| "handle signals")
        .map_err(|failure| failure.to_string())?;
    let ready = workload.prepare();
    // A guest is loaded with several times the memory that it then keeps, of which a container
    // would hold the rest.
    kernel::trim_memory();
    ready
}

fn enter_container<W>(orders: ContainerOrders<W>, control: &OwnedFd) -> Result<W, Failure> {
    let ContainerOrders {
        name,
        plan,
        joined,
        sources,
        rootfs,
        proc,
        users,
        stdio,
        workload,
    } = orders;
    rename(&name)?;
    rustix::process::setsid().step(|| "begin a group of processes")?;
    if take_streams(stdio)? == Streams::Terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).step(|| "take the terminal")?;
    }
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
    let top = Top {
        folder: &root,
        path: Path::new("/"),
    };
    cover::mask(top, &plan.masked, &mut null)?;
    cover::make_read_only(top, &plan.readonly)?;
    root::finish(&root, &plan.root)?;
    drop((null, root));
    if plan.proc.is_some() {
        // Here, because what is opened shows the processes of this pid namespace, which no process
        // of ours enters again before it is confined. The host keeps it, and the guest never sees
        // it.
        let context = detached::open("proc").step(|| "open /proc for programs of exec")?;
        report(control, Answer::Entered, Some(&context));
    }
    powers::reduce(&plan.process, proc, users, None)?;
    Ok(workload)
}

/// The process is called as its container: the kernel keeps 15 bytes of it.
fn rename(name: &str) -> Result<(), Failure> {
    let name = std::ffi::CString::new(format!("wasm:{name}")).step(|| "name the process")?;
    rustix::thread::set_name(&name).step(|| "name the process")?;
    // A dump or a debugger would show what the zygote's memory holds of other containers' code and
    // of ours.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "forbid dumps of the process")
}

/// Mounts a tree as the set-up does, for tests of what else resolves destinations.
#[cfg(test)]
pub(crate) fn attach(
    root: &OwnedFd,
    tree: &OwnedFd,
    destination: &std::path::Path,
) -> std::io::Result<()> {
    root::attach(root, tree, destination)
}

/// What a process has as its standard streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Files.
    Files,
    /// A terminal, which is to become the controlling one of a group of processes.
    Terminal,
}

/// Takes the container's streams. What the host gives no stream for stays `/dev/null`, the
/// zygote's.
fn take_streams(stdio: WireStdio) -> Result<Streams, Failure> {
    let WireStdio {
        stdin,
        stdout,
        stderr,
        terminal,
    } = stdio;
    if let Some(terminal) = terminal {
        rustix::stdio::dup2_stdin(&terminal).step(|| "take the terminal as standard input")?;
        rustix::stdio::dup2_stdout(&terminal).step(|| "take the terminal as standard output")?;
        rustix::stdio::dup2_stderr(&terminal).step(|| "take the terminal as standard error")?;
        return Ok(Streams::Terminal);
    }
    let take = |stream: Option<WireFd>, take: fn(WireFd) -> rustix::io::Result<()>| {
        stream.map_or(Ok(()), take)
    };
    take(stdin, rustix::stdio::dup2_stdin).step(|| "take standard input")?;
    take(stdout, rustix::stdio::dup2_stdout).step(|| "take standard output")?;
    take(stderr, rustix::stdio::dup2_stderr).step(|| "take standard error")?;
    Ok(Streams::Files)
}
