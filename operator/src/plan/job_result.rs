//! The result of an ended installer Job, recorded in the node's status.

use installer_protocol::{Outcome, Reason, Report};

use super::observed::Began;
use crate::crd::WasmRuntimeNodeStatus;

/// Records the end of a Job, and its report if there is one.
pub(super) fn record_job_end(status: &mut WasmRuntimeNodeStatus, report: Option<&Report>) {
    status.job = None;
    status.withdrawn = false;
    let Some(report) = report else { return };
    status.untouched = false;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    status.version = report
        .installed
        .as_ref()
        .map(|installed| installed.version.clone());
    status.sha256 = report
        .installed
        .as_ref()
        .map(|installed| installed.sha256.clone());
    status.containerd = text(&report.containerd.version).or_else(|| status.containerd.take());
    status.config_path = text(&report.containerd.config_path).or_else(|| status.config_path.take());
}

/// Records the report of an installer on a node that shall not have the runtime: it may be wanted
/// again later.
pub(super) fn record_unwanted_report(status: &mut WasmRuntimeNodeStatus, report: &Report) {
    record_job_end(status, Some(report));
    match report.outcome {
        Outcome::Installed => status.installed.clone_from(&status.target),
        Outcome::Refused => {}
        Outcome::RolledBack if report.installed.is_some() => {}
        Outcome::RolledBack | Outcome::Broken | Outcome::Removed => status.installed = None,
    }
}

/// Returns the reason and message of an installer that ended without a report.
pub(super) fn without_report(why: &str, began: Began) -> (Reason, String) {
    match began {
        Began::Never => (
            Reason::NotStarted,
            format!("the installer did not start: {why}"),
        ),
        Began::Perhaps => (
            Reason::Interrupted,
            format!("the installer left no report: {why}"),
        ),
    }
}
