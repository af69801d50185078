//! The removal: label off, then the runtime off the node, then the node's object.

use installer_protocol::{Outcome, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::action::Action;
use super::candidate::Candidate;
use super::draft::{Draft, set_reason};
use super::job_result::{record_unwanted_report, without_report};
use super::observed::{Began, JobFacts, NodeFacts, Start};
use super::open_job::{
    Withdrawal, is_current, record_start, record_withdrawal, withdraw, withdrawal,
};
use super::target::Target;
use super::timing::{JOB_MISSING, JobDeadline, installer_timeout, job_deadline, next_attempt};
use crate::crd::{Phase, WasmRuntimeNodeStatus};

/// The step of a node that shall not have the runtime and has a WasmRuntimeNode.
pub(super) fn step(
    draft: &mut Draft<'_>,
    target: &Target,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    if status.untouched && status.job.is_none() {
        // No installer's container has run there.
        draft.unlabel(name, node);
        draft.forget(name);
        return None;
    }
    match status.phase {
        // No installer was started there.
        Phase::Claimed | Phase::Unsupported => {
            draft.unlabel(name, node);
            draft.forget(name);
            None
        }
        // A running installer is not stopped: an interrupted one leaves the node in an unknown
        // state.
        Phase::Installing => {
            draft.unlabel(name, node);
            installing(draft, name, node, status)
        }
        Phase::Verifying | Phase::Ready | Phase::Failed => begin(draft, name, node),
        Phase::Removing => {
            draft.unlabel(name, node);
            removing(draft, target, name, node, status)
        }
    }
}

/// Keeps the label until the removal starts: a paused rollout leaves the node as it is.
fn begin(draft: &mut Draft<'_>, name: &str, node: &NodeFacts) -> Option<Candidate> {
    let candidate = Candidate::to_remove(name, node);
    if candidate.is_none() {
        draft.unlabel(name, node);
    }
    candidate
}

fn installing(
    draft: &mut Draft<'_>,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    let Some(job) = status.job.clone() else {
        return Candidate::to_remove(name, node);
    };
    let observed = draft.observed;
    match observed.jobs.get(&job) {
        Some(JobFacts::Reported(report)) => {
            draft.set(name, Phase::Installing, |status| {
                record_unwanted_report(status, report);
            });
            draft.delete_job(name, job);
            return Candidate::to_remove(name, node);
        }
        facts if status.withdrawn => return withdrawn(draft, name, node, &job, facts),
        Some(JobFacts::Running {
            created,
            start: start @ Start::Blocked(_),
            ..
        }) => {
            record_start(draft, name, Phase::Installing, *created, start);
            withdraw(draft, name, &job, |_| {});
        }
        Some(JobFacts::Lost {
            began: Began::Never,
            ..
        }) if status.untouched => {
            // In this order: a Job that is gone while the object exists would be created again.
            draft.act(Action::Forget {
                node: name.to_owned(),
            });
            draft.delete_job(name, job);
        }
        // A killed installer may take time to end, and one that is not observed may exist.
        Some(JobFacts::Lost { .. }) | None => draft.abandon_installer(name, job),
        Some(JobFacts::Running { .. } | JobFacts::Ending) => {
            let created = created(draft, &job);
            match job_deadline(draft.observed, status.since.as_ref(), created) {
                JobDeadline::At(end) => draft.wake_at(end),
                JobDeadline::Passed(_) => draft.abandon_installer(name, job),
            }
        }
    }
    None
}

/// Returns when an open Job was created.
fn created(draft: &Draft<'_>, job: &str) -> Option<Timestamp> {
    let facts = draft.observed.jobs.get(job)?;
    if let JobFacts::Running { created, .. } = facts {
        *created
    } else {
        None
    }
}

/// Continues once the withdrawn Job is gone.
fn withdrawn(
    draft: &mut Draft<'_>,
    name: &str,
    node: &NodeFacts,
    job: &str,
    facts: Option<&JobFacts>,
) -> Option<Candidate> {
    let Withdrawal::Done(began) = withdrawal(draft, name, job, facts) else {
        return None;
    };
    draft.set(name, Phase::Installing, |status| {
        record_withdrawal(status, began);
    });
    if draft.after.get(name).is_some_and(|status| status.untouched) {
        draft.forget(name);
        return None;
    }
    Candidate::to_remove(name, node)
}

fn removing(
    draft: &mut Draft<'_>,
    target: &Target,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    let Some(job) = status.job.clone() else {
        return wait_or_retry(draft, name, node, status);
    };
    match draft.observed.jobs.get(&job).cloned() {
        None => match job_deadline(draft.observed, status.since.as_ref(), None) {
            JobDeadline::At(end) => {
                draft.wake_at(end);
                let request = target.uninstall(node);
                let timeout = installer_timeout(draft.observed);
                draft.act(Action::StartInstaller {
                    job,
                    node: name.to_owned(),
                    request: Box::new(request),
                    timeout,
                });
            }
            JobDeadline::Passed(_) => {
                retry_later(draft, name, Reason::Interrupted, JOB_MISSING.to_owned());
                draft.delete_job(name, job);
            }
        },
        Some(JobFacts::Running {
            template,
            start: Start::Blocked(_),
            ..
        }) if !is_current(target, &target.uninstall(node), template.as_ref()) => {
            // The next Job has another template; it is created when the pod of this one is gone.
            draft.set(name, Phase::Removing, |status| {
                (status.job, status.retry_at) = (None, None);
            });
            draft.delete_job(name, job);
        }
        Some(JobFacts::Running { created, start, .. }) => {
            match job_deadline(draft.observed, status.since.as_ref(), created) {
                JobDeadline::At(end) => {
                    draft.wake_at(end);
                    record_start(draft, name, Phase::Removing, created, &start);
                }
                JobDeadline::Passed(why) => {
                    retry_later(draft, name, Reason::Interrupted, why.to_owned());
                    draft.delete_job(name, job);
                }
            }
        }
        Some(JobFacts::Reported(report)) if report.outcome == Outcome::Removed => {
            // In this order: a Job that is gone while the object exists would be created again.
            draft.act(Action::Forget {
                node: name.to_owned(),
            });
            draft.delete_job(name, job);
        }
        Some(JobFacts::Reported(report)) => {
            retry_later(draft, name, report.reason, report.message.clone());
            draft.delete_job(name, job);
        }
        Some(JobFacts::Ending) => match job_deadline(draft.observed, status.since.as_ref(), None) {
            JobDeadline::At(end) => draft.wake_at(end),
            JobDeadline::Passed(why) => {
                retry_later(draft, name, Reason::Interrupted, why.to_owned());
            }
        },
        Some(JobFacts::Lost { why, began }) => {
            let (reason, message) = without_report(&why, began);
            retry_later(draft, name, reason, message);
            draft.delete_job(name, job);
        }
    }
    None
}

fn wait_or_retry(
    draft: &mut Draft<'_>,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    match &status.retry_at {
        Some(Time(time)) if *time > draft.observed.now => {
            draft.wake_at(*time);
            None
        }
        _ => Candidate::to_remove(name, node),
    }
}

/// Schedules another attempt: a removal is retried until the node is clean. The status has the
/// reason in the meantime.
fn retry_later(draft: &mut Draft<'_>, name: &str, reason: Reason, message: String) {
    let observed = draft.observed;
    draft.set(name, Phase::Removing, |status| {
        let time = next_attempt(observed, status.attempts);
        status.job = None;
        status.retry_at = Some(Time(time));
        set_reason(status, reason, message);
    });
    draft.wake_for_retry(name);
}
