//! An installation: the stages in their order, and the way back from each.

use std::time::Instant;

use installer_protocol::report::{HostFacts, Installed, Restart};
use installer_protocol::{Mode, Outcome, Reason, Report, Stage, Verb};

use crate::change::{self, Plan};
use crate::detect::Driver;
use crate::host::HostPath;
use crate::record::{Record, Setback, Wish};
use crate::rollback::{self, Teller};
use crate::stage::check::{self, Facts};
use crate::stage::configure::{self, Configured};
use crate::stage::verify::{self, Expected};
use crate::stage::{Because as _, Failure, Job, Places, artifact, clean, restart};

/// Brings the node to what the job's request says. The caller holds the node's lock.
pub fn run(job: &Job<'_>) -> Report {
    let mut progress = Progress::new();
    let mut record = match load(job) {
        Ok(record) => record,
        Err(failure) => return progress.report(Outcome::Refused, progress.setback(&failure), None),
    };
    match attempt(job, &mut record, &mut progress) {
        Ok(message) => {
            let done = Setback {
                stage: progress.stage,
                reason: Reason::Done,
                message,
            };
            progress.report(Outcome::Installed, done, installed(&record))
        }
        Err(failure) => failed(job, &mut record, &mut progress, &failure),
    }
}

/// What was found and done so far: what a report tells beside how it ended.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) host: HostFacts,
    pub(crate) restart: Restart,
    since: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Check,
            host: HostFacts::default(),
            restart: Restart::NotNeeded,
            since: Instant::now(),
        }
    }

    /// Logs what the stage did, and goes on to the next one.
    pub(crate) fn enter(&mut self, stage: Stage, done: &str) {
        self.leave(done);
        self.stage = stage;
        self.since = Instant::now();
    }

    /// Logs what the stage did.
    pub(crate) fn leave(&self, done: &str) {
        tracing::info!(stage = ?self.stage, took_ms = self.since.elapsed().as_millis(), done);
    }

    /// Keeps what the host is for the report.
    pub(crate) fn saw(&mut self, job: &Job<'_>, facts: &Facts) {
        self.host.containerd = facts.version.to_string();
        self.host.config_version = schema(job).unwrap_or_default();
    }

    /// A failure at the present stage.
    pub(crate) fn setback(&self, failure: &Failure) -> Setback {
        Setback {
            stage: self.stage,
            reason: failure.reason,
            message: failure.message(),
        }
    }

    pub(crate) fn report(
        &self,
        outcome: Outcome,
        end: Setback,
        installed: Option<Installed>,
    ) -> Report {
        let Setback {
            stage,
            reason,
            message,
        } = end;
        Report {
            outcome,
            stage,
            reason,
            message,
            host: self.host.clone(),
            installed,
            restart: self.restart,
        }
    }
}

/// The record of the job's runtime; an empty one where nothing was done yet.
pub(crate) fn load(job: &Job<'_>) -> Result<Record, Failure> {
    let loaded = Record::load(job.node.root, &job.places.record);
    let loaded = loaded.map_err(|error| Failure {
        reason: Reason::HostFiles,
        error: error.into(),
    })?;
    Ok(loaded.unwrap_or_else(|| Record::new(&job.request.runtime)))
}

fn attempt(job: &Job<'_>, record: &mut Record, progress: &mut Progress) -> Result<String, Failure> {
    must_tell(record)?;
    job.go_on()?;
    let facts = check::run(job)?;
    progress.saw(job, &facts);
    check::kernel(job)?;
    if job.request.mode == Mode::Preinstalled {
        progress.enter(Stage::Verify, "the node can be used");
        verify::run(job, &job.request.handler, job.request.cgroup_driver)?;
        progress.leave("a guest ran");
        return Ok(format!(
            "the node's own runtime runs guests through handler {}",
            job.request.handler
        ));
    }
    must_be_alone(job, record)?;
    // What was begun goes on, or goes back: containerd may be down because of it.
    if record.pending.is_none() {
        check::configuration(job, &facts)?;
    }
    let systemd_cgroup = check::driver(job)? == Driver::Systemd;
    progress.host.systemd_cgroup = systemd_cgroup;
    // From here on there is something on the node that a removal has to know of.
    change::save(job, record)?;
    progress.enter(Stage::Artifact, "the node can be used");
    let placed = artifact::run(job, record, systemd_cgroup)?;
    let wish = Wish {
        handler: job.request.handler.clone(),
        launcher: placed.launcher.clone(),
        systemd_cgroup,
    };
    progress.enter(
        Stage::Configure,
        &format!("{}: {:?}", placed.installed.path, placed.change),
    );
    if record.pending.is_none() {
        job.go_on()?;
    }
    let configured = configure::run(job, record, &facts, &wish, &placed)?;
    progress
        .host
        .config_path
        .clone_from(&configured.active.config_path);
    progress.enter(Stage::Restart, &list(&configured.written));
    restarted(job, record, progress, &facts, &configured)?;
    progress.enter(Stage::Verify, &format!("{:?}", progress.restart));
    verify::run(job, &wish.handler, rollback::driver(systemd_cgroup))?;
    record.active = Some(configured.active);
    record.pending = None;
    change::save(job, record)?;
    progress.enter(Stage::Clean, "a guest ran");
    Ok(cleaned(job, progress, &wish, &placed.installed))
}

