//! The end of a failed run: a rollback if containerd's configuration was changed, else the removal
//! of what the run left, and the report of the failure.

use installer_protocol::report::{Installed, Restart};
use installer_protocol::{ConfigMode, Outcome, Report, Stage};

use crate::change;
use crate::failure::Failure;
use crate::installation::Installation;
use crate::progress::Progress;
use crate::record::{FailureRecord, Record};
use crate::rollback::{self, RollbackBy};
use crate::stage::clean;

/// Fails if the record has a failure that is not reported yet. It is reported before anything is
/// tried again, because the same attempt would fail again.
pub(crate) fn check_all_reported(record: &Record) -> Result<(), Failure> {
    unreported(record).map_or(Ok(()), |failure| {
        Err(Failure::new(failure.reason, failure.message))
    })
}

/// Brings the node back after `failure` and returns the report.
pub(crate) fn recover(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
    failure: &Failure,
) -> Report {
    let earlier = unreported(record);
    let failure_record = earlier
        .clone()
        .unwrap_or_else(|| progress.failure_record(failure));
    tracing::error!(stage = ?failure_record.stage, reason = failure_record.reason.as_str(),
        cause = failure_record.message, "the run failed");
    if record.pending.is_some() {
        return roll_back(installation, record, progress, &failure_record);
    }
    let outcome = if earlier.is_some() {
        // A guard has rolled back.
        record.unreported = None;
        progress.restart = Restart::Done;
        Outcome::RolledBack
    } else if failure_record.stage >= Stage::Restart
        && (record.active.is_some() || installation.request.mode == ConfigMode::Preinstalled)
    {
        // A guest ran before and does not run now, and no older version is known. For a runtime of
        // the node's image there is no record, so its first run looks like any other.
        Outcome::Broken
    } else {
        Outcome::Refused
    };
    let cleaned = if earlier.is_some() {
        change::save(installation, record)
    } else {
        Ok(())
    }
    .and_then(|()| clean::discard(installation, record));
    let message = match cleaned {
        Ok(()) => failure_record.message,
        Err(failure) => format!(
            "{}; its remaining files could not be removed: {}",
            failure_record.message,
            failure.message()
        ),
    };
    progress.report(
        outcome,
        FailureRecord {
            message,
            ..failure_record
        },
        installed(record),
    )
}

/// Returns the runtime that the handler leads to.
pub(crate) fn installed(record: &Record) -> Option<Installed> {
    record
        .active
        .as_ref()
        .map(|active| active.installed.clone())
}

/// Returns the failure in the record that was not reported: of a change that is being rolled back,
/// or of one that a guard has rolled back.
fn unreported(record: &Record) -> Option<FailureRecord> {
    record
        .pending
        .as_ref()
        .and_then(|pending| pending.failure_record.clone())
        .or_else(|| record.unreported.clone())
}

fn roll_back(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
    failure_record: &FailureRecord,
) -> Report {
    let (outcome, message) =
        match rollback::run(installation, record, failure_record, RollbackBy::Installer) {
            Ok(restart) => {
                if restart == Restart::Done {
                    progress.restart = restart;
                }
                let message = format!("{}; the node is as it was before", failure_record.message);
                (Outcome::RolledBack, message)
            }
            Err(failure) => {
                let message = format!(
                    "{}; the rollback failed: {}; check containerd on the node, the next \
                     installer tries again",
                    failure_record.message,
                    failure.message()
                );
                (Outcome::Broken, message)
            }
        };
    progress.report(
        outcome,
        FailureRecord {
            message,
            ..*failure_record
        },
        installed(record),
    )
}
