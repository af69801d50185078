//! The `/proc` of Linux programs beside a guest: made when the first of them is started, and kept
//! with the container.

use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use container_cgroup::JoinMethod;
use process_forker::Zygote;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::NewProcess;
use crate::child;
use crate::child::messages::ViewSetup;
use crate::error::{Failure, SandboxError, Step as _};
use crate::plan::Proc;
use crate::wire::WireFd;

/// The process makes some mounts, and runs nothing of the container's.
const VIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// The `/proc` of a container.
#[derive(Debug)]
pub(super) struct View(Mutex<State>);

#[derive(Debug)]
enum State {
    /// The context of the file system, which can be made once.
    Context(OwnedFd, Proc),
    /// The mount namespace in which it is mounted.
    Made(OwnedFd),
    /// It could not be made.
    Failed(Failure),
}

impl View {
    /// Keeps the context that a process in the container's pid namespace opened, to make it later.
    pub(super) fn new(context: OwnedFd, proc: Proc) -> Self {
        Self(Mutex::new(State::Context(context, proc)))
    }

    /// Returns the mount namespace in which it is mounted, after making it if this is the first
    /// use.
    pub(super) fn namespace(&self, zygote: &Zygote, name: &str) -> Result<WireFd, SandboxError> {
        let mut state = failures::lock_ignoring_poison(&self.0);
        let step = || format!("refer to the /proc of {name}");
        if let State::Context(context, proc) = &*state {
            // The context stays until it is known to be used up.
            let context = context.try_clone().step(step).map_err(SandboxError::Host)?;
            *state = match make(zygote, name, context, proc.clone()) {
                Ok(namespace) => State::Made(namespace),
                Err(SandboxError::Setup(failure)) => State::Failed(failure),
                // The process was not forked, so it can be tried again.
                Err(error) => return Err(error),
            };
        }
        match &*state {
            State::Made(namespace) => namespace
                .try_clone()
                .map(WireFd::new)
                .step(step)
                .map_err(SandboxError::Host),
            State::Failed(failure) => Err(SandboxError::Setup(failure.clone())),
            State::Context(..) => Err(SandboxError::Host(Failure::of(step(), "it was not made"))),
        }
    }
}

fn make(
    zygote: &Zygote,
    name: &str,
    context: OwnedFd,
    proc: Proc,
) -> Result<OwnedFd, SandboxError> {
    let new_process = NewProcess {
        name: name.to_owned(),
        entry: child::view,
        namespaces: u64::from(libc::CLONE_NEWNS.unsigned_abs()),
        // Beside the zygote: it ends at once.
        join_method: JoinMethod::Tasks(Vec::new()),
        oom_score_adj: None,
    };
    let request = ViewSetup {
        name: name.to_owned(),
        context: WireFd::new(context),
        proc,
    };
    let maker = new_process
        .fork(zygote, |_| Ok(()))?
        .set_up(&request)?
        .wait(VIEW_TIMEOUT)?;
    let file = format!("/proc/{}/ns/mnt", maker.pid());
    let namespace = openat(
        CWD,
        file.as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let namespace = namespace
        .step(|| format!("open {file}"))
        .map_err(SandboxError::Host);
    maker.end();
    namespace
}
