//! Whether containerd really runs guests through the handler: it answers, it lists the handler, and
//! a guest ends as it should. That its unit is active proves nothing.

use std::time::Duration;

use installer_protocol::{CgroupDriver, Reason};

use super::{Because as _, Failure, Job, clean};
use crate::machine::Trial;

/// How long containerd may take to be ready: it looks at all its containers first.
pub(super) const READY: Duration = Duration::from_mins(1);

/// What containerd is to know after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected<'a> {
    /// This handler.
    Served(&'a str),
    /// Not this one.
    Gone(&'a str),
}

/// Runs a guest through `handler`, whose cgroups systemd sets up or not; none where the node's
/// image says.
///
/// # Errors
/// When containerd does not answer, does not know the handler, or the guest does not run.
pub fn run(job: &Job<'_>, handler: &str, driver: CgroupDriver) -> Result<(), Failure> {
    listed(job, Expected::Served(handler))?;
    let trial = Trial {
        runtime: &job.request.runtime,
        handler,
        image: &job.request.image,
        driver,
        socket: &job.places.socket,
        logs: &job.places.logs,
    };
    job.node.machine.about_to("run the smoke guest");
    let ran = job.node.machine.smoke(&trial);
    clean::remove_logs(job)?;
    ran.because(Reason::SmokeFailed, || {
        format!("prove that handler {handler} runs guests")
    })
}

/// Whether containerd answers and knows the handler, or does not.
///
/// # Errors
/// When it is not so.
pub fn listed(job: &Job<'_>, expected: Expected<'_>) -> Result<(), Failure> {
    let socket = &job.places.socket;
    let served = job
        .node
        .machine
        .served(socket, READY)
        .because(Reason::ContainerdRestart, || {
            format!("wait for containerd at {socket}")
        })?;
    // A containerd that does not say is asked by the guest.
    match (expected, served.handlers.has(expected.handler())) {
        (Expected::Served(handler), Some(false)) => {
            let message = format!(
                "containerd answers at {socket} but does not list handler {handler}: does another \
                 file set its configuration? compare \
                 `containerd --config {} config dump` on the node, and the arguments that \
                 containerd runs with (`ps -o args= -C containerd`)",
                job.layout.config
            );
            Err(Failure::new(Reason::HandlerMissing, message))
        }
        (Expected::Gone(handler), Some(true)) => {
            let message = format!(
                "containerd answers at {socket} and still lists handler {handler}: is it defined \
                 in a second file?"
            );
            Err(Failure::new(Reason::ContainerdConfig, message))
        }
        _ => Ok(()),
    }
}

impl<'a> Expected<'a> {
    /// The handler.
    pub fn handler(self) -> &'a str {
        match self {
            Self::Served(handler) | Self::Gone(handler) => handler,
        }
    }
}