/// Restarts containerd if it has not read its configuration. Also that can fail, so it is written
/// down and watched.
fn restarted(
    job: &Job<'_>,
    record: &mut Record,
    progress: &mut Progress,
    facts: &Facts,
    done: &Configured,
) -> Result<(), Failure> {
    let expected = Expected::Served(&done.active.wish.handler);
    let unit = facts.unit.as_deref();
    if record.pending.is_none() && restart::is_needed(job, unit, record.touched, expected)? {
        job.go_on()?;
        let tried = Some(done.active.clone());
        let plan = Plan {
            verb: Verb::Install,
            handler: expected.handler(),
            tried,
            files: &[],
            folders: &[],
        };
        change::arm(job, record, facts, plan)?;
    }
    progress.restart = restart::run(job, unit, record.touched, expected)?;
    Ok(())
}

/// Removes what is no longer used. That something stays is no failure of what a guest has proven:
/// the next installation removes it.
fn cleaned(job: &Job<'_>, progress: &Progress, wish: &Wish, installed: &Installed) -> String {
    let kept = HostPath::new(&installed.path).map_err(|error| Failure {
        reason: Reason::HostFiles,
        error: error.into(),
    });
    let message = format!(
        "handler {} runs guests on version {} in {}",
        wish.handler, installed.version, installed.path
    );
    match kept.and_then(|kept| clean::run(job, &kept, &wish.launcher)) {
        Ok(removed) => {
            progress.leave(&list(&removed));
            message
        }
        Err(failure) => {
            tracing::warn!(
                reason = failure.message(),
                "a former version stays until the next installation"
            );
            format!(
                "{message}; a former version stays until the next installation: {}",
                failure.message()
            )
        }
    }
}

/// A failure that nobody was told of yet is told before anything is tried again: the same would
/// fail again.
fn must_tell(record: &Record) -> Result<(), Failure> {
    untold(record).map_or(Ok(()), |setback| {
        Err(Failure::new(setback.reason, setback.message))
    })
}

fn untold(record: &Record) -> Option<Setback> {
    record
        .pending
        .as_ref()
        .and_then(|pending| pending.setback.clone())
        .or_else(|| record.untold.clone())
}

/// Refuses while another runtime's change is not proven: a restart of ours would have containerd
/// read it. What this runtime began itself goes on: of two that wait for each other, none would.
pub(crate) fn must_be_alone(job: &Job<'_>, record: &Record) -> Result<(), Failure> {
    if record.pending.is_some() {
        return Ok(());
    }
    let states = job.places.base.join(Places::STATE);
    for name in clean::names(job, &states)?
        .into_iter()
        .filter(|name| *name != job.request.runtime)
    {
        let path = states.join(&name).join("record.json");
        let other = Record::load(job.node.root, &path).because(Reason::HostFiles, || {
            format!("see whether what was begun with runtime {name} on this node is finished")
        })?;
        if other.is_some_and(|other| other.pending.is_some()) {
            let message = format!(
                "runtime {name} was being installed or removed on this node when its installer \
                 ended: its next one, or the guard on the \
                 node, finishes that first"
            );
            return Err(Failure::new(Reason::Locked, message));
        }
    }
    Ok(())
}

/// What a failure leads to: the way back, if anything of containerd's was changed.
pub(crate) fn failed(
    job: &Job<'_>,
    record: &mut Record,
    progress: &mut Progress,
    failure: &Failure,
) -> Report {
    let told = untold(record);
    let setback = told.clone().unwrap_or_else(|| progress.setback(failure));
    tracing::error!(stage = ?setback.stage, reason = setback.reason.as_str(),
        text = setback.message, "failed");
    if record.pending.is_some() {
        return back(job, record, progress, &setback);
    }
    let outcome = if told.is_some() {
        // A guard went back.
        record.untold = None;
        progress.restart = Restart::Done;
        Outcome::RolledBack
    } else if setback.stage >= Stage::Restart
        && (record.active.is_some() || job.request.mode == Mode::Preinstalled)
    {
        // What a guest has proven once does not run any more, and there is nothing older to go back
        // to. Of what the node's image brings nothing is written down, so its first proof looks
        // like any other.
        Outcome::Broken
    } else {
        Outcome::Refused
    };
    let discarded = if told.is_some() {
        change::save(job, record)
    } else {
        Ok(())
    }
    .and_then(|()| clean::discard(job, record));
    let message = match discarded {
        Ok(()) => setback.message,
        Err(failure) => format!(
            "{}; and what it left could not be removed: {}",
            setback.message,
            failure.message()
        ),
    };
    progress.report(outcome, Setback { message, ..setback }, installed(record))
}

fn back(job: &Job<'_>, record: &mut Record, progress: &mut Progress, setback: &Setback) -> Report {
    match rollback::run(job, record, setback, Teller::Installer) {
        Ok(restart) => {
            if restart == Restart::Done {
                progress.restart = restart;
            }
            let message = format!("{}; the node is as it was before", setback.message);
            progress.report(
                Outcome::RolledBack,
                Setback {
                    message,
                    ..*setback
                },
                installed(record),
            )
        }
        Err(failure) => {
            let message = format!(
                "{}; and the way back failed: {}; look at containerd on the node, the next \
                 installer tries again",
                setback.message,
                failure.message()
            );
            progress.report(
                Outcome::Broken,
                Setback {
                    message,
                    ..*setback
                },
                installed(record),
            )
        }
    }
}

fn installed(record: &Record) -> Option<Installed> {
    record
        .active
        .as_ref()
        .map(|active| active.installed.clone())
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing to do".to_owned()
    } else {
        names.join(", ")
    }
}

/// The schema version that containerd's main file says it has; none where it says none.
fn schema(job: &Job<'_>) -> Option<u32> {
    let main = HostPath::new(&job.layout.config).ok()?;
    let text = String::from_utf8(job.node.root.read(&main).ok()??).ok()?;
    let document: toml_edit::DocumentMut = text.parse().ok()?;
    u32::try_from(document.get("version")?.as_integer()?).ok()
}
