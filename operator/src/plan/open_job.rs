//! Installer Jobs that have not ended: what keeps the pod from starting, and the withdrawal of a
//! Job.
//!
//! If its pod cannot start, a Job may be withdrawn at any time: nothing has happened on its node.
//! That is certain only when the pod has ended without its container, so the node's object keeps
//! the Job's name until then.

use installer_protocol::{Reason, Request};
use k8s_openapi::jiff::Timestamp;

use super::draft::{Draft, set_reason};
use super::observed::{Began, JobFacts, Start};
use super::target::Target;
use super::timing::{POD_START_TIMEOUT, add};
use crate::crd::{Phase, WasmRuntimeNodeStatus};

/// The state of a Job that was withdrawn.
pub(super) enum Withdrawal {
    /// Its pod has not ended.
    Open,
    /// It is gone.
    Done(Began),
}

/// Withdraws a Job, because its pod cannot start.
pub(super) fn withdraw(
    draft: &mut Draft<'_>,
    name: &str,
    job: &str,
    change: impl FnOnce(&mut WasmRuntimeNodeStatus),
) {
    draft.set(name, Phase::Installing, |status| {
        status.withdrawn = true;
        change(status);
    });
    draft.delete_job(name, job);
}

/// Returns the state of a Job that was withdrawn, and deletes it again if it still runs.
pub(super) fn withdrawal(
    draft: &mut Draft<'_>,
    name: &str,
    job: &str,
    facts: Option<&JobFacts>,
) -> Withdrawal {
    match facts {
        Some(JobFacts::Running { .. }) => {
            draft.delete_job(name, job);
            Withdrawal::Open
        }
        Some(JobFacts::Ending) => Withdrawal::Open,
        Some(JobFacts::Lost { began, .. }) => Withdrawal::Done(*began),
        // The caller handles reports. Without any facts, the container may have run.
        Some(JobFacts::Reported(_)) | None => Withdrawal::Done(Began::Perhaps),
    }
}

/// Records that a withdrawn Job is gone.
pub(super) fn record_withdrawal(status: &mut WasmRuntimeNodeStatus, began: Began) {
    status.job = None;
    status.withdrawn = false;
    status.untouched &= began == Began::Never;
}

/// Whether a Job has the template that it would be created with now.
pub(super) fn is_current(target: &Target, request: &Request, template: Option<&String>) -> bool {
    template == Some(&target.template(request))
}

/// Records what keeps an installer's pod from starting, on a node that is in `phase`.
pub(super) fn record_start(
    draft: &mut Draft<'_>,
    name: &str,
    phase: Phase,
    created: Option<Timestamp>,
    start: &Start,
) {
    let status = draft.after.get(name).cloned().unwrap_or_default();
    let is_recorded = status.reason.as_deref() == Some(Reason::NotStarted.as_str());
    let message = match start {
        Start::Started if is_recorded => {
            draft.set(name, phase, |status| {
                (status.reason, status.message) = (None, None);
            });
            return;
        }
        Start::Started => return,
        // The kubelet waits for its next attempt; the error of the last one is recorded already.
        Start::Blocked(obstacle) if is_recorded && obstacle.reason == "ImagePullBackOff" => return,
        Start::Blocked(obstacle) => obstacle.to_string(),
        Start::Pending if is_recorded => return,
        Start::Pending => {
            let since = created
                .or_else(|| status.since.as_ref().map(|since| since.0))
                .unwrap_or(draft.observed.now);
            let late = add(since, POD_START_TIMEOUT);
            if draft.observed.now < late {
                draft.wake_at(late);
                return;
            }
            format!(
                "its pod has not started for {} s, and Kubernetes gives no reason: a large image \
                 is still being pulled, or the node's kubelet does not answer",
                POD_START_TIMEOUT.as_secs()
            )
        }
    };
    draft.set(name, phase, |status| {
        set_reason(
            status,
            Reason::NotStarted,
            format!("the installer does not start: {message}"),
        );
    });
}
