//! The parked thread: the only thing of a pod's sandbox that runs.
//!
//! It is a thread of the operating system and never one of the async runtime's, because namespaces
//! belong to a thread: a worker that entered a pod's network would serve the next request from
//! there. It changes nothing that its process' threads share (working directory, umask, mounts,
//! descriptors).

use std::any::Any;
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

/// Address space of a thread's stack, in bytes. Only the pages that it touches are memory
/// (measured: 15 KiB for each pod with the thread's bookkeeping, and the kernel's own stack of 16
/// KiB); the rest is there so that a panic with a backtrace does not run over the end, which would
/// take the whole host along.
const STACK: usize = 128 * 1024;

/// How long the kernel gets between the end of a thread and the end of its entry in `/proc`. It
/// takes microseconds.
const GONE: Duration = Duration::from_secs(2);

/// A thread that holds a pod's namespaces. Dropping it lets them go without waiting for it.
#[derive(Debug)]
pub(crate) struct ParkedThread {
    tid: u32,
    thread: JoinHandle<()>,
    /// The thread waits for this to be dropped.
    hold: mpsc::Sender<Infallible>,
}

/// Starts the thread and waits until it holds everything that `new` asks for.
///
/// Blocks for the time of a few system calls (measured: a tenth of a millisecond). On an error
/// nothing stays behind, and its text names the step.
pub(crate) fn hold(new: NewPod) -> Result<ParkedThread, PodError> {
    let name = new.name.clone();
    park_after(name, move || enter(&new))
}

impl ParkedThread {
    /// The thread's id: what containerd and Kubernetes take as the sandbox' process id. It names no
    /// other thread while `self` lives.
    pub(crate) fn tid(&self) -> u32 {
        self.tid
    }

    /// Ends the thread and returns when it is gone, with its hold on the namespaces.
    pub(crate) fn release(self) {
        let Self { tid, thread, hold } = self;
        drop(hold);
        // It parks and returns: there is no panic to report.
        let _ = thread.join();
        // A join returns when the thread has left the process' memory, which is before it leaves
        // its namespaces.
        let entry = format!("/proc/self/task/{tid}");
        let deadline = Instant::now() + GONE;
        while Path::new(&entry).exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Runs `set_up` in a new thread, which stays after it has succeeded.
fn park_after(
    name: String,
    set_up: impl FnOnce() -> Result<(), PodError> + Send + 'static,
) -> Result<ParkedThread, PodError> {
    let (tell, told) = mpsc::sync_channel(1);
    let (hold, let_go) = mpsc::channel();
    let body = move || {
        let outcome = set_up().map(|()| {
            rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .unsigned_abs()
        });
        let stay = outcome.is_ok();
        // The caller waits for this in any case.
        let _ = tell.send(outcome);
        drop(tell);
        if stay {
            // Nothing can be received: this returns when the sender is dropped.
            let _: Result<Infallible, _> = let_go.recv();
        }
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(body)
        .map_err(|source| PodError::Spawn { source })?;
    match told.recv() {
        Ok(Ok(tid)) => Ok(ParkedThread { tid, thread, hold }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(mpsc::RecvError) => {
            let message = thread.join().map_or_else(
                |payload| said(payload.as_ref()),
                |()| "it ended without a word".to_owned(),
            );
            Err(PodError::Panicked { message })
        }
    }
}

/// A panic's own text.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

/// Takes the calling thread into the pod's namespaces and sets what is set in them.
fn enter(pod: &NewPod) -> Result<(), PodError> {
    // A signal to the host must not be handled by a thread that sees a pod's network.
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
        // Not created: for a sysctl that this kernel has not, the answer shall be that there is no
        // such file.
        let mut file = File::options()
            .write(true)
            .open(&sysctl.file)
            .map_err(failed(step))?;
        file.write_all(sysctl.value.as_bytes())
            .map_err(failed(step))?;
    }
    Ok(())
}

/// Gives an error of the system its step.
fn failed<E: Into<io::Error>>(step: impl Fn() -> String) -> impl Fn(E) -> PodError {
    move |source| PodError::Step {
        step: step(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
