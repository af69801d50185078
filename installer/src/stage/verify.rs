//! Verifies that containerd runs guests through the handler: it answers, it lists the handler, and
//! a guest runs to the expected end. An active unit is not enough.

use installer_protocol::{CgroupDriver, Reason};

use super::clean;
use crate::failure::{Failure, WithReason as _};
use crate::installation::Installation;
use crate::machine::{ExpectedHandler, READY_TIMEOUT, Trial};

/// Runs a guest through `handler` with this cgroup driver; [`CgroupDriver::Auto`] is the one in
/// containerd's configuration.
///
/// # Errors
/// If containerd does not answer, does not list the handler, or the guest does not run.
pub fn run(
    installation: &Installation<'_>,
    handler: &str,
    driver: CgroupDriver,
) -> Result<(), Failure> {
    check_listed(installation, ExpectedHandler::Served(handler))?;
    let trial = Trial {
        runtime: &installation.request.runtime,
        handler,
        image: &installation.request.image,
        driver,
        socket: &installation.paths.socket,
        logs: &installation.paths.logs,
    };
    installation.node.machine.about_to("run the smoke guest");
    let ran = installation.node.machine.smoke(&trial);
    clean::remove_logs(installation)?;
    ran.with_reason(Reason::SmokeFailed, || {
        format!("verify that handler {handler} runs guests")
    })
}

/// Checks that containerd answers and lists the handler, or does not list it.
///
/// # Errors
/// If it does not.
pub fn check_listed(
    installation: &Installation<'_>,
    expected: ExpectedHandler<'_>,
) -> Result<(), Failure> {
    let socket = &installation.paths.socket;
    let status = installation
        .node
        .machine
        .served(socket, READY_TIMEOUT)
        .with_reason(Reason::ContainerdRestart, || {
            format!("wait for containerd at {socket}")
        })?;
    // If containerd does not list its handlers, the smoke test decides.
    match (expected, status.handlers.has(expected.handler())) {
        (ExpectedHandler::Served(handler), Some(false)) => {
            let message = format!(
                "containerd answers at {socket} but does not list handler {handler}: does another \
                 file set its configuration? compare `containerd --config {} config dump` on the \
                 node, and the arguments that containerd runs with (`ps -o args= -C containerd`)",
                installation.layout.config
            );
            Err(Failure::new(Reason::HandlerMissing, message))
        }
        (ExpectedHandler::Gone(handler), Some(true)) => {
            let message = format!(
                "containerd answers at {socket} and still lists handler {handler}: is it defined \
                 in a second file?"
            );
            Err(Failure::new(Reason::ContainerdConfig, message))
        }
        _ => Ok(()),
    }
}

/// Returns the cgroup driver of a handler by its option `SystemdCgroup`.
pub fn cgroup_driver(systemd_cgroup: bool) -> CgroupDriver {
    if systemd_cgroup {
        CgroupDriver::Systemd
    } else {
        CgroupDriver::Cgroupfs
    }
}
