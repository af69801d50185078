//! A removal: undoes an installation, finished or not. Afterwards the node is as it was before the
//! first one.

use installer_protocol::{Outcome, Reason, Report, Stage, Verb};

use crate::change::{self, NodeConfigDump, NodeConfigFiles, Transition};
use crate::containerd::{self, ConfigError};
use crate::detect::ContainerdService;
use crate::failure::{Failure, WithReason as _};
use crate::installation::Installation;
use crate::machine::ExpectedHandler;
use crate::node_root::NodePath;
use crate::progress::Progress;
use crate::record::{ActiveRuntime, FailureRecord, LastWrite, Record};
use crate::recovery;
use crate::stage::{check, clean, restart, usage, verify};

/// Removes everything of the installation's runtime from the node. The caller holds the node's
/// lock.
pub fn run(installation: &Installation<'_>) -> Report {
    let mut progress = Progress::new();
    let mut record = match change::load(installation) {
        Ok(record) => record,
        Err(failure) => {
            return progress.report(Outcome::Refused, progress.failure_record(&failure), None);
        }
    };
    match run_stages(installation, &mut record, &mut progress) {
        Ok(()) => {
            let message = format!(
                "nothing of runtime {} is left on the node",
                installation.request.runtime
            );
            progress.report(
                Outcome::Removed,
                FailureRecord {
                    stage: Stage::Clean,
                    reason: Reason::Done,
                    message,
                },
                None,
            )
        }
        Err(failure) if record.pending.is_some() => {
            recovery::recover(installation, &mut record, &mut progress, &failure)
        }
        Err(failure) => {
            let failure_record = progress.failure_record(&failure);
            let installed = recovery::installed(&record);
            progress.report(Outcome::Refused, failure_record, installed)
        }
    }
}

fn run_stages(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
) -> Result<(), Failure> {
    usage::check_unused(installation)?;
    installation.check_not_cancelled()?;
    // If containerd's configuration was never changed, containerd is not looked at.
    if record.active.is_some() || record.pending.is_some() || record.last_write != LastWrite::Never
    {
        check::no_other_pending_change(installation, record)?;
        unconfigure(installation, record, progress)?;
        // A container may have started in the meantime: its files must not be removed.
        usage::check_unused(installation)?;
    }
    progress.enter(Stage::Clean, "containerd does not lead to the runtime");
    change::remove_candidate(installation)?;
    clean::remove_all(installation)?;
    progress.log_result("its files are gone");
    Ok(())
}

/// Removes the handler from containerd and verifies that containerd answers without it.
fn unconfigure(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let service = check::run(installation)?;
    progress.set_containerd(installation, &service);
    progress.enter(Stage::Configure, "no container uses the runtime");
    let handler = undo_unfinished(installation, record, &service)?;
    let written = revert(installation, record, &service)?;
    let expected = ExpectedHandler::Gone(&handler);
    progress.enter(Stage::Restart, &written.join(", "));
    let unit = service.unit.as_deref();
    progress.restart = restart::run(installation, unit, record.last_write, expected)?;
    progress.enter(Stage::Verify, &format!("{:?}", progress.restart));
    verify::check_listed(installation, expected)?;
    record.active = None;
    record.pending = None;
    record.last_write = LastWrite::Never;
    change::save(installation, record)
}

/// Undoes a change that an installation did not finish; one that a removal did not finish is
/// continued later. Returns the handler that is to be removed.
fn undo_unfinished(
    installation: &Installation<'_>,
    record: &mut Record,
    service: &ContainerdService,
) -> Result<String, Failure> {
    record.unreported = None;
    let active = record
        .active
        .as_ref()
        .map(|active| active.desired.handler.clone());
    let Some(pending) = record.pending.clone() else {
        return Ok(active.unwrap_or_else(|| installation.request.handler.clone()));
    };
    if pending.verb == Verb::Uninstall && pending.failure_record.is_none() {
        return Ok(pending.handler);
    }
    change::undo(installation, record)?;
    record.pending = None;
    if active.is_some() {
        change::save(installation, record)?;
    } else {
        // Only the restart is left to do, and it needs a guard too.
        let transition = Transition {
            verb: Verb::Uninstall,
            handler: &pending.handler,
            tried: None,
            files: &[],
            folders: &[],
        };
        change::begin(installation, record, service, transition)?;
    }
    Ok(active.unwrap_or(pending.handler))
}

/// Removes the handler from containerd's configuration. Returns the files that were written.
fn revert(
    installation: &Installation<'_>,
    record: &mut Record,
    service: &ContainerdService,
) -> Result<Vec<String>, Failure> {
    let Some(active) = record.active.clone() else {
        return Ok(Vec::new());
    };
    if record.pending.is_none() {
        let changes = proven_changes(installation, service, &active).map_err(|error| Failure {
            reason: error.reason(),
            error: error.into(),
        })?;
        installation.check_not_cancelled()?;
        let transition = Transition {
            verb: Verb::Uninstall,
            handler: &active.desired.handler,
            tried: None,
            files: &changes,
            folders: &[],
        };
        change::begin(installation, record, service, transition)?;
    }
    let written = change::apply(installation, record)?;
    let folders = active
        .config
        .made_folders
        .iter()
        .map(|folder| NodePath::new(folder))
        .collect::<Result<Vec<_>, _>>()
        .with_reason(Reason::HostFiles, || "read the record".to_owned())?;
    change::remove_empty_folders(installation, &folders)?;
    Ok(written)
}

/// Returns the changes that remove the handler, after a trial run of the node's own containerd.
fn proven_changes(
    installation: &Installation<'_>,
    service: &ContainerdService,
    active: &ActiveRuntime,
) -> Result<Vec<containerd::FileChange>, ConfigError> {
    let facts = containerd::ConfigFacts::gather(
        &NodeConfigFiles(installation.node.root),
        &installation.layout,
        installation.request.mode,
        service.version,
        Some(&active.config),
    )?;
    let changes = containerd::revert(&facts, &active.config)?;
    if !changes.is_empty() {
        let dump = NodeConfigDump {
            installation,
            program: &service.program,
        };
        containerd::prove_removal(&dump, &facts, &changes, &active.desired.handler)?;
    }
    Ok(changes)
}
