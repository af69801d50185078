//! A node on which an installer was started: waits for its Job, then records the result.

use installer_protocol::report::Retry;
use installer_protocol::{Outcome, Reason, Report};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::action::Action;
use super::candidate::{Candidate, Why};
use super::draft::set_reason;
use super::job_result::{record_job_end, without_report};
use super::observed::{Began, JobFacts, Start};
use super::open_job::{
    Withdrawal, is_current, record_start, record_withdrawal, withdraw, withdrawal,
};
use super::step::Step;
use super::timing::{
    JOB_MISSING, JobDeadline, MAX_ATTEMPTS, installer_timeout, job_deadline, next_attempt,
};
use crate::crd::Phase;

/// The state of a node after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// What was installed before.
    Previous,
    /// Nothing that is known to work.
    Nothing,
}

impl Step<'_, '_, '_> {
    pub(super) fn installing(&mut self) -> Option<Candidate> {
        let Some(job) = self.status.job.clone() else {
            // It was abandoned. The Jobs and pods that are left show whether it still runs.
            return self.begin(Why::Retry);
        };
        let observed = self.draft.observed;
        match observed.jobs.get(&job) {
            Some(JobFacts::Reported(report)) => self.handle_report(&job, report),
            facts if self.status.withdrawn => return self.after_withdrawal(&job, facts),
            None => self.create_job(job),
            Some(JobFacts::Running {
                created,
                template,
                start,
            }) => self.wait_for(&job, *created, template.as_ref(), start),
            Some(JobFacts::Ending) => self.wait_for_end(&job),
            Some(JobFacts::Lost { why, began }) => self.handle_loss(&job, why, *began),
        }
        None
    }

    /// Creates the Job that the node's object names: the operator stopped before it created it, it
    /// could not be created, or it was deleted.
    fn create_job(&mut self, job: String) {
        let is_wanted = self.status.target.as_ref() == Some(&self.target.hash);
        let Some(request) = self.target.install(self.node).ok().filter(|_| is_wanted) else {
            // The node is started again, with the present spec and under that name.
            return self.draft.abandon_installer(self.name, job);
        };
        let observed = self.draft.observed;
        match job_deadline(observed, self.status.since.as_ref(), None) {
            JobDeadline::At(end) => {
                self.draft.wake_at(end);
                self.draft.act(Action::StartInstaller {
                    job,
                    node: self.name.to_owned(),
                    request: Box::new(request),
                    timeout: installer_timeout(observed),
                });
            }
            JobDeadline::Passed(_) => self.handle_loss(&job, JOB_MISSING, Began::Perhaps),
        }
    }

    /// Waits for the end of an open Job.
    fn wait_for(
        &mut self,
        job: &str,
        created: Option<Timestamp>,
        template: Option<&String>,
        start: &Start,
    ) {
        let is_blocked = matches!(start, Start::Blocked(_));
        let is_current = || {
            self.target
                .install(self.node)
                .is_ok_and(|request| is_current(self.target, &request, template))
        };
        if is_blocked && !is_current() {
            record_start(self.draft, self.name, Phase::Installing, created, start);
            // The next attempt is for something else than what failed.
            return withdraw(self.draft, self.name, job, |status| status.attempts = 0);
        }
        match job_deadline(self.draft.observed, self.status.since.as_ref(), created) {
            JobDeadline::At(end) => {
                self.draft.wake_at(end);
                record_start(self.draft, self.name, Phase::Installing, created, start);
            }
            JobDeadline::Passed(_) if is_blocked => {
                record_start(self.draft, self.name, Phase::Installing, created, start);
                withdraw(self.draft, self.name, job, |_| {});
            }
            JobDeadline::Passed(why) => self.handle_loss(job, why, Began::Perhaps),
        }
    }

    /// Waits for the pod of a Job that was deleted.
    fn wait_for_end(&mut self, job: &str) {
        match job_deadline(self.draft.observed, self.status.since.as_ref(), None) {
            JobDeadline::At(end) => self.draft.wake_at(end),
            JobDeadline::Passed(why) => self.handle_loss(job, why, Began::Perhaps),
        }
    }

    /// Continues once a withdrawn Job is gone: with another attempt, unless there were too many.
    fn after_withdrawal(&mut self, job: &str, facts: Option<&JobFacts>) -> Option<Candidate> {
        let Withdrawal::Done(began) = withdrawal(self.draft, self.name, job, facts) else {
            return None;
        };
        if self.status.attempts >= MAX_ATTEMPTS
            && self.status.target.as_ref() == Some(&self.target.hash)
        {
            if began == Began::Perhaps {
                self.unlabel();
            }
            self.set(Phase::Failed, |status| {
                record_withdrawal(status, began);
                status.retry_at = None;
                if began == Began::Perhaps {
                    status.installed = None;
                }
            });
            return None;
        }
        self.set(Phase::Installing, |status| record_withdrawal(status, began));
        self.reload_status();
        self.begin(Why::Retry)
    }

    fn handle_report(&mut self, job: &str, report: &Report) {
        match report.outcome {
            Outcome::Installed => self.handle_success(report),
            Outcome::Refused
                if report.reason == Reason::Unsupported && self.status.installed.is_none() =>
            {
                // The installer refused the target of its request, even if the spec has changed.
                self.set(Phase::Unsupported, |status| {
                    record_job_end(status, Some(report));
                    set_reason(status, report.reason, report.message.clone());
                });
            }
            Outcome::Refused => self.handle_failure(report, Kept::Previous),
            Outcome::RolledBack => {
                let kept = if report.installed.is_some() {
                    Kept::Previous
                } else {
                    Kept::Nothing
                };
                self.handle_failure(report, kept);
            }
            // An installation that reports a removal leaves the node as unknown as a failed
            // rollback.
            Outcome::Broken | Outcome::Removed => self.handle_failure(report, Kept::Nothing),
        }
        self.draft.delete_job(self.name, job);
    }

    fn handle_success(&mut self, report: &Report) {
        let boot = self.node.boot_id.clone();
        self.set(Phase::Verifying, |status| {
            record_job_end(status, Some(report));
            status.installed.clone_from(&status.target);
            status.boot_id = Some(boot);
            set_reason(status, report.reason, report.message.clone());
        });
        self.reload_status();
        // The handler may be listed already: after a reboot nothing changes.
        self.verifying();
    }

    fn handle_failure(&mut self, report: &Report, kept: Kept) {
        let attempts = self.status.attempts;
        let retry_at = match report.reason.retry() {
            Retry::Later if attempts < MAX_ATTEMPTS => {
                Some(next_attempt(self.draft.observed, attempts))
            }
            _ => None,
        };
        if kept == Kept::Nothing {
            self.unlabel();
        }
        self.set(Phase::Failed, |status| {
            record_job_end(status, Some(report));
            if kept == Kept::Nothing {
                status.installed = None;
            }
            status.retry_at = retry_at.map(Time);
            set_reason(status, report.reason, report.message.clone());
        });
        self.draft.wake_for_retry(self.name);
    }

    /// Handles an installer that left no report.
    fn handle_loss(&mut self, job: &str, why: &str, began: Began) {
        let attempts = self.status.attempts;
        let retry_at =
            (attempts < MAX_ATTEMPTS).then(|| next_attempt(self.draft.observed, attempts));
        // If the container may have run, the state of the node is unknown, and no further
        // installer will check it.
        let is_unknown = retry_at.is_none() && began == Began::Perhaps;
        if is_unknown {
            self.unlabel();
        }
        self.set(Phase::Failed, |status| {
            record_job_end(status, None);
            status.untouched &= began == Began::Never;
            if is_unknown {
                status.installed = None;
            }
            status.retry_at = retry_at.map(Time);
            let (reason, message) = without_report(why, began);
            set_reason(status, reason, message);
        });
        self.draft.delete_job(self.name, job);
        self.draft.wake_for_retry(self.name);
    }
}
