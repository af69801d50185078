//! The parked thread: the only running part of a pod's sandbox.
//!
//! It is a thread of the operating system and never one of the async runtime's, because namespaces
//! belong to a thread: a worker that entered a pod's network would serve the next request from
//! there. It changes nothing that the threads of its process share (working directory, umask,
//! mounts, descriptors).

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;

use crate::error::PodError;
use crate::new_pod::{Ipc, Network, NewPod, Uts};

/// The size of a thread's stack in bytes of address space. Only touched pages use memory (measured:
/// 15 KiB for each pod with the thread's bookkeeping, and the kernel's own stack of 16 KiB); the
/// rest prevents that a panic with a backtrace overflows the stack, which would kill the whole
/// host.
const STACK_BYTES: usize = 128 * 1024;

/// How long the kernel may take from the end of a thread to the removal of its entry in `/proc`. It
/// takes microseconds.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A thread that holds a pod's namespaces. Dropping it releases them without waiting.
#[derive(Debug)]
pub(crate) struct ParkedThread {
    tid: u32,
    thread: JoinHandle<()>,
    /// The thread runs until this is dropped.
    hold: mpsc::Sender<Infallible>,
}

/// Starts the thread and waits until it holds everything that `new` requests.
///
/// Blocks for the time of a few system calls (measured: a tenth of a millisecond). After an error
/// nothing is left, and its text names the step.
pub(crate) fn hold(new: NewPod) -> Result<ParkedThread, PodError> {
    let name = new.name.clone();
    park_after(name, move || enter(&new))
}

impl ParkedThread {
    /// Returns the thread's id, which is the sandbox's process id for containerd and Kubernetes. It
    /// is not reused while `self` lives.
    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    /// Ends the thread, and returns when it has left the namespaces.
    pub(crate) fn release(self) {
        let Self { tid, thread, hold } = self;
        drop(hold);
        // It parks and returns, so there is no panic to report.
        let _ = thread.join();
        // A join returns when the thread has left the process's memory, which is before it leaves
        // its namespaces.
        let entry = format!("/proc/self/task/{tid}");
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Path::new(&entry).exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Runs `set_up` in a new thread, which parks if that succeeds.
fn park_after(
    name: String,
    set_up: impl FnOnce() -> Result<(), PodError> + Send + 'static,
) -> Result<ParkedThread, PodError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (hold, released) = mpsc::channel();
    let body = move || {
        let outcome = set_up().map(|()| {
            rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .unsigned_abs()
        });
        let stay = outcome.is_ok();
        // The caller always waits for this.
        let _ = sender.send(outcome);
        drop(sender);
        if stay {
            // Nothing can be received: this returns when the sender is dropped.
            let _: Result<Infallible, _> = released.recv();
        }
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(body)
        .map_err(|source| PodError::Spawn { source })?;
    match receiver.recv() {
        Ok(Ok(tid)) => Ok(ParkedThread { tid, thread, hold }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(mpsc::RecvError) => {
            let message = thread.join().map_or_else(
                |payload| failures::panic_message(payload.as_ref()).to_owned(),
                |()| "it ended without a result".to_owned(),
            );
            Err(PodError::Panicked { message })
        }
    }
}

/// Moves the calling thread into the pod's namespaces and sets names and sysctls.
fn enter(pod: &NewPod) -> Result<(), PodError> {
    // A thread in a pod's network must not handle a signal to the host.
    SigSet::all()
        .thread_block()
        .map_err(failed(|| "block signals in the pod's thread".to_owned()))?;
    if let Network::Join(path) = &pod.network {
        let step = || format!("join the pod's network namespace {}", path.display());
        let namespace = File::open(path).map_err(failed(step))?;
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).map_err(failed(step))?;
    }
    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, pod.network == Network::Own);
    own.set(CloneFlags::CLONE_NEWIPC, pod.ipc == Ipc::Own);
    own.set(CloneFlags::CLONE_NEWUTS, matches!(pod.uts, Uts::Own { .. }));
    nix::sched::unshare(own).map_err(failed(|| "make the pod's own namespaces".to_owned()))?;
    if let Uts::Own {
        hostname,
        domainname,
    } = &pod.uts
    {
        if let Some(name) = hostname {
            rustix::system::sethostname(name.as_bytes())
                .map_err(failed(|| format!("set the pod's hostname to {name:?}")))?;
        }
        if let Some(name) = domainname {
            rustix::system::setdomainname(name.as_bytes())
                .map_err(failed(|| format!("set the pod's domain name to {name:?}")))?;
        }
    }
    for sysctl in &pod.sysctls {
        let step = || format!("set the pod's sysctl {} to {:?}", sysctl.name, sysctl.value);
        // Not created: for a sysctl that this kernel does not have, the error must be that there is
        // no such file.
        let mut file = File::options()
            .write(true)
            .open(&sysctl.file)
            .map_err(failed(step))?;
        file.write_all(sysctl.value.as_bytes())
            .map_err(failed(step))?;
    }
    Ok(())
}

/// Adds the step to a system error.
fn failed<E: Into<io::Error>>(step: impl Fn() -> String) -> impl Fn(E) -> PodError {
    move |source| PodError::Step {
        step: step(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
