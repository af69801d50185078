//! Inside the zygote, and inside the spare that forks it.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};

use super::{Answer, Entry, Request, root};
use crate::error::{Failure, Step as _};
use crate::kernel::{self, Forked, Newborn};
use crate::null;
use crate::wire::{LONGEST_ORDERS, Message, WireFd};

/// The exit code of a process of ours that panicked, as a Rust program's.
const PANICKED: u8 = 101;

/// The life of the spare.
pub(super) fn spare(socket: &OwnedFd, host: Pid, load: fn()) -> ! {
    live(
        socket,
        || leave(socket, host, c"wasmedge-spare"),
        |()| breed(socket, host, load),
    );
}

/// The life of the zygote.
fn zygote(socket: &OwnedFd, host: Pid, load: fn()) -> ! {
    live(socket, || ready(socket, host, load), |()| serve(socket));
}

/// Tells the host when the process is ready, and then does its work until the host is gone.
fn live<T>(
    socket: &OwnedFd,
    prepare: impl FnOnce() -> Result<T, Failure>,
    work: impl FnOnce(T),
) -> ! {
    // An unwinding panic would go on into frames of the forking process.
    let end = catch_unwind(AssertUnwindSafe(|| match prepare() {
        Ok(prepared) => {
            if tell(socket, &Ok::<(), Failure>(())) {
                work(prepared);
            }
        }
        Err(failure) => {
            tell(socket, &Err::<(), _>(failure));
        }
    }));
    kernel::exit(if end.is_ok() { 0 } else { PANICKED });
}

/// Makes a process of its own of a fork of the host, that ends with it.
fn leave(socket: &OwnedFd, host: Pid, name: &CStr) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    if rustix::process::getppid() != Some(host) {
        return Err(Failure::of("die with the host", "it has ended"));
    }
    // What it forks stays in its group until it begins one of its own.
    rustix::process::setpgid(None, None).step(|| "begin a group of processes")?;
    rustix::thread::set_name(name).step(|| "name the process")?;
    let null = null::open_on_node(OFlags::RDWR).step(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step(|| "leave the host's standard input")?;
    rustix::stdio::dup2_stdout(&null).step(|| "leave the host's standard output")?;
    rustix::stdio::dup2_stderr(&null).step(|| "leave the host's standard error")?;
    drop(null);
    kernel::close_all_but(socket.as_fd()).step(|| "close the host's descriptors")
}

/// Makes a zygote of a fork.
fn ready(socket: &OwnedFd, host: Pid, load: fn()) -> Result<(), Failure> {
    leave(socket, host, c"wasmedge-zygote")?;
    load();
    root::enter_empty()
}

/// Forks zygotes until the host is gone, each with the socket that the host sent for it.
fn breed(socket: &OwnedFd, host: Pid, load: fn()) {
    while let Ok(theirs) =
        Message::receive(socket, LONGEST_ORDERS).and_then(Message::value::<WireFd>)
    {
        let answer = match kernel::fork_sibling(0, None) {
            Ok(Forked::Child) => zygote(&theirs.into_inner(), host, load),
            Ok(Forked::Parent(Newborn { pid, pidfd })) => Ok((pid, WireFd::new(pidfd))),
            Err(error) => Err(Failure::of("fork the process that forks guests", error)),
        };
        // The zygote's alone, so that its end is seen.
        drop(theirs);
        if !tell(socket, &answer) {
            return;
        }
    }
}

/// Answers requests until the host is gone.
fn serve(socket: &OwnedFd) {
    // The zygote ends as well when a message makes no sense: its place in the stream is lost.
    while let Ok(request) =
        Message::receive(socket, LONGEST_ORDERS).and_then(Message::value::<Request>)
    {
        let answer = fork(request);
        if !tell(socket, &answer) {
            return;
        }
    }
}

/// Whether the host heard it.
fn tell(socket: &OwnedFd, answer: &impl serde::Serialize) -> bool {
    Message::of(answer)
        .and_then(|message| message.send(socket))
        .is_ok()
}

fn fork(request: Request) -> Answer {
    let Request {
        entry,
        control,
        namespaces,
        cgroup,
    } = request;
    match kernel::fork_sibling(namespaces, cgroup.as_ref().map(WireFd::as_fd)) {
        Ok(Forked::Child) => child(entry, control),
        Ok(Forked::Parent(Newborn { pid, pidfd })) => Ok((pid, WireFd::new(pidfd))),
        Err(error) => Err(Failure::of("fork the container's process", error)),
    }
}

/// The life of a forked process.
fn child(entry: usize, control: WireFd) -> ! {
    #[expect(
        unsafe_code,
        reason = "a function cannot be sent to another process but by its address"
    )]
    // SAFETY: the address is that of an `Entry` (`Request::new`) in the host, of which this process
    // is a fork without an execve in between: the same code stands at the same place.
    let entry = unsafe { std::mem::transmute::<usize, Entry>(entry) };
    let end = catch_unwind(AssertUnwindSafe(|| entry(control.into_inner())));
    kernel::exit(end.unwrap_or(PANICKED));
}
