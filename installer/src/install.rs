//! An installation: runs the stages in their order. A failure goes to [`recovery`].

use installer_protocol::report::Installed;
use installer_protocol::{ConfigMode, Outcome, Reason, Report, Stage, Verb};

use crate::change::{self, Transition};
use crate::detect::{ContainerdService, PodCgroupDriver};
use crate::failure::Failure;
use crate::installation::Installation;
use crate::machine::ExpectedHandler;
use crate::node_root::NodePath;
use crate::progress::Progress;
use crate::record::{DesiredHandler, FailureRecord, Record};
use crate::recovery;
use crate::stage::configure::Configured;
use crate::stage::{artifact, check, clean, configure, restart, verify};

/// Brings the node to the state that the request describes. The caller holds the node's lock.
pub fn run(installation: &Installation<'_>) -> Report {
    let mut progress = Progress::new();
    let mut record = match change::load(installation) {
        Ok(record) => record,
        Err(failure) => {
            return progress.report(Outcome::Refused, progress.failure_record(&failure), None);
        }
    };
    match run_stages(installation, &mut record, &mut progress) {
        Ok(message) => {
            let done = FailureRecord {
                stage: progress.stage,
                reason: Reason::Done,
                message,
            };
            progress.report(Outcome::Installed, done, recovery::installed(&record))
        }
        Err(failure) => recovery::recover(installation, &mut record, &mut progress, &failure),
    }
}

fn run_stages(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
) -> Result<String, Failure> {
    recovery::check_all_reported(record)?;
    installation.check_not_cancelled()?;
    let service = check::run(installation)?;
    progress.set_containerd(installation, &service);
    check::kernel(installation)?;
    if installation.request.mode == ConfigMode::Preinstalled {
        return verify_preinstalled(installation, progress);
    }
    check::no_other_pending_change(installation, record)?;
    // A pending change is finished or rolled back first: containerd may be down because of it.
    if record.pending.is_none() {
        check::configuration(installation, &service)?;
    }
    let systemd_cgroup = check::driver(installation)? == PodCgroupDriver::Systemd;
    progress.containerd.systemd_cgroup = systemd_cgroup;
    // From here on the node has files that a removal has to know.
    change::save(installation, record)?;

    progress.enter(Stage::Artifact, "the node can be used");
    let placed = artifact::run(installation, record, systemd_cgroup)?;
    let desired = DesiredHandler {
        handler: installation.request.handler.clone(),
        launcher: placed.launcher.clone(),
        systemd_cgroup,
    };

    let result = format!("{}: {:?}", placed.installed.path, placed.change);
    progress.enter(Stage::Configure, &result);
    if record.pending.is_none() {
        installation.check_not_cancelled()?;
    }
    let configured = configure::run(installation, record, &service, &desired, &placed)?;
    progress
        .containerd
        .config_path
        .clone_from(&configured.active.config_path);

    progress.enter(Stage::Restart, &list(&configured.written));
    restart_containerd(installation, record, progress, &service, &configured)?;

    progress.enter(Stage::Verify, &format!("{:?}", progress.restart));
    let driver = verify::cgroup_driver(systemd_cgroup);
    verify::run(installation, &desired.handler, driver)?;
    record.active = Some(configured.active);
    record.pending = None;
    change::save(installation, record)?;

    progress.enter(Stage::Clean, "a guest ran");
    Ok(remove_unused(
        installation,
        progress,
        &desired,
        &placed.installed,
    ))
}

/// Runs a guest on the runtime of the node's image.
fn verify_preinstalled(
    installation: &Installation<'_>,
    progress: &mut Progress,
) -> Result<String, Failure> {
    let request = installation.request;
    progress.enter(Stage::Verify, "the node can be used");
    verify::run(installation, &request.handler, request.cgroup_driver)?;
    progress.log_result("a guest ran");
    Ok(format!(
        "the node's own runtime runs guests through handler {}",
        request.handler
    ))
}

/// Restarts containerd if it has not read its configuration. The restart can fail even without a
/// change of the files, so it is recorded and guarded too.
fn restart_containerd(
    installation: &Installation<'_>,
    record: &mut Record,
    progress: &mut Progress,
    service: &ContainerdService,
    done: &Configured,
) -> Result<(), Failure> {
    let expected = ExpectedHandler::Served(&done.active.desired.handler);
    let unit = service.unit.as_deref();
    if record.pending.is_none()
        && restart::is_needed(installation, unit, record.last_write, expected)?
    {
        installation.check_not_cancelled()?;
        let transition = Transition {
            verb: Verb::Install,
            handler: expected.handler(),
            tried: Some(done.active.clone()),
            files: &[],
            folders: &[],
        };
        change::begin(installation, record, service, transition)?;
    }
    progress.restart = restart::run(installation, unit, record.last_write, expected)?;
    Ok(())
}

/// Removes what is not used and returns the report's message. A file that stays is not a failure of
/// an installation that runs guests: the next one removes it.
fn remove_unused(
    installation: &Installation<'_>,
    progress: &Progress,
    desired: &DesiredHandler,
    installed: &Installed,
) -> String {
    let kept = NodePath::new(&installed.path).map_err(|error| Failure {
        reason: Reason::HostFiles,
        error: error.into(),
    });
    let message = format!(
        "handler {} runs guests on version {} in {}",
        desired.handler, installed.version, installed.path
    );
    match kept.and_then(|kept| clean::run(installation, &kept, &desired.launcher)) {
        Ok(removed) => {
            progress.log_result(&list(&removed));
            message
        }
        Err(failure) => {
            tracing::warn!(
                cause = failure.message(),
                "a former version stays until the next installation"
            );
            format!(
                "{message}; a former version stays until the next installation: {}",
                failure.message()
            )
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing to do".to_owned()
    } else {
        names.join(", ")
    }
}
