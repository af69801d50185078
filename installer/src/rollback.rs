//! The way back after a failure: the bytes of before, containerd restarted if it has read others,
//! and the proof that what ran before runs.

use installer_protocol::report::Restart;
use installer_protocol::{CgroupDriver, Reason, Verb};

use crate::change;
use crate::files;
use crate::host::HostPath;
use crate::record::{Record, Setback};
use crate::stage::verify::Expected;
use crate::stage::{Failure, Job, clean, restart, usage, verify};

/// Who goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// An installer, which reports the setback.
    Installer,
    /// A guard, which has nobody to report to: the next installer does.
    Guard,
}

/// Goes back. The setback is in the record first: whoever comes after a kill goes back as well.
///
/// # Errors
/// When the node is not as it was. The record keeps the pending change: the next installer or guard
/// goes on.
pub fn run(
    job: &Job<'_>,
    record: &mut Record,
    setback: &Setback,
    teller: Teller,
) -> Result<Restart, Failure> {
    if let Some(pending) = record.pending.as_mut() {
        pending.setback = Some(setback.clone());
    }
    // A full disk must not keep the node from going back.
    if let Err(failure) = change::save(job, record) {
        tracing::warn!(
            reason = failure.message(),
            "the way back is not in the record"
        );
    }
    if let Err(failure) = change::undo(job, record) {
        if failure.reason != Reason::HostFiles || !freed(job, record) {
            return Err(failure);
        }
        change::undo(job, record)?;
    }
    let restarted = prove(job, record)?;
    record.pending = None;
    match teller {
        Teller::Installer => {
            record.untold = None;
            settle(job, record)?;
            clean::discard(job, record)?;
        }
        Teller::Guard => {
            record.untold = Some(setback.clone());
            settle(job, record)?;
        }
    }
    Ok(restarted)
}

/// Writes a record of a node that is as it was. One without anything in it is about to be removed.
fn settle(job: &Job<'_>, record: &Record) -> Result<(), Failure> {
    match change::save(job, record) {
        Err(failure) if record.active.is_none() && record.untold.is_none() => {
            tracing::warn!(reason = failure.message(), "the record is removed as it is");
            Ok(())
        }
        result => result,
    }
}

/// Has containerd read what is there again, and proves that what was there before works.
fn prove(job: &Job<'_>, record: &Record) -> Result<Restart, Failure> {
    let Some(pending) = &record.pending else {
        return Ok(Restart::NotNeeded);
    };
    let expected = match &record.active {
        Some(active) => Expected::Served(&active.wish.handler),
        None => Expected::Gone(&pending.handler),
    };
    let restarted = restart::run(job, pending.unit.as_deref(), record.touched, expected)?;
    match &record.active {
        Some(active) => verify::run(
            job,
            &active.wish.handler,
            driver(active.wish.systemd_cgroup),
        )?,
        None => verify::listed(job, expected)?,
    }
    Ok(restarted)
}

/// Who sets up the cgroups of a handler.
pub fn driver(systemd: bool) -> CgroupDriver {
    if systemd {
        CgroupDriver::Systemd
    } else {
        CgroupDriver::Cgroupfs
    }
}

/// Makes room on a full disk: the folder of the runtime that was tried is of no more use. Whether
/// there was one.
fn freed(job: &Job<'_>, record: &Record) -> bool {
    let Some(tried) = record
        .pending
        .as_ref()
        .filter(|pending| pending.verb == Verb::Install)
        .and_then(|pending| pending.tried.as_ref())
    else {
        return false;
    };
    if record
        .active
        .as_ref()
        .is_some_and(|active| active.installed == tried.installed)
    {
        return false;
    }
    let Ok(folder) = HostPath::new(&tried.installed.path) else {
        return false;
    };
    if usage::versions(job).map_or(true, |used| used.contains(folder.name())) {
        return false;
    }
    job.node
        .root
        .locate(&folder)
        .is_ok_and(|place| files::remove_tree(&place).is_ok())
}
