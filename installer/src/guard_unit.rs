//! The start of a guard: a copy of this program on the node, run by systemd outside of every
//! container. [`crate::guard`] is what it then does.

use std::fs;
use std::time::Duration;

use installer_protocol::Reason;

use crate::failure::{Failure, WithReason as _};
use crate::files::{self, FileAccess};
use crate::installation::Installation;

/// Subcommand of this program that runs the guard.
pub const COMMAND: &str = "guard";

/// Maximum time for which a guard watches: more than the longest installer (two hours by
/// `rollout.nodeTimeoutSeconds`, and the grace period of its pod), the waits and some rollbacks.
pub(crate) const WATCH_TIMEOUT: Duration = Duration::from_mins(150);
/// Maximum time of a rollback that begins at the end of [`WATCH_TIMEOUT`], with all its checks.
/// Then systemd kills the guard.
const LAST_ROLLBACK_TIMEOUT: Duration = Duration::from_mins(15);

/// Starts a guard for `attempt` on the node.
///
/// # Errors
/// If its program cannot be written, or systemd does not start it.
pub(crate) fn start(installation: &Installation<'_>, attempt: &str) -> Result<(), Failure> {
    let program = &installation.paths.guard;
    let machine = installation.node.machine;
    machine.about_to("put the guard's program on the node");
    let put = || {
        let own = fs::read(machine.own_program()?)?;
        files::write(
            &installation.node.root.locate(program)?,
            &own,
            FileAccess::PROGRAM,
        )
    };
    put().with_reason(Reason::HostFiles, || {
        format!("put the guard's program at {program} on the node")
    })?;
    let runtime = &installation.request.runtime;
    let unit = format!("wasmedge-runtime-guard-{runtime}-{attempt}.service");
    let description =
        format!("Rolls the installation of runtime {runtime} back if it is not finished");
    let arguments = [
        program.as_str(),
        "--host-root",
        "/",
        COMMAND,
        "--attempt",
        attempt,
        "--request",
        &installation.request.to_json(),
    ];
    let command: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    machine.about_to("start the guard");
    machine
        .start(
            &unit,
            &description,
            &command,
            WATCH_TIMEOUT + LAST_ROLLBACK_TIMEOUT,
        )
        .with_reason(Reason::ContainerdRestart, || {
            format!("start the guard {unit} on the node, without which containerd is not restarted")
        })
}
