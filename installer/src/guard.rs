//! The guard: rolls a change back if the installer did not survive the restart of containerd and no
//! other installer came.
//!
//! The installer starts it before the first byte of containerd's configuration is changed
//! ([`crate::guard_unit`]). It then polls once a second:
//!
//! ```text
//! the attempt is not pending in the record ───────────────► it ends: nothing to do
//! another process holds the lock ─────────────────────────► it waits
//! the lock is free and containerd answers,
//!                          for UNFINISHED_TIMEOUT ────────► it rolls back: no installer came
//! the lock is free and containerd does not answer,
//!                          for UNANSWERED_TIMEOUT ────────► it rolls back: no installer can come
//! the rollback or the poll failed ────────────────────────► it tries again after a backoff,
//!                                                           until WATCH_TIMEOUT is over
//! ```
//!
//! It reads the record and rolls back only under the lock, so it never interferes with an
//! installer. If containerd is down, no pod can start and only the guard can act: a failure does
//! not end it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use installer_protocol::{Reason, Stage};

use crate::guard_unit::WATCH_TIMEOUT;
use crate::installation::{Installation, TargetNode};
use crate::node_root::LockError;
use crate::record::{FailureRecord, Record};
use crate::rollback::{self, RollbackBy};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time without an installer while containerd answers: the operator needs it to start
/// another one.
const UNFINISHED_TIMEOUT: Duration = Duration::from_mins(2);
/// Maximum time without an installer while containerd does not answer.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time for one answer of containerd.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Backoff after the first failure; doubled with each further one.
const MIN_BACKOFF: Duration = Duration::from_secs(30);
const MAX_BACKOFF: Duration = Duration::from_mins(5);

/// The result of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardEnd {
    /// The attempt was finished by an installer.
    NothingToDo,
    /// The node is as it was before the attempt.
    RolledBack,
    /// Its time is over: an installer held the lock all the time, or no rollback succeeded.
    TimedOut,
}

/// The times, by the machine's clock, since which the node is without an installer.
#[derive(Debug, Default)]
struct IdleTimes {
    /// No process holds the lock.
    unlocked: Option<Duration>,
    /// And containerd does not answer.
    unanswered: Option<Duration>,
}

/// The cause of a rollback by the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RollbackCause {
    /// No installer came to finish the change.
    Unfinished,
    /// containerd does not answer, so no installer can come.
    Unanswered,
}

impl IdleTimes {
    /// Returns the cause of a rollback that is due at `now`.
    fn due(&self, now: Duration) -> Option<RollbackCause> {
        let is_over = |since: Option<Duration>, timeout| {
            since.is_some_and(|since| now.saturating_sub(since) >= timeout)
        };
        if is_over(self.unanswered, UNANSWERED_TIMEOUT) {
            Some(RollbackCause::Unanswered)
        } else {
            is_over(self.unlocked, UNFINISHED_TIMEOUT).then_some(RollbackCause::Unfinished)
        }
    }
}

