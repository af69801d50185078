//! containerd reads its configuration when it starts: it is restarted, but only if it has not read
//! it yet. An installer that was killed by that restart finds here, when it is started again, that
//! it is done.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use installer_protocol::Reason;
use installer_protocol::layout::Restarter;
use installer_protocol::report::Restart;
use systemd_client::Unit;

use super::verify::{Expected, READY};
use super::{Because as _, Failure, Job};
use crate::detect;
use crate::record::Touched;

/// Between two looks at whether a distribution has restarted its containerd.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a distribution may take to restart its containerd.
const DISTRIBUTION: Duration = Duration::from_mins(2);

/// Brings containerd to know what its configuration says, and waits until it answers.
///
/// # Errors
/// When it does not start or does not answer.
pub fn run(
    job: &Job<'_>,
    unit: Option<&str>,
    touched: Touched,
    expected: Expected<'_>,
) -> Result<Restart, Failure> {
    match job.layout.restarter {
        Restarter::Installer => restart(job, unit, touched, expected),
        Restarter::Distribution => await_distribution(job, touched, expected),
    }
}

/// Whether containerd has to be restarted by us.
///
/// # Errors
/// When systemd does not say since when it runs.
pub fn is_needed(
    job: &Job<'_>,
    unit: Option<&str>,
    touched: Touched,
    expected: Expected<'_>,
) -> Result<bool, Failure> {
    if job.layout.restarter == Restarter::Distribution {
        return Ok(false);
    }
    let Some(unit) = unit else { return Ok(true) };
    let unit = look(job, unit)?;
    if !detect::is_active(&unit) || !touched.is_read_by(unit.active_since) {
        return Ok(true);
    }
    // Also if its times say that it has read everything: somebody may have put an older file back.
    let served = job.node.machine.served(&job.places.socket, READY);
    Ok(served.is_ok_and(|served| {
        served.handlers.has(expected.handler()) == Some(matches!(expected, Expected::Gone(_)))
    }))
}

fn restart(
    job: &Job<'_>,
    unit: Option<&str>,
    touched: Touched,
    expected: Expected<'_>,
) -> Result<Restart, Failure> {
    if !is_needed(job, unit, touched, expected)? {
        return Ok(Restart::NotNeeded);
    }
    let Some(unit) = unit else {
        return Err(Failure::new(
            Reason::ContainerdRestart,
            "no active unit runs containerd on the host: which one is to be restarted?",
        ));
    };
    job.node.machine.about_to("restart containerd");
    let failed = || format!("restart {unit} on the host; `journalctl -u {unit}` there says why");
    job.node
        .machine
        .restart(unit)
        .because(Reason::ContainerdRestart, failed)?;
    let socket = &job.places.socket;
    job.node
        .machine
        .served(socket, READY)
        .because(Reason::ContainerdRestart, || {
            format!("wait for containerd at {socket} after the restart of {unit}")
        })?;
    Ok(Restart::Done)
}

/// Waits until the distribution has restarted its containerd, as it does when it sees the change.
fn await_distribution(
    job: &Job<'_>,
    touched: Touched,
    expected: Expected<'_>,
) -> Result<Restart, Failure> {
    let socket = &job.places.socket;
    let wanted = matches!(expected, Expected::Served(_));
    let began = job.node.machine.elapsed();
    loop {
        let served = job
            .node
            .machine
            .served(socket, READY)
            .because(Reason::ContainerdRestart, || {
                format!("wait for containerd at {socket}")
            })?;
        // Where it does not say what it serves, the guest will.
        let known = served
            .handlers
            .has(expected.handler())
            .is_none_or(|is| is == wanted);
        if known && touched.is_read_by(listening_since(job)?) {
            return Ok(if touched == Touched::Never {
                Restart::NotNeeded
            } else {
                Restart::Done
            });
        }
        if job.node.machine.elapsed().saturating_sub(began) >= DISTRIBUTION {
            let message = format!(
                "the node's distribution has not restarted containerd at {socket} {} s after its \
                 configuration was changed: does it watch the \
                 folder of its drop-ins?",
                DISTRIBUTION.as_secs()
            );
            return Err(Failure::new(Reason::ContainerdRestart, message));
        }
        job.node.machine.pause(PAUSE);
    }
}

/// Since when containerd listens: it makes another socket at each start. In microseconds since
/// 1970.
fn listening_since(job: &Job<'_>) -> Result<u64, Failure> {
    let socket = &job.places.socket;
    let facts = std::fs::metadata(job.locate(socket)?)
        .because(Reason::ContainerdRestart, || {
            format!("look at {socket} of the host")
        })?;
    let micros = facts.ctime() * 1_000_000 + facts.ctime_nsec() / 1000;
    Ok(u64::try_from(micros).unwrap_or_default())
}

fn look(job: &Job<'_>, unit: &str) -> Result<Unit, Failure> {
    job.node
        .machine
        .unit(unit)
        .because(Reason::ContainerdRestart, || {
            format!("ask systemd about {unit} on the host")
        })
}
