//! A pod's namespaces, held by a thread, or by a process where the pod has a user namespace.

use std::os::fd::BorrowedFd;

use container_cgroup::Cgroup;
use guest_sandbox::{Guest, Zygote};

use crate::error::PodError;
use crate::new_pod::{NewPod, Users};
use crate::thread::ParkedThread;
use crate::{process, thread};

/// A pod's namespaces, held. Dropping it lets them go without waiting for it.
#[derive(Debug)]
pub struct Pod(Holder);

#[derive(Debug)]
enum Holder {
    Thread(ParkedThread),
    Process(Guest),
}

/// Has everything that `new` asks for held. A process for it is forked by `zygote`, and goes into
/// `cgroup`, which stays empty otherwise.
///
/// Blocks for the time of a few system calls (measured for a thread: a tenth of a millisecond). On
/// an error nothing stays behind, and its text names the step.
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
    /// What containerd and Kubernetes take as the sandbox' process id: a thread's, or a process'.
    /// It names nothing else while `self` lives.
    pub fn pid(&self) -> u32 {
        match &self.0 {
            Holder::Thread(thread) => thread.tid(),
            Holder::Process(process) => process.pid(),
        }
    }

    /// By which the end of the process is waited for: a child of the calling process. None for a
    /// thread.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Holder::Thread(_) => None,
            Holder::Process(process) => Some(process.pidfd()),
        }
    }

    /// Lets the namespaces go. Returns when a thread is gone; a process is told to end, and who
    /// waits for it learns when it has.
    pub fn release(self) {
        match self.0 {
            Holder::Thread(thread) => thread.release(),
            Holder::Process(process) => process::end(&process),
        }
    }
}
