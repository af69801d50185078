//! Restarts containerd if it has not read its configuration since the last write. An installer that
//! this restart killed finds here, in its next run, that no restart is needed.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use installer_protocol::Reason;
use installer_protocol::layout::Restarter;
use installer_protocol::report::Restart;
use systemd_client::Unit;

use crate::detect;
use crate::failure::{Failure, WithReason as _};
use crate::installation::Installation;
use crate::machine::{ExpectedHandler, READY_TIMEOUT};
use crate::record::LastWrite;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum time that a distribution takes to restart its containerd.
const DISTRIBUTION_TIMEOUT: Duration = Duration::from_mins(2);

/// Restarts containerd if needed, or waits for the distribution to do it, until containerd answers.
///
/// # Errors
/// If containerd does not start or does not answer.
pub fn run(
    installation: &Installation<'_>,
    unit: Option<&str>,
    last_write: LastWrite,
    expected: ExpectedHandler<'_>,
) -> Result<Restart, Failure> {
    match installation.layout.restarter {
        Restarter::Installer => restart(installation, unit, last_write, expected),
        Restarter::Distribution => wait_for_distribution(installation, last_write, expected),
    }
}

/// Returns whether the installer has to restart containerd.
///
/// # Errors
/// If systemd does not return the unit's state.
pub fn is_needed(
    installation: &Installation<'_>,
    unit: Option<&str>,
    last_write: LastWrite,
    expected: ExpectedHandler<'_>,
) -> Result<bool, Failure> {
    if installation.layout.restarter == Restarter::Distribution {
        return Ok(false);
    }
    let Some(unit) = unit else { return Ok(true) };
    let unit = unit_state(installation, unit)?;
    if !detect::is_active(&unit) || !last_write.is_read_by(unit.active_since) {
        return Ok(true);
    }
    // The times are not enough: another program may have restored an older file.
    let status = installation
        .node
        .machine
        .served(&installation.paths.socket, READY_TIMEOUT);
    Ok(status.is_ok_and(|status| {
        status.handlers.has(expected.handler())
            == Some(matches!(expected, ExpectedHandler::Gone(_)))
    }))
}

fn restart(
    installation: &Installation<'_>,
    unit: Option<&str>,
    last_write: LastWrite,
    expected: ExpectedHandler<'_>,
) -> Result<Restart, Failure> {
    if !is_needed(installation, unit, last_write, expected)? {
        return Ok(Restart::NotNeeded);
    }
    let Some(unit) = unit else {
        return Err(Failure::new(
            Reason::ContainerdRestart,
            "no active unit runs containerd on the node: which one is to be restarted?",
        ));
    };
    let machine = installation.node.machine;
    machine.about_to("restart containerd");
    machine
        .restart(unit)
        .with_reason(Reason::ContainerdRestart, || {
            format!("restart {unit} on the node; `journalctl -u {unit}` there has the cause")
        })?;
    let socket = &installation.paths.socket;
    machine
        .served(socket, READY_TIMEOUT)
        .with_reason(Reason::ContainerdRestart, || {
            format!("wait for containerd at {socket} after the restart of {unit}")
        })?;
    Ok(Restart::Done)
}

/// Waits until the distribution has restarted its containerd, which it does when it sees the
/// change.
fn wait_for_distribution(
    installation: &Installation<'_>,
    last_write: LastWrite,
    expected: ExpectedHandler<'_>,
) -> Result<Restart, Failure> {
    let machine = installation.node.machine;
    let socket = &installation.paths.socket;
    let is_wanted = matches!(expected, ExpectedHandler::Served(_));
    let began = machine.elapsed();
    loop {
        let status = machine
            .served(socket, READY_TIMEOUT)
            .with_reason(Reason::ContainerdRestart, || {
                format!("wait for containerd at {socket}")
            })?;
        // If containerd does not list its handlers, the smoke test decides.
        let is_as_expected = status
            .handlers
            .has(expected.handler())
            .is_none_or(|is_served| is_served == is_wanted);
        if is_as_expected && last_write.is_read_by(listening_since(installation)?) {
            return Ok(if last_write == LastWrite::Never {
                Restart::NotNeeded
            } else {
                Restart::Done
            });
        }
        if machine.elapsed().saturating_sub(began) >= DISTRIBUTION_TIMEOUT {
            let message = format!(
                "the node's distribution has not restarted containerd at {socket} {} s after its \
                 configuration was changed: does it watch the folder of its drop-ins?",
                DISTRIBUTION_TIMEOUT.as_secs()
            );
            return Err(Failure::new(Reason::ContainerdRestart, message));
        }
        machine.pause(POLL_INTERVAL);
    }
}

/// Returns the time since which containerd listens, in microseconds since 1970: it creates its
/// socket anew at each start.
fn listening_since(installation: &Installation<'_>) -> Result<u64, Failure> {
    let socket = &installation.paths.socket;
    let metadata = std::fs::metadata(installation.locate(socket)?)
        .with_reason(Reason::ContainerdRestart, || {
            format!("stat {socket} on the node")
        })?;
    let micros = metadata.ctime() * 1_000_000 + metadata.ctime_nsec() / 1000;
    Ok(u64::try_from(micros).unwrap_or_default())
}

fn unit_state(installation: &Installation<'_>, unit: &str) -> Result<Unit, Failure> {
    installation
        .node
        .machine
        .unit(unit)
        .with_reason(Reason::ContainerdRestart, || {
            format!("ask systemd for the state of {unit} on the node")
        })
}
