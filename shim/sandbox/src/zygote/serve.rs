//! Inside the zygote.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::{Answer, Entry, Request, root};
use crate::error::{Failure, Step as _};
use crate::kernel::{self, Forked, Newborn};
use crate::wire::{LONGEST_ORDERS, Message, WireFd};

/// The exit code of a process of ours that panicked, as a Rust program's.
const PANICKED: u8 = 101;

/// The life of the zygote.
pub(super) fn zygote(socket: &OwnedFd, host: Pid, load: fn()) -> ! {
    // An unwinding panic would go on into frames of the host's.
    let end = catch_unwind(AssertUnwindSafe(|| match ready(socket, host, load) {
        Ok(home) => {
            if tell(socket, &Ok::<(), Failure>(())) {
                serve(socket, &home);
            }
        }
        Err(failure) => {
            tell(socket, &Err::<(), _>(failure));
        }
    }));
    kernel::exit(if end.is_ok() { 0 } else { PANICKED });
}

/// Makes a zygote of a fork of the host. Gives its own pid namespace.
fn ready(socket: &OwnedFd, host: Pid, load: fn()) -> Result<OwnedFd, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    if rustix::process::getppid() != Some(host) {
        return Err(Failure::of("die with the host", "it has ended"));
    }
    rustix::thread::set_name(c"wasmedge-zygote").step(|| "name the zygote")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step(|| "leave the host's standard input")?;
    rustix::stdio::dup2_stdout(&null).step(|| "leave the host's standard output")?;
    rustix::stdio::dup2_stderr(&null).step(|| "leave the host's standard error")?;
    drop(null);
    kernel::close_all_but(socket.as_fd()).step(|| "close the host's descriptors")?;
    let home = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let home = home.step(|| "open the zygote's pid namespace")?;
    load();
    root::enter_empty()?;
    Ok(home)
}

/// Answers requests until the host is gone.
fn serve(socket: &OwnedFd, home: &OwnedFd) {
    // The zygote ends as well when a message makes no sense: its place in the stream is lost.
    while let Ok(request) = Message::receive(socket, LONGEST_ORDERS).and_then(Message::value::<Request>) {
        let answer = fork(request, home);
        if !tell(socket, &answer) {
            return;
        }
    }
}

/// Whether the host heard it.
fn tell(socket: &OwnedFd, answer: &impl serde::Serialize) -> bool {
    Message::of(answer).and_then(|message| message.send(socket)).is_ok()
}

fn fork(request: Request, home: &OwnedFd) -> Answer {
    let Request { entry, control, namespaces, cgroup, inside } = request;
    if let Some(process) = &inside {
        // This is about children alone: the zygote stays where it is.
        move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::PROCESS_ID).step(|| "enter the container's pid namespace")?;
    }
    let newborn = match kernel::fork_sibling(namespaces, cgroup.as_ref().map(WireFd::as_fd)) {
        Ok(Forked::Child) => child(entry, control),
        Ok(Forked::Parent(newborn)) => Ok(newborn),
        Err(error) => Err(Failure::of("fork the container's process", error)),
    };
    if inside.is_some() {
        // Every later guest would be born in that container.
        setns(home, CloneFlags::CLONE_NEWPID).expect("a process can return to its own pid namespace");
    }
    newborn.map(|Newborn { pid, pidfd }| (pid, WireFd::new(pidfd)))
}

/// The life of a forked process.
fn child(entry: usize, control: WireFd) -> ! {
    #[expect(unsafe_code, reason = "a function cannot be sent to another process but by its address")]
    // SAFETY: the address is that of an `Entry` (`Request::new`) in the host, of which this process is a fork without an
    // execve in between: the same code stands at the same place.
    let entry = unsafe { std::mem::transmute::<usize, Entry>(entry) };
    let end = catch_unwind(AssertUnwindSafe(|| entry(control.into_inner())));
    kernel::exit(end.unwrap_or(PANICKED));
}
