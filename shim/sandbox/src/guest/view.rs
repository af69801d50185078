//! The `/proc` that Linux programs beside a guest see: made when the first of them is started, and
//! kept with the container.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use container_cgroup::JoinMethod;
use process_forker::Zygote;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Birth;
use crate::child;
use crate::child::orders::ViewOrders;
use crate::error::{Failure, SandboxError, Step as _};
use crate::plan::Proc;
use crate::wire::WireFd;

/// The process that makes it runs nothing of a container's, and makes some mounts.
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
    /// One that is not made yet, from the context that a process in the container's pid namespace
    /// opened.
    pub(super) fn new(context: OwnedFd, proc: Proc) -> Self {
        Self(Mutex::new(State::Context(context, proc)))
    }

    /// The mount namespace in which it is mounted.
    pub(super) fn namespace(&self, zygote: &Zygote, name: &str) -> Result<WireFd, SandboxError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step = || format!("refer to the /proc of {name}");
        if let State::Context(context, proc) = &*state {
            // The context and its descriptor stay, as long as it is not known to be used up.
            let context = context.try_clone().step(step).map_err(SandboxError::Host)?;
            *state = match make(zygote, name, context, proc.clone()) {
                Ok(namespace) => State::Made(namespace),
                Err(SandboxError::Setup(failure)) => State::Failed(failure),
                // The zygote was lost before it made the process: the next one can.
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
    let birth = Birth {
        name: name.to_owned(),
        entry: child::view,
        namespaces: u64::from(libc::CLONE_NEWNS.unsigned_abs()),
        // Beside the zygote: it ends at once.
        entrance: JoinMethod::Tasks(Vec::new()),
        oom_score_adj: None,
    };
    let orders = ViewOrders {
        name: name.to_owned(),
        context: WireFd::new(context),
        proc,
    };
    let maker = birth
        .fork(zygote, |_| Ok(()))?
        .obey(&orders)?
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
