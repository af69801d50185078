//! An installer that has not ended: how long it is waited for, what keeps it from starting, and
//! when its Job is taken back.
//!
//! A Job whose pod cannot start may be taken back at any time: nothing has happened on its node.
//! That is known for sure only when the pod has ended without its container, so the node's object
//! keeps the Job's name until then.

use installer_protocol::{Reason, Request};
use k8s_openapi::jiff::Timestamp;

use super::node::{Step, say};
use super::pace::{ATTEMPTS, Patience, UNSTARTED, after_now, patience};
use super::rollout::{Candidate, Why};
use super::{Action, Began, Draft, JobFacts, Start, Target};
use crate::crd::{Phase, WasmRuntimeNodeStatus};

/// What became of a Job that was taken back.
pub(super) enum Withdrawal {
    /// Its pod has not ended.
    Open,
    /// It is gone.
    Done(Began),
}

/// Takes back a Job whose pod cannot start.
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
    draft.act(Action::DeleteJob {
        node: Some(name.to_owned()),
        job: job.to_owned(),
    });
}

/// What became of a Job that was taken back, as far as it is known now.
pub(super) fn withdrawal(
    draft: &mut Draft<'_>,
    name: &str,
    job: &str,
    facts: Option<&JobFacts>,
) -> Withdrawal {
    match facts {
        Some(JobFacts::Running { .. }) => {
            draft.act(Action::DeleteJob {
                node: Some(name.to_owned()),
                job: job.to_owned(),
            });
            Withdrawal::Open
        }
        Some(JobFacts::Ending) => Withdrawal::Open,
        Some(JobFacts::Lost { began, .. }) => Withdrawal::Done(*began),
        // The caller takes a report for what it is. Where nothing is known, the container may have
        // run.
        Some(JobFacts::Reported(_)) | None => Withdrawal::Done(Began::Perhaps),
    }
}

/// Notes that a Job is gone that was taken back.
pub(super) fn note_withdrawal(status: &mut WasmRuntimeNodeStatus, began: Began) {
    status.job = None;
    status.withdrawn = false;
    status.untouched &= began == Began::Never;
}

/// Whether a Job is made of what it would be made of now.
pub(super) fn fits(target: &Target, request: &Request, template: Option<&String>) -> bool {
    template == Some(&target.template(request))
}

/// Says what keeps an installer from starting, in a node that is in `phase`.
pub(super) fn note_start(
    draft: &mut Draft<'_>,
    name: &str,
    phase: Phase,
    made: Option<Timestamp>,
    start: &Start,
) {
    let status = draft.after.get(name).cloned().unwrap_or_default();
    let is_said = status.reason.as_deref() == Some(Reason::NotStarted.as_str());
    let message = match start {
        Start::Started if is_said => {
            draft.set(name, phase, |status| {
                (status.reason, status.message) = (None, None);
            });
            return;
        }
        Start::Started => return,
        // The kubelet waits for its next try, and what the last one failed at has been said.
        Start::Blocked(obstacle) if is_said && obstacle.reason == "ImagePullBackOff" => return,
        Start::Blocked(obstacle) => obstacle.to_string(),
        Start::Pending if is_said => return,
        Start::Pending => {
            let since = made
                .or_else(|| status.since.as_ref().map(|since| since.0))
                .unwrap_or(draft.observed.now);
            let late = after_now(since, UNSTARTED);
            if draft.observed.now < late {
                draft.wake_at(late);
                return;
            }
            format!(
                "its pod has not started for {} s, and Kubernetes gives no reason: a large image \
                 is still being pulled, or the \
                 node's kubelet does not answer",
                UNSTARTED.as_secs()
            )
        }
    };
    draft.set(name, phase, |status| {
        say(
            status,
            Reason::NotStarted,
            format!("the installer does not start: {message}"),
        );
    });
}

impl Step<'_, '_, '_> {
    /// Waits for an installer whose Job is open.
    pub(super) fn wait_for(
        &mut self,
        job: &str,
        made: Option<Timestamp>,
        template: Option<&String>,
        start: &Start,
    ) {
        let is_blocked = matches!(start, Start::Blocked(_));
        let fits = || {
            self.target
                .install(self.node)
                .is_ok_and(|request| fits(self.target, &request, template))
        };
        if is_blocked && !fits() {
            note_start(self.draft, self.name, Phase::Installing, made, start);
            // What failed was something else than what is tried next.
            return withdraw(self.draft, self.name, job, |status| status.attempts = 0);
        }
        match patience(self.draft, self.status.since.as_ref(), made) {
            Patience::Until(end) => {
                self.draft.wake_at(end);
                note_start(self.draft, self.name, Phase::Installing, made, start);
            }
            Patience::Over(_) if is_blocked => {
                note_start(self.draft, self.name, Phase::Installing, made, start);
                withdraw(self.draft, self.name, job, |_| {});
            }
            Patience::Over(why) => self.lost(job, why, Began::Perhaps),
        }
    }

    /// Waits for the pod of a Job that somebody deleted.
    pub(super) fn wait_for_end(&mut self, job: &str) {
        match patience(self.draft, self.status.since.as_ref(), None) {
            Patience::Until(end) => self.draft.wake_at(end),
            Patience::Over(why) => self.lost(job, why, Began::Perhaps),
        }
    }

    /// Goes on after a Job that was taken back, when it is gone: with another try, unless there
    /// were too many.
    pub(super) fn after_withdrawal(
        &mut self,
        job: &str,
        facts: Option<&JobFacts>,
    ) -> Option<Candidate> {
        let Withdrawal::Done(began) = withdrawal(self.draft, self.name, job, facts) else {
            return None;
        };
        if self.status.attempts >= ATTEMPTS
            && self.status.target.as_ref() == Some(&self.target.hash)
        {
            if began == Began::Perhaps {
                self.unlabel();
            }
            self.set(Phase::Failed, |status| {
                note_withdrawal(status, began);
                status.retry_at = None;
                if began == Began::Perhaps {
                    status.installed = None;
                }
            });
            return None;
        }
        self.set(Phase::Installing, |status| note_withdrawal(status, began));
        self.status = self.draft.after.get(self.name).cloned().unwrap_or_default();
        self.begin(Why::Retry)
    }
}
