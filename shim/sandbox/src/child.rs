//! Inside a container's process: from its first instruction to the guest's end.
//!
//! | file | what |
//! |---|---|
//! | `child/messages.rs` | setup requests of the host, and the process's replies |
//! | `child/namespaces.rs` | namespaces, names, kernel parameters |
//! | `child/sources.rs` | sources of bind mounts, opened in the node's mount namespace |
//! | `child/root.rs` | the root file system: entered, mounted upon, closed |
//! | `child/devices.rs` | `/dev` |
//! | `child/target.rs` | mount points, made where they are missing |
//! | `child/cover.rs` | masked and read-only paths |
//! | `child/privileges.rs` | limits, labels, identity, capabilities, filters |
//! | `child/users.rs` | the users of a user namespace |
//! | `child/holder.rs` | a process that does nothing but hold a pod's namespaces |
//! | `child/exec.rs` | a process that exec adds: confined first, then forked into the container's pid namespace |
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
use crate::workload::{Refusal, Workload};
use crate::{detached, kernel};
use cover::Top;
use messages::{ContainerSetup, SetupReply, WireStdio};

mod cover;
mod devices;
mod holder;
mod exec;
mod native;
pub(crate) mod messages;
mod namespaces;
mod privileges;
mod proc;
mod root;
mod sources;
mod target;
mod users;

/// The exit code of a process that was never started, or could not be set up. It reaches no user.
const NEVER_RAN: u8 = 125;

/// Runs a container's first process.
pub(crate) fn container<W: Workload>(control: OwnedFd) -> u8 {
    run_process(control, enter_container::<W>, prepare_guest, W::run)
}

/// Runs another guest in a container.
pub(crate) fn exec<W: Workload>(control: OwnedFd) -> u8 {
    exec::run_process(control, exec::enter_guest::<W>, prepare_guest, W::run)
}

/// Runs a Linux program in a container.
pub(crate) fn exec_native(control: OwnedFd) -> u8 {
    exec::run_process(
        control,
        exec::enter_native,
        |program| native::find(program).map_err(Refusal::Guest),
        native::execute,
    )
}

/// Runs a process that makes the `/proc` of a container.
pub(crate) fn view(control: OwnedFd) -> u8 {
    run_process(control, proc::make, Ok, holder::park)
}

/// Runs a process that holds a pod's namespaces.
pub(crate) fn holder(control: OwnedFd) -> u8 {
    run_process(control, holder::enter, Ok, holder::park)
}

fn run_process<O: DeserializeOwned, P, R>(
    control: OwnedFd,
    enter: fn(O, &OwnedFd) -> Result<P, Failure>,
    prepare: fn(P) -> Result<R, Refusal>,
    run: fn(R) -> u8,
) -> u8 {
    match receive_setup(&control).and_then(|request| enter(request, &control)) {
        Ok(program) => finish(control, program, prepare, run),
        Err(failure) => {
            report(&control, SetupReply::Failed(failure), None);
            NEVER_RAN
        }
    }
}

/// Runs a process that is confined, to its end.
fn finish<P, R>(
    control: OwnedFd,
    program: P,
    prepare: fn(P) -> Result<R, Refusal>,
    run: fn(R) -> u8,
) -> u8 {
    match prepare(program) {
        Ok(ready) => {
            if !(report(&control, SetupReply::Ready, None) && receives(&control, messages::START)) {
                return NEVER_RAN;
            }
            drop(control);
            run(ready)
        }
        Err(refusal) => {
            report(&control, SetupReply::Refused(refusal), None);
            NEVER_RAN
        }
    }
}

/// Joins the process's cgroup, and receives its setup request.
fn receive_setup<O: DeserializeOwned>(control: &OwnedFd) -> Result<O, Failure> {
    die_with_host()?;
    // As root of the node: the quota of the container's user is for that user's own keys.
    process_forker::enter_own_keyring()
        .step(|| "make a keyring (see kernel.keys.root_maxkeys of the node)")?;
    // Before the request takes memory, which is charged to the process's cgroup at that time.
    let tasks = Message::receive(control, MAX_REQUEST)
        .step(|| "receive the cgroup's files")?
        .into_descriptors();
    for file in &tasks {
        rustix::io::write(file, b"0").step(|| "join the cgroup")?;
    }
    drop(tasks);
    Message::receive(control, MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the setup request")
}

/// Asks the kernel to kill the process when the host ends. To be repeated after each change of the
/// process's identity, which resets it. If the host has ended already, its socket is closed.
fn die_with_host() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")
}

/// Sends a reply to the host, with a descriptor; returns false when the host is gone.
fn report(control: &OwnedFd, reply: SetupReply, descriptor: Option<&OwnedFd>) -> bool {
    let reply = rmp_serde::to_vec(&reply.truncated()).expect("a reply is made of strings");
    let bytes = [&(reply.len() as u64).to_ne_bytes()[..], &reply].concat();
    send_with(control, &bytes, descriptor).is_ok()
}

/// Waits for a byte from the host; returns false when the host cancelled this process, or ended.
fn receives(control: &OwnedFd, expected: u8) -> bool {
    let mut byte = [0];
    read_exact(control, &mut byte).is_ok() && byte == [expected]
}

fn prepare_guest<W: Workload>(workload: W) -> Result<W::Ready, Refusal> {
    // A signal that comes right after the creation must find the handlers.
    kernel::end_on_signals()
        .step(|| "handle signals")
        .map_err(|failure| Refusal::Guest(failure.to_string()))?;
    let ready = workload.prepare();
    // Loading a guest takes several times the memory that the guest then keeps; the container would
    // hold the rest.
    kernel::trim_memory();
    ready
}

fn enter_container<W>(request: ContainerSetup<W>, control: &OwnedFd) -> Result<W, Failure> {
    let ContainerSetup {
        name,
        plan,
        joined,
        sources,
        rootfs,
        proc,
        users,
        stdio,
        workload,
    } = request;
    set_name(&name)?;
    rustix::process::setsid().step(|| "begin a group of processes")?;
    if take_streams(stdio)? == Streams::Terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).step(|| "take the terminal")?;
    }
    let sources = sources::open(&plan.mounts, sources, users.as_ref())?;
    namespaces::join(joined)?;
    if plan.namespaces.cgroup == Namespace::New {
        unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "make the cgroup namespace")?;
    }
    namespaces::configure(&plan, proc.as_ref())?;
    if let Some(users) = &plan.users {
        users::make_for(users.root())?;
    }
    // Files of the set-up get exactly the modes that it gives them.
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
        // Here, because the context shows the processes of this pid namespace, which no process of
        // the runtime enters again before it is confined. The host keeps it; the guest never sees
        // it.
        let context = detached::open("proc").step(|| "open /proc for programs of exec")?;
        report(control, SetupReply::Entered, Some(&context));
    }
    privileges::apply(&plan.process, proc, users, None)?;
    Ok(workload)
}

/// Names the process after its container, of which the kernel keeps 15 bytes, and forbids dumps.
fn set_name(name: &str) -> Result<(), Failure> {
    let name = std::ffi::CString::new(format!("wasm:{name}")).step(|| "name the process")?;
    rustix::thread::set_name(&name).step(|| "name the process")?;
    // A dump or a debugger would show what the zygote's memory holds of the runtime's code and of
    // other containers'.
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

/// The kind of a process's standard streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Files.
    Files,
    /// A terminal, which is to become the controlling terminal of the process.
    Terminal,
}

/// Takes the container's streams. A stream that the host does not give stays the zygote's
/// `/dev/null`.
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