/// Watches `attempt` until it is finished or the guard's time is over.
pub fn watch(installation: &Installation<'_>, attempt: &str) -> GuardEnd {
    let machine = installation.node.machine;
    let began = machine.elapsed();
    let (mut idle, mut backoff) = (IdleTimes::default(), MIN_BACKOFF);
    while machine.elapsed().saturating_sub(began) < WATCH_TIMEOUT {
        match poll(installation, attempt, &mut idle) {
            Ok(Some(end)) => return end,
            Ok(None) => machine.pause(POLL_INTERVAL),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    retry_after_s = backoff.as_secs(),
                    "the node is not rolled back yet"
                );
                machine.pause(backoff);
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
    GuardEnd::TimedOut
}

/// Polls once and rolls back if that is due. Returns none if the guard has to poll again.
fn poll(
    installation: &Installation<'_>,
    attempt: &str,
    idle: &mut IdleTimes,
) -> Result<Option<GuardEnd>> {
    let TargetNode { root, machine, .. } = installation.node;
    if pending(installation, attempt)?.is_none() {
        return Ok(Some(GuardEnd::NothingToDo));
    }
    match root.lock(&installation.paths.config_folder, Duration::ZERO) {
        Ok(lock) => drop(lock),
        Err(LockError::Held { .. }) => {
            *idle = IdleTimes::default();
            return Ok(None);
        }
        Err(error) => return Err(error).context("see whether an installer holds the lock"),
    }
    // Taken before the call: a containerd that does not answer uses all of ANSWER_TIMEOUT.
    let now = machine.elapsed();
    idle.unlocked.get_or_insert(now);
    if machine
        .served(&installation.paths.socket, ANSWER_TIMEOUT)
        .is_ok()
    {
        idle.unanswered = None;
    } else {
        idle.unanswered.get_or_insert(now);
    }
    let Some(cause) = idle.due(machine.elapsed()) else {
        return Ok(None);
    };
    roll_back(installation, attempt, cause)
}

/// Rolls back, unless an installer has taken the lock just now.
fn roll_back(
    installation: &Installation<'_>,
    attempt: &str,
    cause: RollbackCause,
) -> Result<Option<GuardEnd>> {
    let Ok(_lock) = installation
        .node
        .root
        .lock(&installation.paths.config_folder, Duration::ZERO)
    else {
        return Ok(None);
    };
    let Some(mut record) = pending(installation, attempt)? else {
        return Ok(Some(GuardEnd::NothingToDo));
    };
    let failure_record = record
        .pending
        .as_ref()
        .and_then(|pending| pending.failure_record.clone())
        .unwrap_or_else(|| failure_of(cause));
    tracing::warn!(cause = failure_record.message, "rolling back");
    match rollback::run(
        installation,
        &mut record,
        &failure_record,
        RollbackBy::Guard,
    ) {
        Ok(_) => Ok(Some(GuardEnd::RolledBack)),
        Err(failure) => Err(failure.error.context("roll back")),
    }
}

/// Returns the record if `attempt` is pending in it.
fn pending(installation: &Installation<'_>, attempt: &str) -> Result<Option<Record>> {
    let record = Record::load(installation.node.root, &installation.paths.record)?;
    Ok(record.filter(|record| {
        record
            .pending
            .as_ref()
            .is_some_and(|pending| pending.attempt == attempt)
    }))
}

/// Returns the failure that the next installer reports.
fn failure_of(cause: RollbackCause) -> FailureRecord {
    let (reason, message, timeout) = match cause {
        RollbackCause::Unfinished => {
            let message = "the installer ended before a guest ran on the changed configuration, \
                           and no other one finished it within";
            (Reason::Interrupted, message, UNFINISHED_TIMEOUT)
        }
        RollbackCause::Unanswered => {
            let message = "containerd did not answer after its configuration was changed, and the \
                           installer was gone, for";
            (Reason::ContainerdRestart, message, UNANSWERED_TIMEOUT)
        }
    };
    FailureRecord {
        stage: Stage::Restart,
        reason,
        message: format!(
            "{message} {} s: the guard on the node rolled the change back",
            timeout.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rollback_is_due_after_its_timeout_and_an_unanswered_containerd_counts_first() {
        let seconds = |text: Option<u64>| text.map(Duration::from_secs);
        for (unlocked, unanswered, now, due) in [
            (None, None, 1000, None),
            (Some(100), None, 219, None),
            (Some(100), None, 220, Some(RollbackCause::Unfinished)),
            (Some(100), Some(100), 129, None),
            (Some(100), Some(100), 130, Some(RollbackCause::Unanswered)),
            (Some(100), Some(210), 220, Some(RollbackCause::Unfinished)),
            (Some(100), Some(100), 220, Some(RollbackCause::Unanswered)),
        ] {
            let idle = IdleTimes {
                unlocked: seconds(unlocked),
                unanswered: seconds(unanswered),
            };
            assert_eq!(idle.due(Duration::from_secs(now)), due, "{idle:?} at {now}");
        }
    }

    /// The operator's bound of `rollout.nodeTimeoutSeconds` is read from the generated CRD.
    #[test]
    fn guard_watches_longer_than_the_longest_installer_runs() {
        let crd = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/wasmedge-operator/crds/wasmruntimes.yaml"
        );
        let crd = fs::read_to_string(crd).unwrap();
        let field = crd.split_once("nodeTimeoutSeconds:").unwrap().1;
        let maximum = field
            .lines()
            .find_map(|line| line.trim().strip_prefix("maximum: "))
            .unwrap();
        let longest = Duration::from_secs_f64(maximum.parse().unwrap());
        assert!(
            WATCH_TIMEOUT > longest + UNFINISHED_TIMEOUT + UNANSWERED_TIMEOUT,
            "{longest:?}"
        );
    }
}
