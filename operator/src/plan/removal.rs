//! The way back: label off, then the runtime off the node, then the node's object.

use installer_protocol::{Outcome, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::heard::without_report;
use super::node::{give_up, say, unlabel};
use super::pace::{Patience, UNMADE, after_now, delay, limit, patience};
use super::rollout::{Candidate, Why};
use super::waiting::{Withdrawal, fits, note_start, note_withdrawal, withdraw, withdrawal};
use super::{Action, Began, Draft, JobFacts, NodeFacts, Readiness, Start, Target, heard};
use crate::crd::{Phase, WasmRuntimeNodeStatus};

/// Lets go of a node that is gone, or that is to be left as it is.
pub(super) fn forget(draft: &mut Draft<'_>, name: &str) {
    let Some(status) = draft.after.get(name).cloned() else {
        return;
    };
    if let Some(job) = status.job {
        draft.act(Action::DeleteJob {
            node: Some(name.to_owned()),
            job,
        });
    }
    draft.act(Action::Forget {
        node: name.to_owned(),
    });
}

/// The step of a node that shall not have the runtime, and was claimed.
pub(super) fn step(
    draft: &mut Draft<'_>,
    target: &Target,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    if status.untouched && status.job.is_none() {
        // Every installer that was sent there ended before it started.
        unlabel(draft, name, node);
        forget(draft, name);
        return None;
    }
    match status.phase {
        // Nothing was begun there.
        Phase::Claimed | Phase::Unsupported => {
            unlabel(draft, name, node);
            forget(draft, name);
            None
        }
        // An installer that is at work is not stopped half way: nothing knows less of a node than
        // one that was.
        Phase::Installing => {
            unlabel(draft, name, node);
            installing(draft, name, node, status)
        }
        Phase::Verifying | Phase::Ready | Phase::Failed => begin(draft, name, node),
        Phase::Removing => {
            unlabel(draft, name, node);
            removing(draft, target, name, node, status)
        }
    }
}

/// The label goes when the removal begins: a rollout that is paused leaves the node as it is.
fn begin(draft: &mut Draft<'_>, name: &str, node: &NodeFacts) -> Option<Candidate> {
    let candidate = candidate(node, name);
    if candidate.is_none() {
        unlabel(draft, name, node);
    }
    candidate
}

fn candidate(node: &NodeFacts, name: &str) -> Option<Candidate> {
    (node.readiness == Readiness::Ready).then(|| Candidate {
        node: name.to_owned(),
        why: Why::Remove,
    })
}

fn installing(
    draft: &mut Draft<'_>,
    name: &str,
    node: &NodeFacts,
    status: &WasmRuntimeNodeStatus,
) -> Option<Candidate> {
    let Some(job) = status.job.clone() else {
        return candidate(node, name);
    };
    let observed = draft.observed;
    match observed.jobs.get(&job) {
        Some(JobFacts::Reported(report)) => {
            draft.set(name, Phase::Installing, |status| {
                heard::note(status, report);
            });
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
            return candidate(node, name);
        }
        facts if status.withdrawn => return withdrawn(draft, name, node, &job, facts),
        Some(JobFacts::Running {
            made,
            start: start @ Start::Blocked(_),
            ..
        }) => {
            note_start(draft, name, Phase::Installing, *made, start);
            withdraw(draft, name, &job, |_| {});
        }
        Some(JobFacts::Lost {
            began: Began::Never,
            ..
        }) if status.untouched => {
            // In this order: a Job that is gone while the object is there would be made again.
            draft.act(Action::Forget {
                node: name.to_owned(),
            });
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
        }
        // One that was killed may take its time to end, and one that nobody sees may be there.
        Some(JobFacts::Lost { .. }) | None => give_up(draft, name, job),
        Some(JobFacts::Running { .. } | JobFacts::Ending) => {
            let made = made(draft, &job);
            match patience(draft, status.since.as_ref(), made) {
                Patience::Until(end) => draft.wake_at(end),
                Patience::Over(_) => give_up(draft, name, job),
            }
        }
    }
    None
}

/// When an open Job was made.
fn made(draft: &Draft<'_>, job: &str) -> Option<Timestamp> {
    let facts = draft.observed.jobs.get(job)?;
    if let JobFacts::Running { made, .. } = facts {
        *made
    } else {
        None
    }
}

/// Goes on after an installer whose Job was taken back, when that is gone.
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
        note_withdrawal(status, began);
    });
    if draft.after.get(name).is_some_and(|status| status.untouched) {
        forget(draft, name);
        return None;
    }
    candidate(node, name)
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
        None => match patience(draft, status.since.as_ref(), None) {
            Patience::Until(end) => {
                draft.wake_at(end);
                let request = target.uninstall(node);
                let limit = limit(draft);
                draft.act(Action::StartInstaller {
                    job,
                    node: name.to_owned(),
                    request: Box::new(request),
                    limit,
                });
            }
            Patience::Over(_) => {
                later(draft, name, Reason::Interrupted, UNMADE.to_owned());
                draft.act(Action::DeleteJob {
                    node: Some(name.to_owned()),
                    job,
                });
            }
        },
        Some(JobFacts::Running {
            template,
            start: Start::Blocked(_),
            ..
        }) if !fits(target, &target.uninstall(node), template.as_ref()) => {
            // The next one is made of something else, when the pod of this one is gone.
            draft.set(name, Phase::Removing, |status| {
                (status.job, status.retry_at) = (None, None);
            });
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
        }
        Some(JobFacts::Running { made, start, .. }) => {
            match patience(draft, status.since.as_ref(), made) {
                Patience::Until(end) => {
                    draft.wake_at(end);
                    note_start(draft, name, Phase::Removing, made, &start);
                }
                Patience::Over(why) => {
                    later(draft, name, Reason::Interrupted, why.to_owned());
                    draft.act(Action::DeleteJob {
                        node: Some(name.to_owned()),
                        job,
                    });
                }
            }
        }
        Some(JobFacts::Reported(report)) if report.outcome == Outcome::Removed => {
            // In this order: a Job that is gone before it was obeyed would be made again.
            draft.act(Action::Forget {
                node: name.to_owned(),
            });
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
        }
        Some(JobFacts::Reported(report)) => {
            later(draft, name, report.reason, report.message.clone());
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
        }
        Some(JobFacts::Ending) => match patience(draft, status.since.as_ref(), None) {
            Patience::Until(end) => draft.wake_at(end),
            Patience::Over(why) => later(draft, name, Reason::Interrupted, why.to_owned()),
        },
        Some(JobFacts::Lost { why, began }) => {
            let (reason, message) = without_report(&why, began);
            later(draft, name, reason, message);
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job,
            });
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
        _ => candidate(node, name),
    }
}

/// A removal is never given up: the node is not clean before it succeeds. What keeps it is said in
/// the meantime.
fn later(draft: &mut Draft<'_>, name: &str, reason: Reason, message: String) {
    let now = draft.observed.now;
    draft.set(name, Phase::Removing, |status| {
        let time = after_now(now, delay(status.attempts));
        status.job = None;
        status.retry_at = Some(Time(time));
        say(status, reason, message);
    });
    if let Some(Time(time)) = draft
        .after
        .get(name)
        .and_then(|status| status.retry_at.clone())
    {
        draft.wake_at(time);
    }
}
