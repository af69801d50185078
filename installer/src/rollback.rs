//! The rollback of a pending change: restores the files, restarts containerd if it has read others,
//! and verifies the handler that was there before.

use installer_protocol::report::Restart;
use installer_protocol::{Reason, Verb};

use crate::change;
use crate::failure::Failure;
use crate::files;
use crate::installation::Installation;
use crate::machine::ExpectedHandler;
use crate::node_root::NodePath;
use crate::record::{FailureRecord, Record};
use crate::stage::{clean, restart, usage, verify};

/// The process that rolls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackBy {
    /// An installer, which reports the failure itself.
    Installer,
    /// A guard, which leaves the failure in the record for the next installer's report.
    Guard,
}

/// Rolls the pending change back. The failure is recorded first, so that after a kill the next
/// process rolls back too.
///
/// # Errors
/// If the node is not as it was. The change stays pending for the next installer or guard.
pub fn run(
    installation: &Installation<'_>,
    record: &mut Record,
    failure_record: &FailureRecord,
    by: RollbackBy,
) -> Result<Restart, Failure> {
    if let Some(pending) = record.pending.as_mut() {
        pending.failure_record = Some(failure_record.clone());
    }
    // A full disk must not prevent the rollback.
    if let Err(failure) = change::save(installation, record) {
        tracing::warn!(
            cause = failure.message(),
            "the rollback is not in the record"
        );
    }
    if let Err(failure) = change::undo(installation, record) {
        if failure.reason != Reason::HostFiles || !free_disk_space(installation, record) {
            return Err(failure);
        }
        change::undo(installation, record)?;
    }
    let restarted = restart_and_verify(installation, record)?;
    record.pending = None;
    match by {
        RollbackBy::Installer => {
            record.unreported = None;
            save_finished(installation, record)?;
            clean::discard(installation, record)?;
        }
        RollbackBy::Guard => {
            record.unreported = Some(failure_record.clone());
            save_finished(installation, record)?;
        }
    }
    Ok(restarted)
}

/// Saves the record after the rollback. A failure does not matter if the record is empty: it is
/// about to be removed.
fn save_finished(installation: &Installation<'_>, record: &Record) -> Result<(), Failure> {
    match change::save(installation, record) {
        Err(failure) if record.active.is_none() && record.unreported.is_none() => {
            tracing::warn!(
                cause = failure.message(),
                "the record was not written before its removal"
            );
            Ok(())
        }
        result => result,
    }
}

/// Restarts containerd on the restored files and verifies the former handler, or its absence.
fn restart_and_verify(
    installation: &Installation<'_>,
    record: &Record,
) -> Result<Restart, Failure> {
    let Some(pending) = &record.pending else {
        return Ok(Restart::NotNeeded);
    };
    let expected = match &record.active {
        Some(active) => ExpectedHandler::Served(&active.desired.handler),
        None => ExpectedHandler::Gone(&pending.handler),
    };
    let unit = pending.unit.as_deref();
    let restarted = restart::run(installation, unit, record.last_write, expected)?;
    match &record.active {
        Some(active) => {
            let driver = verify::cgroup_driver(active.desired.systemd_cgroup);
            verify::run(installation, &active.desired.handler, driver)?;
        }
        None => verify::check_listed(installation, expected)?,
    }
    Ok(restarted)
}

/// Frees space on a full disk: removes the folder of the runtime that was tried, which is not
/// needed after the rollback. Returns whether it was removed.
fn free_disk_space(installation: &Installation<'_>, record: &Record) -> bool {
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
    let Ok(folder) = NodePath::new(&tried.installed.path) else {
        return false;
    };
    if usage::versions(installation).map_or(true, |used| used.contains(folder.name())) {
        return false;
    }
    installation
        .node
        .root
        .locate(&folder)
        .is_ok_and(|path| files::remove_tree(&path).is_ok())
}
