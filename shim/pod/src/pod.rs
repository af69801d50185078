//! A pod's namespaces, held by a thread, or by a process where the pod has a user namespace.

use std::os::fd::BorrowedFd;

use container_cgroup::Cgroup;
use guest_sandbox::{Guest, Zygote};

use crate::error::PodError;
use crate::new_pod::{NewPod, Users};
use crate::thread::ParkedThread;
use crate::{process, thread};

/// A pod's namespaces, held. Dropping it releases them without waiting.
#[derive(Debug)]
pub struct Pod(Holder);

#[derive(Debug)]
enum Holder {
    Thread(ParkedThread),
    Process(Guest),
}

/// Holds everything that `new` requests. If it takes a process, `zygote` forks it, and it joins
/// `cgroup`, which stays empty otherwise.
///
/// Blocks for the time of a few system calls (measured for a thread: a tenth of a millisecond).
/// After an error nothing is left, and its text names the step.
pub fn hold(new: NewPod, zygote: &Zygote, cgroup: &Cgroup) -> Result<Pod, PodError> {
    Ok(Pod(match new.users() {
        Users::Node => {
            cgroup.create_empty()?;
            Holder::Thread(thread::hold(new)?)
        }
        Users::Join(_) => Holder::Process(process::hold(new, zygote, cgroup)?),
    }))
}

impl Pod {
    /// Returns the process id of the sandbox for containerd and Kubernetes: a thread's, or a
    /// process's. It is not reused while `self` lives.
    pub fn pid(&self) -> u32 {
        match &self.0 {
            Holder::Thread(thread) => thread.tid(),
            Holder::Process(process) => process.pid(),
        }
    }

    /// Returns the pidfd of the process, a child of the calling process, to wait for its exit.
    /// `None` for a thread.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Holder::Thread(_) => None,
            Holder::Process(process) => Some(process.pidfd()),
        }
    }

    /// Releases the namespaces. Returns when a thread has ended; a process is only killed, and its
    /// waiter learns when it has exited.
    pub fn release(self) {
        match self.0 {
            Holder::Thread(thread) => thread.release(),
            Holder::Process(process) => process::end(&process),
        }
    }
}
