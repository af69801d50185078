//! What the end of an installer leads to: what it reported, or that it left no report.

use installer_protocol::report::Retry;
use installer_protocol::{Outcome, Reason, Report};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::node::{Step, say};
use super::pace::{ATTEMPTS, after_now, delay};
use super::{Action, Began};
use crate::crd::{Phase, WasmRuntimeNodeStatus};

/// What a node has after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// What it had before.
    AsItWas,
    /// Nothing that works.
    Nothing,
}

impl Step<'_, '_, '_> {
    pub(super) fn hear(&mut self, job: &str, report: &Report) {
        match report.outcome {
            Outcome::Installed => self.installed(report),
            Outcome::Refused
                if report.reason == Reason::Unsupported && self.status.installed.is_none() =>
            {
                // What was refused is what the installer was sent, whatever the spec says by now.
                self.set(Phase::Unsupported, |status| {
                    end_of_job(status, Some(report));
                    say(status, report.reason, report.message.clone());
                });
            }
            Outcome::Refused => self.fail(report, Kept::AsItWas),
            Outcome::RolledBack => {
                let kept = if report.installed.is_some() {
                    Kept::AsItWas
                } else {
                    Kept::Nothing
                };
                self.fail(report, kept);
            }
            // An installation that removes is none; what is there now is as unknown as after a
            // failure to go back.
            Outcome::Broken | Outcome::Removed => self.fail(report, Kept::Nothing),
        }
        self.draft.act(Action::DeleteJob {
            node: Some(self.name.to_owned()),
            job: job.to_owned(),
        });
    }

    fn installed(&mut self, report: &Report) {
        let boot = self.node.boot_id.clone();
        self.set(Phase::Verifying, |status| {
            end_of_job(status, Some(report));
            status.installed.clone_from(&status.target);
            status.boot_id = Some(boot);
            say(status, report.reason, report.message.clone());
        });
        self.status = self.draft.after.get(self.name).cloned().unwrap_or_default();
        // The cluster may know of the handler already: after a reboot nothing changes.
        self.verifying();
    }

    fn fail(&mut self, report: &Report, kept: Kept) {
        let attempts = self.status.attempts;
        let retry_at = match report.reason.retry() {
            Retry::Later if attempts < ATTEMPTS => {
                Some(after_now(self.draft.observed.now, delay(attempts)))
            }
            _ => None,
        };
        if kept == Kept::Nothing {
            self.unlabel();
        }
        self.set(Phase::Failed, |status| {
            end_of_job(status, Some(report));
            if kept == Kept::Nothing {
                status.installed = None;
            }
            status.retry_at = retry_at.map(Time);
            say(status, report.reason, report.message.clone());
        });
        self.wake_for_retry();
    }

    pub(super) fn lost(&mut self, job: &str, why: &str, began: Began) {
        let attempts = self.status.attempts;
        let retry_at =
            (attempts < ATTEMPTS).then(|| after_now(self.draft.observed.now, delay(attempts)));
        // If a container may have run, what is on the node is unknown, and no further installer
        // will look.
        let is_unknown = retry_at.is_none() && began == Began::Perhaps;
        if is_unknown {
            self.unlabel();
        }
        self.set(Phase::Failed, |status| {
            end_of_job(status, None);
            status.untouched &= began == Began::Never;
            if is_unknown {
                status.installed = None;
            }
            status.retry_at = retry_at.map(Time);
            let (reason, message) = without_report(why, began);
            say(status, reason, message);
        });
        self.draft.act(Action::DeleteJob {
            node: Some(self.name.to_owned()),
            job: job.to_owned(),
        });
        self.wake_for_retry();
    }
}

/// Notes what a node has after an installer that nobody waits for any more: the node may be wanted
/// again.
pub(super) fn note(status: &mut WasmRuntimeNodeStatus, report: &Report) {
    end_of_job(status, Some(report));
    match report.outcome {
        Outcome::Installed => status.installed.clone_from(&status.target),
        Outcome::Refused => {}
        Outcome::RolledBack if report.installed.is_some() => {}
        Outcome::RolledBack | Outcome::Broken | Outcome::Removed => status.installed = None,
    }
}

/// What is said of an installer that ended without a report.
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

/// Notes what an ended Job left.
fn end_of_job(status: &mut WasmRuntimeNodeStatus, report: Option<&Report>) {
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
    status.containerd = text(&report.host.containerd).or_else(|| status.containerd.take());
    status.config_path = text(&report.host.config_path).or_else(|| status.config_path.take());
}
