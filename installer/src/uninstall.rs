//! A removal: the way back from an installation, also from one that was never finished. Afterwards
//! the node is as if it had never been.

use installer_protocol::{Outcome, Reason, Report, Stage, Verb};

use crate::change::{self, HostDump, HostFiles, Plan};
use crate::containerd::{self, ConfigError};
use crate::host::HostPath;
use crate::install::{Progress, failed, load, must_be_alone};
use crate::record::{Active, Record, Setback, Touched};
use crate::stage::check::{self, Facts};
use crate::stage::verify::{self, Expected};
use crate::stage::{Because as _, Failure, Job, clean, restart, usage};

/// Takes everything of the job's runtime off the node. The caller holds the node's lock.
pub fn run(job: &Job<'_>) -> Report {
    let mut progress = Progress::new();
    let mut record = match load(job) {
        Ok(record) => record,
        Err(failure) => return progress.report(Outcome::Refused, progress.setback(&failure), None),
    };
    match attempt(job, &mut record, &mut progress) {
        Ok(()) => {
            let message = format!(
                "nothing of runtime {} is left on the node",
                job.request.runtime
            );
            progress.report(
                Outcome::Removed,
                Setback {
                    stage: Stage::Clean,
                    reason: Reason::Done,
                    message,
                },
                None,
            )
        }
        Err(failure) if record.pending.is_some() => {
            failed(job, &mut record, &mut progress, &failure)
        }
        Err(failure) => {
            let installed = record
                .active
                .as_ref()
                .map(|active| active.installed.clone());
            progress.report(Outcome::Refused, progress.setback(&failure), installed)
        }
    }
}

fn attempt(job: &Job<'_>, record: &mut Record, progress: &mut Progress) -> Result<(), Failure> {
    usage::must_be_none(job)?;
    job.go_on()?;
    // Where nothing of containerd's was ever changed, nothing needs to be known of it.
    if record.active.is_some() || record.pending.is_some() || record.touched != Touched::Never {
        must_be_alone(job, record)?;
        unconfigure(job, record, progress)?;
        // Somebody may have started a container in the meantime: its files must not vanish under
        // it.
        usage::must_be_none(job)?;
    }
    progress.enter(Stage::Clean, "containerd does not lead to the runtime");
    change::remove_candidate(job)?;
    clean::remove_all(job)?;
    progress.leave("its files are gone");
    Ok(())
}

/// Takes the handler from containerd, and proves that it answers without it.
fn unconfigure(job: &Job<'_>, record: &mut Record, progress: &mut Progress) -> Result<(), Failure> {
    let facts = check::run(job)?;
    progress.saw(job, &facts);
    progress.enter(Stage::Configure, "no container uses the runtime");
    let handler = take_back_unfinished(job, record, &facts)?;
    let written = revert(job, record, &facts)?;
    let expected = Expected::Gone(&handler);
    progress.enter(Stage::Restart, &written.join(", "));
    progress.restart = restart::run(job, facts.unit.as_deref(), record.touched, expected)?;
    progress.enter(Stage::Verify, &format!("{:?}", progress.restart));
    verify::listed(job, expected)?;
    record.active = None;
    record.pending = None;
    record.touched = Touched::Never;
    change::save(job, record)
}

/// Takes back what an installation began and did not finish; what a removal began stays as far as
/// it is. Returns the handler that is to be gone.
fn take_back_unfinished(
    job: &Job<'_>,
    record: &mut Record,
    facts: &Facts,
) -> Result<String, Failure> {
    record.untold = None;
    let active = record
        .active
        .as_ref()
        .map(|active| active.wish.handler.clone());
    let Some(pending) = record.pending.clone() else {
        return Ok(active.unwrap_or_else(|| job.request.handler.clone()));
    };
    if pending.verb == Verb::Uninstall && pending.setback.is_none() {
        return Ok(pending.handler);
    }
    change::undo(job, record)?;
    record.pending = None;
    if active.is_some() {
        change::save(job, record)?;
    } else {
        // What is left to do is a restart, which has to be watched as well.
        let plan = Plan {
            verb: Verb::Uninstall,
            handler: &pending.handler,
            tried: None,
            files: &[],
            folders: &[],
        };
        change::arm(job, record, facts, plan)?;
    }
    Ok(active.unwrap_or(pending.handler))
}

/// Takes the handler out of containerd's configuration. Returns the files that were written.
fn revert(job: &Job<'_>, record: &mut Record, facts: &Facts) -> Result<Vec<String>, Failure> {
    let Some(active) = record.active.clone() else {
        return Ok(Vec::new());
    };
    if record.pending.is_none() {
        let changes = proven(job, facts, &active).map_err(|error| Failure {
            reason: error.reason(),
            error: error.into(),
        })?;
        job.go_on()?;
        let plan = Plan {
            verb: Verb::Uninstall,
            handler: &active.wish.handler,
            tried: None,
            files: &changes,
            folders: &[],
        };
        change::arm(job, record, facts, plan)?;
    }
    let written = change::apply(job, record)?;
    let folders = active
        .config
        .made_folders
        .iter()
        .map(|folder| HostPath::new(folder))
        .collect::<Result<Vec<_>, _>>();
    change::remove_made_folders(
        job,
        &folders.because(Reason::HostFiles, || "read the record".to_owned())?,
    )?;
    Ok(written)
}

/// The changes that take the handler out, proven with the host's own containerd.
fn proven(
    job: &Job<'_>,
    facts: &Facts,
    active: &Active,
) -> Result<Vec<containerd::FileChange>, ConfigError> {
    let found = containerd::Facts::gather(
        &HostFiles(job.node.root),
        &job.layout,
        job.request.mode,
        facts.version,
        Some(&active.config),
    )?;
    let changes = containerd::revert(&found, &active.config)?;
    if !changes.is_empty() {
        let dump = HostDump {
            job,
            program: &facts.program,
        };
        containerd::prove_removal(&dump, &found, &changes, &active.wish.handler)?;
    }
    Ok(changes)
}
