//! Inside a forking process: set up, then one fork for each request until the host is gone.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::error::{Failure, Step as _};
use crate::fork::{Child, Fork, fork_sibling};
use crate::null;
use crate::process::Role;
use crate::request::{Entry, WireRequest};
use crate::wire::{MAX_REQUEST, Message, WireFd};
use crate::zygote::Prepare;

/// How a forking process is to be set up. Only [`Setup::new`] makes one, which is why its address
/// can be called.
#[derive(Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The number of the host, as the forking process sees it.
    host: i32,
    /// The address of a [`Prepare`]; none for a plain forker.
    prepare: Option<usize>,
}

/// The reply to a request: the number of the new process. Its pidfd comes with it.
pub(crate) type Reply = Result<u32, Failure>;

impl Setup {
    pub(crate) fn new(host: Pid, role: Role) -> Self {
        let prepare = match role {
            Role::Forker => None,
            Role::Zygote(prepare) => Some(prepare as usize),
        };
        Self {
            host: host.as_raw_pid(),
            prepare,
        }
    }
}

/// The entry of forkers and zygotes.
#[expect(
    clippy::needless_pass_by_value,
    reason = "entries own their control sockets"
)]
pub(crate) fn run(control: OwnedFd) -> u8 {
    let ready = set_up(&control);
    let is_ready = ready.is_ok();
    if reply(&control, Message::of(&ready)) && is_ready {
        serve(&control);
    }
    u8::from(!is_ready)
}

fn set_up(control: &OwnedFd) -> Result<(), Failure> {
    // Before anything is waited for: the host may end at any time.
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    let Setup { host, prepare } = Message::receive(control, MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the set-up")?;
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(host) {
        return Err(Failure::of("die with the host", "it has ended"));
    }
    // What it forks stays in its group until it begins one of its own.
    rustix::process::setpgid(None, None).step(|| "begin a group of processes")?;
    let null = null::open_on_node(OFlags::RDWR).step(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step(|| "leave the host's standard input")?;
    rustix::stdio::dup2_stdout(&null).step(|| "leave the host's standard output")?;
    rustix::stdio::dup2_stderr(&null).step(|| "leave the host's standard error")?;
    drop(null);
    let Some(prepare) = prepare else {
        return name(c"wasmedge-forker");
    };
    name(c"wasmedge-zygote")?;
    #[expect(
        unsafe_code,
        reason = "a function is sent to another process by its address"
    )]
    // SAFETY: the address is that of a `Prepare` (`Setup::new`) in the host, of which this process
    // is a fork without an execve in between: the same code stands at the same place.
    let prepare = unsafe { std::mem::transmute::<usize, Prepare>(prepare) };
    prepare()
}

fn name(name: &std::ffi::CStr) -> Result<(), Failure> {
    rustix::thread::set_name(name).step(|| "name the process")
}

fn serve(control: &OwnedFd) {
    // A message that cannot be read ends this process too: its place in the stream is lost.
    while let Ok(request) =
        Message::receive(control, MAX_REQUEST).and_then(Message::value::<WireRequest>)
    {
        if !reply(control, spawn(request)) {
            return;
        }
    }
}

/// Forks a process, and writes the reply.
fn spawn(request: WireRequest) -> std::io::Result<Message> {
    let WireRequest {
        entry,
        control,
        namespaces,
        cgroup,
    } = request;
    match fork_sibling(namespaces, cgroup.as_ref().map(std::os::fd::AsFd::as_fd)) {
        Ok(Fork::InChild) => {
            #[expect(
                unsafe_code,
                reason = "a function is sent to another process by its address"
            )]
            // SAFETY: the address is that of an `Entry` (`SpawnRequest::new`) in the host, of which
            // this process is a fork without an execve in between: the same code stands at the same
            // place.
            let entry = unsafe { std::mem::transmute::<usize, Entry>(entry) };
            child::run(entry, WireFd::into_inner(control))
        }
        Ok(Fork::InParent(Child { pid, pidfd })) => {
            Ok(Message::of(&Reply::Ok(pid))?.with_descriptor(pidfd))
        }
        Err(error) => Message::of(&Reply::Err(Failure::of("fork the process", error))),
    }
}

/// Sends a reply; false when the host is gone.
fn reply(control: &OwnedFd, reply: std::io::Result<Message>) -> bool {
    reply.and_then(|message| message.send(control)).is_ok()
}
